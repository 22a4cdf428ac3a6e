"""One run writes into a folder at a time: the second is told who the first is."""

import json
import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ftbc_lightning.errors import UserError
from ftbc_lightning.files.whole_file import write_whole

LOCK, HOLDER = ".ftbc.lock", ".ftbc.running.json"
"""The lock, which the operating system takes away from a process that dies; who holds it."""


@contextmanager
def folder_locked(folder: Path, command: Sequence[str]) -> Iterator[None]:
    """Hold a folder for this process, so that no other run mixes its files with ours.

    Args:
        folder: It is there and can be written.
        command: What a person has typed, for the message to the second.

    Raises:
        UserError: Another process holds it, or may still hold it on another machine.
    """
    lock = _acquired(folder)
    try:
        _refuse_other_machine(folder)
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        holder = {
            "machine": platform.node(),
            "process": os.getpid(),
            "since": now,
            "command": " ".join(["ftbc", *command]),
        }
        write_whole(folder / HOLDER, lambda path: path.write_text(json.dumps(holder, indent=2)))
        try:
            yield
        finally:
            for name in (HOLDER, LOCK):
                with suppress(OSError):
                    (folder / name).unlink(missing_ok=True)
    finally:
        lock.release()


def _acquired(folder: Path) -> FileLock:
    """The lock; taken again where another process has removed the file in between."""
    path = folder / LOCK
    while True:
        lock = FileLock(path, timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            raise UserError(_busy(folder, _holder(folder))) from error
        if path.exists():
            return lock
        lock.release()


def _refuse_other_machine(folder: Path) -> None:
    """A lock may not reach over machines; a job that SLURM starts again may be on another one."""
    holder = _holder(folder)
    restarted = os.environ.get("SLURM_RESTART_COUNT", "0") != "0"
    if holder and not restarted and holder.get("machine") != platform.node():
        raise UserError(f"{_busy(folder, holder)} If that run has ended, delete {folder / HOLDER}.")


def _holder(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / HOLDER).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _busy(folder: Path, holder: dict[str, Any]) -> str:
    who = "another run"
    if holder:
        who = (
            f"process {holder.get('process')} on {holder.get('machine')}, since "
            f"{holder.get('since')} ({holder.get('command')})"
        )
    return (
        f"{folder} is being written by {who}; wait for it, or write elsewhere with "
        "--trainer.default_root_dir."
    )
