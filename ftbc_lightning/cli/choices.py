"""What can be chosen by name: the help lists what the registries hold."""

from collections.abc import Collection, Mapping

from jsonargparse import ArgumentParser


def list_choices(parser: ArgumentParser, choices: Mapping[str, Collection[str]]) -> None:
    """Add the names that there are to the help of the options that take one.

    Args:
        parser: Of a subcommand.
        choices: By option the names, a registry for instance.
    """
    for action in parser._actions:
        if action.dest in choices and action.help is not None:
            action.help = f"{action.help} There are: {', '.join(choices[action.dest])}."
