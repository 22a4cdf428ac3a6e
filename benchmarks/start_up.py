"""How long commands take to begin, beside the imports of torch and of Lightning.

    python benchmarks/start_up.py [--repeats 5]

runs each in a process of its own, all in turn, and prints medians of the seconds and of the ratios
of what was measured side by side. `report` and `export` work on a small run of the tests.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from measuring import interleaved, print_machine, print_table, ratio

RUN = Path(__file__).parent.parent / "tests" / "fixtures" / "run_of_0_1_0"
TORCH, LIGHTNING = "import torch", "import lightning.pytorch.cli"
HEADER = ("command", "seconds", f"/ {TORCH}", f"/ {LIGHTNING}")


def process(*words: str) -> Callable[[], object]:
    """One Python process, whose output is not shown."""
    return lambda: subprocess.run([sys.executable, *words], capture_output=True, check=True)


def sides(run: Path) -> dict[str, Callable[[], object]]:
    """The two imports and the commands, by what is printed of them."""
    commands = {
        "ftbc --help": ("--help",),
        "ftbc report --help": ("report", "--help"),
        "ftbc report RUN": ("report", str(run)),
        "ftbc export --help": ("export", "--help"),
        "ftbc export --ckpt_path RUN/snn.ckpt": ("export", "--ckpt_path", str(run / "snn.ckpt")),
        "ftbc dashboard --help": ("dashboard", "--help"),
        "ftbc fit --help": ("fit", "--help"),
    }
    imports = {code: process("-c", code) for code in (TORCH, LIGHTNING)}
    module = ("-m", "ftbc_lightning")
    return imports | {name: process(*module, *words) for name, words in commands.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    print_machine()
    with tempfile.TemporaryDirectory() as folder:
        run = shutil.copytree(RUN, Path(folder) / "run")
        found = interleaved(sides(run), asked.repeats)
    rows = []
    for name, seconds in found.items():
        against = (f"{ratio(seconds, found[base]):.2f}" for base in (TORCH, LIGHTNING))
        rows.append((name, f"{statistics.median(seconds):.2f}", *against))
    print_table(HEADER, rows)


if __name__ == "__main__":
    main()
