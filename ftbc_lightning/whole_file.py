"""Write a file so that no half of it is ever under its name."""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from ftbc_lightning.errors import UserError


def write_whole(path: Path, write: Callable[[Path], object]) -> Path:
    """Write a file beside its place and rename it, so that no half of it is ever there.

    A process that is killed meanwhile leaves what it had written under another name, and the file
    itself as it was; whoever writes the file next removes it.

    Args:
        path: Where the file belongs.
        write: Writes it to the path that it is given.

    Returns:
        `path`.

    Raises:
        UserError: The file cannot be written: no space, no permission, no such folder.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}{path.suffix}")
    remove_leftovers(path.parent, path.name)
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


def remove_leftovers(folder: Path, name: str | None = None) -> list[Path]:
    """Delete what killed processes had half written into a folder; returns what it was.

    Args:
        folder: Where to look; folders in it are left alone.
        name: Of the file that was being written; any if None.
    """
    removed = []
    for path in _half_written(folder):
        if name in (None, _being_written(path)):
            path.unlink(missing_ok=True)
            removed.append(path)
    return removed


def _half_written(folder: Path) -> Iterator[Path]:
    for path in folder.glob(".*.*"):
        process = path.stem.rpartition(".")[2]
        if path.is_file() and _being_written(path) and not _runs(int(process)):
            yield path


def _being_written(beside: Path) -> str | None:
    """The file that was being written beside its place.

    >>> _being_written(Path("run/.results.csv.123.csv")), _being_written(Path(".bashrc.123"))
    ('results.csv', None)
    """
    match = re.fullmatch(r"\.(.+(\.[^.]+))\.\d+\2", beside.name)
    return match and match[1]


def _runs(process: int) -> bool:
    """Say whether a process of this number runs on this machine."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
