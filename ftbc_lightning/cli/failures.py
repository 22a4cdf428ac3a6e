"""Turn what went wrong into the one line that a person reads."""

import errno
import re
import sys

from ftbc_lightning.errors import UserError, user_error

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
    if type(error).__name__ == "MisconfigurationException":  # Lightning's
        return text
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        return (
            f"{error.strerror}{f': {error.filename}' if error.filename else ''}. Files that were "
            "finished are intact; make room, or give another folder with "
            "--trainer.default_root_dir."
        )
    if isinstance(error, PermissionError):
        return f"{error.strerror}: {error.filename}. Give a folder of your own."
    if _is_out_of_memory(error):
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


def _is_out_of_memory(error: BaseException) -> bool:
    from ftbc_lightning.snn.out_of_memory import is_out_of_memory  # brings torch along

    return is_out_of_memory(error)


def _of_another_process(error: BaseException) -> str | None:
    """The message of a `UserError` that torch brings from another process as text.

    From a loader's process it comes as a `UserError` again, whose message is the whole traceback.
    """
    marker = f"{UserError.__module__}.{UserError.__name__}: "
    text = str(error)
    return text.rpartition(marker)[2].strip() if marker in text else None


def prefix() -> str:
    """How a line begins, with the rank where there are several processes."""
    lightning = sys.modules.get("lightning.pytorch.utilities")
    rank = getattr(getattr(lightning, "rank_zero_only", None), "rank", 0)
    return f"ftbc: error (process {rank}): " if rank else "ftbc: error: "
