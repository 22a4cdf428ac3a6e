"""Commands and configurations of earlier versions and other subcommands: accepted as they are."""

import inspect
import sys
from collections.abc import Sequence
from typing import Any

from jsonargparse import get_loader, set_loader

from ftbc_lightning.cli import timm_names
from ftbc_lightning.files.old_names import in_configuration, in_words
from ftbc_lightning.files.run_configuration import is_finetuning
from ftbc_lightning.training.subcommands.finetune import FineTuneTrainer

OWN = inspect.signature(FineTuneTrainer.finetune).parameters.values()
OF_FINETUNING = {"ckpt_path", *(one.name for one in OWN if one.kind is one.KEYWORD_ONLY)}
"""The settings of `ftbc finetune` alone."""


def names_of_today(words: Sequence[str]) -> list[str]:
    """The words of a command with today's option names, names of timm's networks written out.

    From here on files are read so too.

    Each old name is told once, on standard error. What a fine-tuning alone reads is left out of its
    configuration, unless it is given to `finetune` by name.
    """
    said: set[str] = set()
    named = any(word.partition("=")[0] in ("--config", "-c") for word in words)
    repeated = words[:1] == ["finetune"] and named

    def told(old: str, new: str) -> None:
        if old not in said:
            said.add(old)
            print(f"Note: {old} is called {new} now.", file=sys.stderr)

    def load(text: str) -> Any:
        content = timm_names.in_configuration(in_configuration(plain(text), told))
        if isinstance(content, dict) and is_finetuning(content) and not repeated:
            return {key: value for key, value in content.items() if key not in OF_FINETUNING}
        return content

    plain = getattr(get_loader("yaml"), "before", get_loader("yaml"))
    load.before = plain  # type: ignore[attr-defined]
    set_loader("yaml", load)
    return timm_names.in_words(in_words(words, told))
