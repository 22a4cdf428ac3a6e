"""Parsers whose errors are one line without the usage before them."""

from typing import NoReturn

from jsonargparse import ArgumentParser

from ftbc_lightning.errors import UserError, user_error


class OneLineErrors(ArgumentParser):
    """A parser that raises `UserError`."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise `UserError`; called by jsonargparse."""
        cause = user_error(ex)
        raise cause or UserError(
            f"{' '.join(message.split())} ({self.prog.split(' [')[0]} --help says more)"
        )
