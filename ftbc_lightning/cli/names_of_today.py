"""Commands and configurations of earlier versions: accepted, with one line for each new name."""

import sys
from collections.abc import Sequence
from typing import Any

from jsonargparse import get_loader, set_loader

from ftbc_lightning.files.old_names import in_configuration, in_words


def names_of_today(words: Sequence[str]) -> list[str]:
    """The words of a command with today's option names; from here on files are read so too.

    Each old name is told once, on standard error.
    """
    said: set[str] = set()

    def told(old: str, new: str) -> None:
        if old not in said:
            said.add(old)
            print(f"Note: {old} is called {new} now.", file=sys.stderr)

    def load(text: str) -> Any:
        return in_configuration(plain(text), told)

    plain = getattr(get_loader("yaml"), "before", get_loader("yaml"))
    load.before = plain  # type: ignore[attr-defined]
    set_loader("yaml", load)
    return in_words(words, told)
