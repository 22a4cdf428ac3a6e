"""Progress of the calibration: a bar in a terminal, a line for each network elsewhere."""

import sys
from types import TracebackType

from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class CalibrationProgress:
    """Shows which network is calibrated and how far it is.

    An instance is the `progress` argument of the functions in `ftbc_lightning.snn`.

    Args:
        networks: How many networks there are.

    Attributes:
        quiet: Show nothing; `--quiet` sets it for the process.
    """

    quiet = False

    def __init__(self, networks: int) -> None:
        self.networks = networks
        self.begun = 0
        self.console = Console(file=sys.stdout)
        self.silent = self.quiet or getattr(rank_zero_only, "rank", 0) != 0
        self.bars = Progress(
            TextColumn("{task.description:<34}"),
            BarColumn(),
            TextColumn("{task.completed:>4}/{task.total:<4}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=self.silent or not self.console.is_terminal,
        )

    def __enter__(self) -> "CalibrationProgress":
        self.bars.start()
        self.overall = self.bars.add_task("networks", total=self.networks)
        self.current = self.bars.add_task("", total=1)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self.bars.disable:  # before rich 15 even a disabled one ends with an empty line
            self.bars.stop()

    def begin(self, name: str) -> None:
        """Say that the next network is being calibrated."""
        self.begun += 1
        self.bars.update(self.overall, completed=self.begun - 1, description=f"networks: {name}")
        if not self.silent and not self.console.is_terminal:
            self.console.print(f"calibrating {self.begun}/{self.networks}: {name}")

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show how much of the present work is done."""
        self.bars.update(self.current, description=what, completed=done, total=total)
