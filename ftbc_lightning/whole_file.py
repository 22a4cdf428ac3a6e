"""Write a file so that no half of it is ever under its name."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from ftbc_lightning.errors import UserError


def write_whole(path: Path, write: Callable[[Path], object]) -> Path:
    """Write a file beside its place and rename it, so that no half of it is ever there.

    A process that is killed meanwhile leaves what it had written under another name, which
    `remove_leftovers` finds; the file itself stays as it was.

    Args:
        path: Where the file belongs.
        write: Writes it to the path that it is given.

    Returns:
        `path`.

    Raises:
        UserError: The file cannot be written: no space, no permission, no such folder.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}{path.suffix}")
    try:
        write(beside)
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror or error}); what was there before is "
            "intact. Make room, or give another folder with --trainer.default_root_dir."
        ) from error
    finally:
        if os.access(path.parent, os.W_OK):
            beside.unlink(missing_ok=True)
    return path


def remove_leftovers(folder: Path) -> list[Path]:
    """Delete what killed processes had half written into a folder; returns what it was."""
    removed = []
    for path in _half_written(folder):
        path.unlink(missing_ok=True)
        removed.append(path)
    return removed


def _half_written(folder: Path) -> Iterator[Path]:
    for path in folder.glob(".*.*"):
        parts = path.name.removesuffix(path.suffix).split(".")
        if path.is_file() and len(parts) > 3 and parts[-1].isdigit() and not _runs(int(parts[-1])):
            yield path


def _runs(process: int) -> bool:
    """Say whether a process of this number runs on this machine."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
