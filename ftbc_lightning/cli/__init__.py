"""The command line."""

from typing import TYPE_CHECKING, Any

from ftbc_lightning.cli.program import main

if TYPE_CHECKING:
    from ftbc_lightning.cli.command_line import FTBCCLI, run

__all__ = ["FTBCCLI", "main", "run"]


def __getattr__(name: str) -> Any:
    """Import what needs Lightning when it is first asked for."""
    if name not in ("FTBCCLI", "run"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ftbc_lightning.cli import command_line

    return getattr(command_line, name)
