"""The one error a user can mend: it says what was found, where, and what to do."""

from collections.abc import Collection


class UserError(Exception):
    """A mistake in data, network, settings or files that the user can correct.

    The command line prints its message as one line and exits with a code that is not 0; from
    Python it is an ordinary exception.
    """


def check_choice(name: str, value: str, choices: Collection[str]) -> None:
    """Raise `UserError` unless `value` is one of the choices.

    >>> check_choice("scope", "neuron", ("channel", "layer"))
    Traceback (most recent call last):
    ftbc_lightning.errors.UserError: scope is 'neuron'; choose one of channel, layer.
    """
    if value not in choices:
        raise UserError(f"{name} is {value!r}; choose one of {', '.join(choices)}.")
