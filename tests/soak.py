"""Fit, calibrate and compare again and again in one process: `python -m tests.soak --minutes 10`.

Prints for each round memory, tensors, open files and whether the results are those of the first
round; ends with exit code 1 if memory grew by more than 5 % after the third round, a tensor or a
file stayed, or a result changed.

Memory grows by 0.15 MB a round (torch.fx keeps the source of each graph that it compiles,
jsonargparse 0.07 MB), so that 5 % are reached after some 300 rounds.
"""

import argparse
import contextlib
import csv
import gc
import io
import os
import shutil
import tempfile
import time
from pathlib import Path

import torch

from ftbc_lightning.cli import main, run
from ftbc_lightning.training.module import SpikingClassifier
from tests.conftest import digits


def memory() -> float:
    """Resident memory in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def tensors() -> int:
    """How many are alive."""
    gc.collect()
    return sum(issubclass(type(found), torch.Tensor) for found in gc.get_objects())


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


Result = tuple[str, str, float]


def compared(folder: Path) -> list[Result]:
    """What `ftbc compare` has written, without the seconds and the draw."""
    with (folder / "compare" / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [(row["method"], row["timesteps"], float(row["accuracy"])) for row in rows]


def one_round(folder: Path) -> list[Result]:
    """A fit with calibration, a second calibration from its file and a comparison; the results."""
    found = []
    shutil.rmtree(folder / "compare", ignore_errors=True)
    file = ["--ckpt_path", f"{folder}/fit/ann.ckpt"]
    draws = ["--seeds", "2", "--samples", "100"]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        fitted = run(digits("fit", folder / "fit"))
        again = run([*digits("calibrate", folder / "again"), *file])
        assert main([*digits("compare", folder), *file, *draws]) == 0
    for cli in (fitted, again):
        assert isinstance(cli.model, SpikingClassifier)
        found += [(r.method, str(r.timesteps), r.accuracy) for r in cli.model.results]
    return found + compared(folder)


def soak() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    until = time.monotonic() + 60 * parser.parse_args().minutes
    rounds: list[tuple[float, int, int]] = []
    expected = None
    same = True
    with tempfile.TemporaryDirectory() as folder:
        while time.monotonic() < until or len(rounds) < 4:
            found = one_round(Path(folder))
            expected = expected or found
            same = same and found == expected
            rounds.append((memory(), tensors(), open_files()))
            print(
                "round {}: {:.1f} MB, {} tensors, {} files,".format(len(rounds), *rounds[-1]),
                f"results {'equal' if found == expected else 'DIFFER'}",
                flush=True,
            )
    used, alive, files = (last - third for last, third in zip(rounds[-1], rounds[2], strict=True))
    growth = used / rounds[2][0]
    print(
        f"{len(rounds)} rounds, since the third: memory {growth:+.1%} ({used:+.1f} MB), "
        f"tensors {alive:+d}, files {files:+d}"
    )
    return int(growth > 0.05 or alive > 0 or files > 0 or not same)


if __name__ == "__main__":
    raise SystemExit(soak())
