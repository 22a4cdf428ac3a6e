"""The command line."""

from ftbc_lightning.cli.command_line import FTBCCLI, main, run

__all__ = ["FTBCCLI", "main", "run"]
