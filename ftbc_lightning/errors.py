"""The one error a user can mend: it says what was found, where, and what to do."""

from collections.abc import Collection
from importlib import import_module
from typing import Any


class UserError(Exception):
    """A mistake in data, network, settings or files that the user can correct.

    The command line prints its message as one line and exits with a code that is not 0; from
    Python it is an ordinary exception.
    """


def user_error(error: BaseException | None) -> UserError | None:
    """The user's mistake that another exception was raised from."""
    while error is not None and not isinstance(error, UserError):
        error = error.__cause__
    return error


def check_choice(name: str, value: str, choices: Collection[str]) -> None:
    """Raise `UserError` unless `value` is one of the choices.

    >>> check_choice("scope", "neuron", ("channel", "layer"))
    Traceback (most recent call last):
    ftbc_lightning.errors.UserError: scope is 'neuron'; choose one of channel, layer.
    """
    if value not in choices:
        raise UserError(f"{name} is {value!r}; choose one of {', '.join(choices)}.")


def is_count(value: object) -> bool:
    """Say whether a value is a whole number from 1; True is none.

    >>> is_count(3), is_count(True), is_count(0)
    (True, False, False)
    """
    return type(value) is int and value > 0


def check_counts(**values: int) -> None:
    """Raise `UserError` unless every value is a whole number from 1.

    >>> check_counts(num_classes=10, width=0)
    Traceback (most recent call last):
    ftbc_lightning.errors.UserError: width is 0; it must be a whole number from 1.
    """
    for name, value in values.items():
        if not is_count(value):
            raise UserError(f"{name} is {value}; it must be a whole number from 1.")


def imported(module: str, who: str, extra: str) -> Any:
    """A package that is not always installed.

    Args:
        module: Its name, or that of a module in it.
        who: Needs it, for the message: "Networks of timm need".
        extra: The extra of this package that brings it.

    Raises:
        UserError: It is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise UserError(
            f"{who} {error.name}, which is not installed: pip install {module.partition('.')[0]} "
            f"(the extra `{extra}` of this package)."
        ) from error
