"""Turn what went wrong into the one line that a person reads."""

import errno
import re

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities import rank_zero_only

from ftbc_lightning.errors import UserError
from ftbc_lightning.snn.out_of_memory import is_out_of_memory

LOST = re.compile(
    r"closed by peer|connection reset|timed out waiting|socket timeout|process group|gloo|nccl",
    re.IGNORECASE,
)
"""What the processes of a run say when one of them is gone."""


def explain(error: BaseException) -> str | None:
    """The message for a mistake or a mishap that a person can do something about.

    Args:
        error: What was raised.

    Returns:
        One line, or None where only a traceback helps.

    >>> explain(UserError("There is no file a.ckpt.")), explain(KeyError("a"))
    ('There is no file a.ckpt.', None)
    """
    mistake = _of_another_process(error) or user_error(error)
    if mistake is not None:
        return " ".join(str(mistake).split())
    text = " ".join(str(error).split())
    if isinstance(error, MisconfigurationException):
        return text
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        return (
            f"{error.strerror}{f': {error.filename}' if error.filename else ''}. Files that were "
            "finished are intact; make room, or give another folder with "
            "--trainer.default_root_dir."
        )
    if isinstance(error, PermissionError):
        return f"{error.strerror}: {error.filename}. Give a folder of your own."
    if is_out_of_memory(error):
        return (
            f"There is not enough memory ({text[:160] or 'on the host'}). In training and "
            "evaluation take a smaller --data.batch_size, in calibration fewer "
            "--data.calibration_samples, in both smaller --timesteps."
        )
    if isinstance(error, RuntimeError) and LOST.search(text):
        return (
            "Another process of this run has ended, so this one ends too; its own message says "
            "why. Files that were finished are intact."
        )
    return None


def user_error(error: BaseException | None) -> UserError | None:
    """The user's mistake that another exception was raised from."""
    while error is not None and not isinstance(error, UserError):
        error = error.__cause__
    return error


def _of_another_process(error: BaseException) -> str | None:
    """The message of a `UserError` that torch brings from another process as text.

    From a loader's process it comes as a `UserError` again, whose message is the whole traceback.
    """
    marker = f"{UserError.__module__}.{UserError.__name__}: "
    text = str(error)
    return text.rpartition(marker)[2].strip() if marker in text else None


def prefix() -> str:
    """How a line begins, with the rank where there are several processes."""
    rank = getattr(rank_zero_only, "rank", 0)
    return f"ftbc: error (process {rank}): " if rank else "ftbc: error: "
