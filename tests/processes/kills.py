"""Kill commands in the middle of their work and in each write: `python -m tests.processes.kills`.

A write is struck when the new content lies beside the file and has not taken its name. The command
is then given again, and must end as if nothing had happened. Prints a table; exit code 1 if a file
was not whole, a half-written one stayed, or the second run ended otherwise.
"""

import argparse
import csv
import importlib
import itertools
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from PIL import Image

from ftbc_lightning.cli import main
from ftbc_lightning.files.whole_file import MARK
from tests.processes.faulty import arm
from tests.processes.launch import command

ONE = ("--calibration.methods", "[exact]")

SUBCOMMANDS: dict[str, Callable[[Path], list[str]]] = {
    "fit": lambda run: command("fit", run, *ONE),
    "calibrate": lambda run: command("calibrate", run, *ONE, "--ckpt_path", f"{run}/ann.ckpt"),
    "validate": lambda run: command("validate", run, "--ckpt_path", f"{run}/snn.ckpt"),
    "test": lambda run: command("test", run, "--ckpt_path", f"{run}/snn.ckpt"),
    "compare": lambda run: [
        *command("compare", run, *ONE, "--ckpt_path", f"{run}/ann.ckpt"),
        *("--seeds", "2", "--samples", "50"),
    ],
    "predict": lambda run: [
        *command("predict", run, "--ckpt_path", f"{run}/snn.ckpt"),
        *("--output", f"{run}/predictions.csv"),
    ],
    "diagnose": lambda run: command("diagnose", run, "--ckpt_path", f"{run}/snn.ckpt"),
    "export": lambda run: ["export", "--ckpt_path", f"{run}/snn.ckpt"],
    "report": lambda run: ["report", str(run)],
}
"""What each subcommand is given; `fit` begins without a run, the others with a finished one."""

WORK = {
    "first epoch": "ftbc_lightning.training.module:SpikingClassifier.training_step",
    "conversion": "ftbc_lightning.training.module:SpikingClassifier.convert",
    "threshold search": "ftbc_lightning.training.calibration_draw:choose_thresholds",
    "calibration": "ftbc_lightning.calibration.micro_batch:MicroBatch.current",
    "evaluation": "ftbc_lightning.training.module:SpikingClassifier.validation_step",
}
"""The middle of what is done between writes."""

SLOW_IMPORTS = ("ftbc_lightning.cli.command_line", "matplotlib.pyplot", "torchvision", "sklearn")
"""What takes each command seconds to import: the processes of this program share it."""


