"""Subcommands that read files and need neither a network nor data."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module

from jsonargparse import ArgumentParser, auto_parser

from ftbc_lightning.cli.choices import list_choices
from ftbc_lightning.cli.one_line_errors import OneLineErrors

PLACES = {
    "report": "ftbc_lightning.cli.report",
    "dashboard": "ftbc_lightning.cli.dashboard",
    "export": "ftbc_lightning.cli.export",
    "push": "ftbc_lightning.cli.push",
    "configs": "ftbc_lightning.cli.configurations",
}
"""The module of each, in which a function has the name of the subcommand, and its arguments."""


class _Functions(Mapping[str, Callable[..., None]]):
    """The functions by name, each imported when it is asked for."""

    def __getitem__(self, name: str) -> Callable[..., None]:
        function: Callable[..., None] = getattr(import_module(PLACES[name]), name)
        return function

    def __iter__(self) -> Iterator[str]:
        return iter(PLACES)

    def __len__(self) -> int:
        return len(PLACES)


FILE_SUBCOMMANDS = _Functions()


def parser_of(name: str) -> ArgumentParser:
    """The parser of a subcommand: its function's arguments, and what can be chosen by name."""
    function = FILE_SUBCOMMANDS[name]
    parser = auto_parser(
        function,
        parser_class=OneLineErrors,
        prog=f"ftbc {name}",
        description=str(function.__doc__).partition("\n\n")[0].replace("\n", " "),
    )
    if name == "export":
        from ftbc_lightning.interchange import FORMATS  # brings torch along

        list_choices(parser, {"format": FORMATS})
    return parser


def run_on_files(name: str, words: Sequence[str]) -> None:
    """Run a subcommand with the words behind its name."""
    parser = parser_of(name)
    given = parser.instantiate_classes(parser.parse_args(list(words))).as_dict()
    given.pop("config", None)
    FILE_SUBCOMMANDS[name](**given)
