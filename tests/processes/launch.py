"""Start commands as processes, with a time limit."""

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.conftest import ROOT, digits

LIMIT = 240
"""Seconds that a command may take; a few would do on a machine of one's own."""

PROGRAM = [sys.executable, "-m", "ftbc_lightning"]


def command(subcommand: str, folder: Path, *more: str) -> list[str]:
    """A short command on the digits with one network at T = 2 for each method."""
    words = digits(subcommand, folder)
    words[words.index("--timesteps") + 1] = "2"
    words[words.index("--data.calibration_samples") + 1] = "101"
    words[words.index("--trainer.max_epochs") + 1] = "2"
    return [*words, *more]


def devices(number: int) -> list[str]:
    """Options for several processes on this machine."""
    return ["--trainer.devices", str(number), "--trainer.strategy", "ddp"]


def start(words: Sequence[str], **variables: str) -> subprocess.Popen[str]:
    """A process with output as text."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **variables}
    return subprocess.Popen(
        words,
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def finish(*processes: subprocess.Popen[str], limit: int = LIMIT) -> list[tuple[int, str]]:
    """Exit codes and output, within the time limit."""
    try:
        return [
            (process.wait(), output)
            for process in processes
            for output in [process.communicate(timeout=limit)[0]]
        ]
    finally:
        for process in processes:
            process.kill()


def ftbc(subcommand: str, folder: Path, *more: str) -> str:
    """Run a command that must succeed; returns its output."""
    [(code, output)] = finish(start([*PROGRAM, *command(subcommand, folder, *more)]))
    assert code == 0, output
    return output


def failing(fault: str, place: str, subcommand: str, folder: Path, *more: str) -> tuple[int, str]:
    """Run a command with a fault in one place; see `tests.processes.faulty`."""
    words = [sys.executable, "-m", "tests.processes.faulty", fault, place, "--"]
    return finish(start([*words, *command(subcommand, folder, *more)]))[0]


def free_port() -> int:
    """A port of the loopback device that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