def run(words: Sequence[str], log: Path, prepare: Callable[[], object] = bool) -> bool:
    """Run a command in a process of its own; returns whether it was killed.

    Args:
        words: The command.
        log: Where its output goes.
        prepare: Called in the new process, to arrange for its death.

    Raises:
        RuntimeError: The command failed.
    """
    child = os.fork()
    if child == 0:
        with log.open("w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        prepare()
        os._exit(main(list(words)))
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return True
    if status:
        raise RuntimeError(f"{words} ended with {status}: {log.read_text()[-2000:]}")
    return False


def kill_in_write(place: int, told: Path) -> None:
    """Let this process die in its write number `place`, from 1, and tell of which file."""
    fsync, calls = os.fsync, 0

    def struck(file: int) -> None:
        nonlocal calls
        calls += 1
        if calls == place:
            name, mark, _ = Path(f"/proc/self/fd/{file}").readlink().name.partition(MARK)
            told.write_text(name[1:] if mark else "a test of the folder")
            os.kill(os.getpid(), signal.SIGKILL)
        fsync(file)

    os.fsync = struck


def kills(subcommand: str, told: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    """Ways to die, each with a name; `told` names the file of a write after the death."""
    for name, place in WORK.items():
        if subcommand == "fit" or (subcommand == "calibrate" and name != "first epoch"):
            yield name, partial(arm, place, "kill")
    for place in itertools.count(1):
        yield "write", partial(kill_in_write, place, told)


def broken(folder: Path) -> list[str]:
    """Files that are not whole; those that a killed process left beside their place count not."""
    readers: dict[str, Callable[[Path], object]] = {
        ".ckpt": lambda path: torch.load(path, weights_only=True)["state_dict"],
        ".png": lambda path: Image.open(path).load(),
        ".csv": _check_rows,
        ".json": lambda path: json.loads(path.read_text()),
        ".html": lambda path: path.read_text().rindex("</html>"),
    }
    found = []
    for path in whole_names(folder):
        try:
            readers.get(path.suffix, lambda path: path.read_bytes()[0])(path)
        except Exception as error:
            found.append(f"{path.name}: {error}")
    return found


def whole_names(folder: Path) -> list[Path]:
    """Files under their final names, but for the log, to which a line is added at a time."""
    paths = (path for path in folder.rglob("[!.]*") if path.is_file())
    return sorted(path for path in paths if path.name != "metrics.csv")


def _check_rows(path: Path) -> None:
    text = path.read_text()
    rows = list(csv.DictReader(text.splitlines()))
    assert text.endswith("\n")
    assert rows
    assert None not in {value for row in rows for value in row.values()}


def left_beside(folder: Path) -> list[str]:
    """Half-written files."""
    return [path.name for path in folder.rglob(".*") if path.is_file()]


def contents(folder: Path) -> dict[str, list[str]]:
    """The files of a run, but for logs, and of each table the rows without the seconds."""
    found = {}
    for path in whole_names(folder):
        if "logs" in path.parts:
            continue
        rows: list[dict[str, str]] = []
        if path.suffix == ".csv":
            with path.open() as file:
                rows = [{**row, "seconds": ""} for row in csv.DictReader(file)]
        found[str(path.relative_to(folder))] = [str(row) for row in rows]
    return found


@dataclass(frozen=True)
class Outcome:
    """What became of one run that was killed and given again.

    Attributes:
        subcommand: The command.
        where: In which work, or in the write of which file.
        broken: Files that were not whole after the kill, or after the second run.
        kept: How many files were there after it.
        left: Half-written files that the second run did not remove.
        equal: Whether the second run ended as one that was never killed.
    """

    subcommand: str
    where: str
    broken: list[str]
    kept: int
    left: list[str]
    equal: bool

    @property
    def good(self) -> bool:
        return self.equal and not self.broken and not self.left


def outcomes(subcommand: str, finished: Path, space: Path) -> Iterator[Outcome]:
    """Kill a subcommand in each place, and give it again.

    Args:
        subcommand: Of `SUBCOMMANDS`.
        finished: A finished run; `fit` begins without it.
        space: Where to work.
    """
    log, told, folder = space / "log.txt", space / "told.txt", space / "run"
    words = SUBCOMMANDS[subcommand](folder)

    def begin() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        if subcommand == "fit":
            folder.mkdir()
        else:
            shutil.copytree(finished, folder)

    begin()
    run(words, log)
    expected = contents(folder)
    for name, prepare in kills(subcommand, told):
        begin()
        if not run(words, log, prepare):
            break
        where = f"write of {told.read_text()}" if name == "write" else name
        bad, kept = broken(folder), len(whole_names(folder))
        goes_on = subcommand == "fit" and (folder / "ann.ckpt").exists()
        run([*words, "--ckpt_path", "last"] if goes_on else words, log)
        bad += broken(folder)
        yield Outcome(
            subcommand, where, bad, kept, left_beside(folder), contents(folder) == expected
        )


def table(subcommands: Sequence[str]) -> int:
    """Print a row for each death; returns how many did not end well."""
    torch.set_num_threads(1)
    for name in SLOW_IMPORTS:
        importlib.import_module(name)
    print("| command | killed in | files kept | not whole | left over | given again |")
    print("| --- | --- | --- | --- | --- | --- |")
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        space = Path(folder)
        for subcommand in ("fit", "test"):
            run(SUBCOMMANDS[subcommand](space / "finished"), space / "log.txt")
        for subcommand in subcommands:
            for found in outcomes(subcommand, space / "finished", space):
                bad += not found.good
                end = "same tables" if found.equal else "OTHER TABLES"
                cells = (found.kept, found.broken or "none", found.left or "none", end)
                print("|", " | ".join(map(str, (subcommand, found.where, *cells))), "|", flush=True)
    return bad


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "subcommands", nargs="*", metavar="SUBCOMMAND", help=f"of {', '.join(SUBCOMMANDS)}"
    )
    sys.exit(bool(table(parser.parse_args().subcommands or list(SUBCOMMANDS))))
