"""The one error a user can mend: it says what was found, where, and what to do."""


class UserError(Exception):
    """A mistake in data, network, settings or files that the user can correct.

    The command line prints its message as one line and exits with a code that is not 0; from
    Python it is an ordinary exception.
    """
