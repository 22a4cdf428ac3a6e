"""What a person types: how it is read, and what a finished run adds to it."""

import inspect
import pydoc
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch.cli import LightningArgumentParser

from ftbc_lightning.cli.configurations import OPTIONS
from ftbc_lightning.cli.one_line_errors import OneLineErrors
from ftbc_lightning.errors import UserError
from ftbc_lightning.files.checkpoint import division_seed
from ftbc_lightning.files.run_configuration import run_configuration
from ftbc_lightning.training.pretrained import is_fetched

ON_A_RUN = ("validate", "test", "predict", "diagnose", "benchmark", "finetune")
"""Subcommands that work on the checkpoint of a finished run."""


def timesteps(value: Any) -> list[int]:
    """Read `4`, `1,2,4` or a list of numbers of time steps.

    >>> timesteps("1,2,4")
    [1, 2, 4]
    """
    if isinstance(value, str):
        value = value.strip("[] ").split(",")
    values = value if isinstance(value, list | tuple) else [value]
    try:
        return [int(number) for number in values]
    except OverflowError as error:  # an infinite number of steps
        raise ValueError(str(error)) from error


def without(words: Sequence[str], *options: str) -> list[str]:
    """The words of a command without the subcommand and without some options and their values.

    >>> without(["fit", "--config", "c.yaml", "--ckpt_path", "a", "--x=1"], "--ckpt_path", "--x")
    ['--config', 'c.yaml']
    """
    kept: list[str] = []
    dropped = False
    for word in words[1:]:
        if word.startswith("--"):
            dropped = word.split("=")[0] in options
        if not dropped:
            kept.append(shlex.quote(word))
    return kept


class OneLineParser(OneLineErrors, LightningArgumentParser):
    """The parser of Lightning's subcommands."""


def with_configuration(words: Sequence[str]) -> list[str]:
    """A command on a finished run, with the run's own configuration unless another is given.

    >>> with_configuration(["predict", "--ckpt_path", "last", "--data.folder", "a"])
    ['predict', '--ckpt_path', 'last', '--folder', 'a']
    """
    if not words or words[0] not in ON_A_RUN:
        return list(words)
    if words[0] == "predict":
        words = [
            word.replace("--data.folder", "--folder", 1) if _is(word, "--data.folder") else word
            for word in words
        ]
    paths = [
        word.partition("=")[2] or following
        for word, following in zip(words, [*words[1:], ""], strict=True)
        if _is(word, "--ckpt_path")
    ]
    if paths and _is_missing(paths[0]):
        raise UserError(f"There is no file {paths[0]}; check --ckpt_path.")
    described = any(_is(word, option) for word in words for option in (*OPTIONS, "--data"))
    config = run_configuration(paths[0]) if paths and not described else None
    own = [] if config is None else ["--config", str(config)]
    return [words[0], *own, *words[1:]]


@contextmanager
def nothing_fetched_in_vain(subcommand: str, settings: Any) -> Iterator[None]:
    """Leave out weights that would be downloaded while networks are built and not looked at.

    A checkpoint has weights of its own, and what a node becomes does not depend on them.

    Args:
        subcommand: What is run.
        settings: Its configuration; as it was afterwards.
    """
    weights = settings.model.get("weights")
    idle = subcommand == "inspect" or (subcommand in ON_A_RUN and settings.get("ckpt_path"))
    if weights is not None and idle and is_fetched(weights):
        settings.model.weights = None
    yield
    settings.model.weights = weights


def check_given(class_path: str, settings: Mapping[str, Any]) -> None:
    """Raise `UserError` where a configuration leaves a setting of the data module empty."""
    own = defaults(pydoc.locate(class_path))
    for name, value in settings.items():
        if value is None and own.get(name) is not None:
            raise UserError(
                f"data.{name} is left empty in the configuration; give a value, or leave its line "
                "out."
            )


def defaults(made: Any) -> dict[str, Any]:
    """Default of each setting of a class, its base classes' too, or of a function.

    >>> from ftbc_lightning.data import ImageNetDataModule
    >>> own = defaults(ImageNetDataModule)
    >>> own["num_workers"], own["validation_fraction"], own["root"] is inspect.Parameter.empty
    (2, 0.1, True)
    """
    functions = [made]
    if inspect.isclass(made):  # the bases come first, so that a derived class has the last word
        functions = [vars(base).get("__init__") for base in reversed(inspect.getmro(made))]
    parameters = [inspect.signature(function).parameters for function in functions if function]
    return {name: each.default for taken in parameters for name, each in taken.items()}


def _is_missing(path: str) -> bool:
    """Say whether a file of this machine is not there; `last` and addresses are for Lightning."""
    return path.endswith(".ckpt") and "://" not in path and not Path(path).is_file()


def _is(word: str, option: str) -> bool:
    return word.partition("=")[0] == option


def trained_division(*paths: Any) -> int | None:
    """The seed by which the samples of a trained network were divided, if one of its files tells.

    With another division, samples that it was trained on would be among those that evaluate it.
    """
    files = [path for path in paths if isinstance(path, str) and Path(path).is_file()]
    return division_seed(files[0]) if files else None
