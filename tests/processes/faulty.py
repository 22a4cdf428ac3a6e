"""`ftbc` with a fault in one place: `python -m tests.processes.faulty FAULT PLACE -- arguments`.

FAULT is kill (signal 9), interrupt (Ctrl-C), full (no space on the device) or user (a `UserError`),
with `@N` for the N-th time that the place is reached and `#R` for the process of rank R alone.
PLACE is `module:attribute`, a function that is called in the middle of what is to fail.
"""

import errno
import importlib
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from ftbc_lightning.cli import main
from ftbc_lightning.errors import UserError


def strike(fault: str) -> None:
    """Let the fault happen."""
    if fault == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "interrupt":
        raise KeyboardInterrupt
    if fault == "full":
        raise OSError(errno.ENOSPC, "No space left on device")
    if fault == "user":
        raise UserError("Sample 7 is broken.")


def arm(place: str, fault: str) -> None:
    """Wrap a function so that the fault happens when it has been called."""
    fault, _, rank = fault.partition("#")
    fault, _, number = fault.partition("@")
    if rank and rank != os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")):
        return
    path, _, attribute = place.partition(":")
    *owners, name = attribute.split(".")
    owner: Any = importlib.import_module(path)
    for part in owners:
        owner = getattr(owner, part)
    original: Callable[..., Any] = getattr(owner, name)
    calls = 0

    def struck(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == int(number or 1):
            strike(fault)
        return original(*args, **kwargs)

    setattr(owner, name, struck)


if __name__ == "__main__":
    arm(sys.argv[2], sys.argv[1])
    sys.exit(main(sys.argv[4:]))
