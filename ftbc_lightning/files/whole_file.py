"""Write a file so that no half of it is ever under its name."""

import os
import platform
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ftbc_lightning.errors import UserError

TORCHS_WRITER = "inline_container"
"""Part of what torch says where it cannot write a file."""

WRITING_FAILED = re.compile(rf"{TORCHS_WRITER}|I/O error|[Nn]o space left|[Uu]nable to write")
"""What torch, safetensors and HDF5 say where a file cannot be written."""

MARK = ".being-written."
"""In the name of a file that is not whole yet."""


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
    beside = beside_of(path)
    remove_leftovers(path.parent, path.name)
    try:
        write(beside)
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        beside.replace(path)
    except Exception as error:
        if not _is_of_the_disk(error):
            raise
        raise UserError(
            f"{path} cannot be written ({_reason(error)}); what was there before is "
            "intact. Make room, or give another folder with --trainer.default_root_dir."
        ) from error
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
    return path


def _is_of_the_disk(error: Exception) -> bool:
    """Whether a file could not be written; libraries report that in their own ways."""
    return isinstance(error, OSError) or WRITING_FAILED.search(str(error)) is not None


def _reason(error: Exception) -> str:
    """Why, in few words; torch names no more than a line of its own source."""
    if TORCHS_WRITER in str(error):
        return "no space left, or the device failed"
    return getattr(error, "strerror", None) or str(error).splitlines()[0]


def make_folder(folder: Path) -> None:
    """Make a folder and those above it.

    Raises:
        UserError: It cannot be made: no permission, or a file has the name.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"The folder {folder} cannot be made ({error.strerror}); give another place."
        ) from error


def remove_leftovers(folder: Path, name: str | None = None) -> list[Path]:
    """Delete what killed processes of this machine had half written; returns what it was.

    Args:
        folder: Where to look; folders in it are left alone.
        name: Of the file that was being written; any if None.
    """
    removed = []
    by = f"{MARK}{_machine()}."
    for path in folder.glob(f".*{by}*"):
        match = re.fullmatch(rf"\.(.+){re.escape(by)}(\d+)(\.[^.]+)?", path.name)
        if match and name in (None, match[1]) and path.is_file() and not _runs(int(match[2])):
            path.unlink(missing_ok=True)
            removed.append(path)
    return removed


def beside_of(path: Path) -> Path:
    """Where a file is written before it takes its name: it tells by whom.

    The suffix stays the last part, because libraries choose the format by it.
    """
    return path.with_name(f".{path.name}{MARK}{_machine()}.{os.getpid()}{path.suffix}")


def _machine() -> str:
    """This machine: numbers of processes say nothing about those of another one."""
    return re.sub(r"[^A-Za-z0-9-]", "-", platform.node())


def _runs(process: int) -> bool:
    """Say whether a process of this number runs on this machine."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
