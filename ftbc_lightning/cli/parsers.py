"""The parser of every subcommand, for pages and tests that describe the command line."""

from typing import Any, NoReturn

from jsonargparse import ArgumentParser

from ftbc_lightning.cli.command_line import FTBCCLI, run
from ftbc_lightning.cli.file_subcommands import FILE_SUBCOMMANDS, parser_of


class _Built(Exception):
    """Ends a program as soon as its parsers are there."""

    def __init__(self, parsers: dict[str, ArgumentParser]) -> None:
        self.parsers = parsers


class _ParsersAlone(FTBCCLI):
    def parse_arguments(self, parser: Any, args: Any) -> NoReturn:
        raise _Built(dict(self._subcommand_parsers))


def parsers() -> dict[str, ArgumentParser]:
    """The parser of every subcommand by its name; nothing is parsed and nothing is run."""
    try:
        run([], program=_ParsersAlone)
    except _Built as built:
        found = built.parsers
    for name in FILE_SUBCOMMANDS:
        found[name] = parser_of(name)
    return found
