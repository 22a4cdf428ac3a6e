"""What costs time on a GPU: work that is launched, and values that the host waits for."""

import collections
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import ftbc_lightning

PACKAGE = Path(ftbc_lightning.__file__).parent


@dataclass
class Counts:
    """What happened in a `with counting()` block.

    Attributes:
        launches: By operation, such as "aten.add.Tensor"; views are no work and left out.
        reads: By line of the package that asked for a value, such as "snn/network.py:80";
            "elsewhere" where no line of it did.
    """

    launches: collections.Counter[str] = field(default_factory=collections.Counter)
    reads: collections.Counter[str] = field(default_factory=collections.Counter)

    def reset(self) -> None:
        """Begin anew, for instance after a first run has filled caches."""
        self.launches.clear()
        self.reads.clear()


_open: list[Counts] = []


@contextmanager
def counting() -> Iterator[Counts]:
    """Count until the block ends; blocks may lie in one another."""
    counts = Counts()
    _open.append(counts)
    try:
        yield counts
    finally:
        _open.remove(counts)


def launched(operation: str) -> None:
    """The device was given work."""
    for counts in _open:
        counts.launches[operation] += 1


def read() -> None:
    """The host waited for a value."""
    if _open:
        line = _line_of_the_package()
        for counts in _open:
            counts.reads[line] += 1


def _line_of_the_package() -> str:
    frame = sys._getframe(1)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(PACKAGE):
            return f"{path.relative_to(PACKAGE).as_posix()}:{frame.f_lineno}"
        frame = frame.f_back
    return "elsewhere"
