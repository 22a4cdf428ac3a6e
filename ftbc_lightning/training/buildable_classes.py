"""What a checkpoint may describe to be built: nothing but networks, optimizers and schedulers."""

import importlib
import re
import typing
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from ftbc_lightning.errors import UserError

HYPERPARAMETERS = "hyper_parameters"
INSTANTIATOR = "lightning.pytorch.cli.instantiate_module"
BUILDABLE = (
    nn.Module,
    torch.optim.Optimizer,
    torch.optim.lr_scheduler.LRScheduler,
)
"""A file may name classes of these kinds, and functions that are annotated to return one."""

PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")


def check_described(
    checkpoint: Mapping[str, Any], source: str, *, given: Collection[str] = ()
) -> None:
    """Raise `UserError` if a file describes anything that is not a network or its training.

    `SpikingClassifier.load_from_checkpoint` builds the network that the file describes, by class
    path. The boundary: a file brings no code. It can make modules that are installed here be
    imported, and build the classes in `BUILDABLE` from them with plain values; any other name in
    it, at any depth, that stands for something callable is refused before anything is built.

    Args:
        checkpoint: What safe mode has read.
        source: Named in the message.
        given: Arguments that are given in place of those in the file, which are not read.

    Raises:
        UserError: A name stands for another callable, is not installed, or the file asks for
            another way of building.
    """
    described = checkpoint.get(HYPERPARAMETERS, {})
    if not isinstance(described, Mapping):
        raise UserError(f"{source} is damaged: its {HYPERPARAMETERS} are no dictionary.")
    if described.get("_instantiator", INSTANTIATOR) != INSTANTIATOR:
        raise UserError(
            f"{source} was refused: it asks to be built by {described['_instantiator']!r}, which "
            "could execute anything. Build the network yourself and pass it as `network=`."
        )
    unread = {"_instantiator", *given}
    named = {key: value for key, value in described.items() if key not in unread}
    for name, is_class in _names(named):
        target = _resolve(name)
        if target is None and is_class:
            raise UserError(
                f"{source} describes {name}, which is not installed here. Install it, or build "
                "the network yourself and pass it as `network=`."
            )
        if callable(target) and not _is_buildable(target):
            raise UserError(
                f"{source} was refused: it names {name}, which is neither a network nor an "
                "optimizer or scheduler. Build the network yourself and pass it as `network=`."
            )


def _names(value: Any, *, is_class: bool = False) -> Iterator[tuple[str, bool]]:
    """Every text that has the form of an import path, and whether it stands at `class_path`."""
    if isinstance(value, str) and (is_class or PATH.fullmatch(value)):
        yield value, is_class
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _names(item, is_class=key in ("class_path", "_class_path"))
    elif isinstance(value, list | tuple | set):
        for item in value:
            yield from _names(item)


def _resolve(path: str) -> Any:
    """What an import path stands for, or None."""
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name, None)
    except (ImportError, ValueError):
        if "." not in module:
            return None
    owner = _resolve(module)
    return getattr(owner, name, None)


def _is_buildable(target: Any) -> bool:
    if isinstance(target, type):
        return issubclass(target, BUILDABLE)
    try:
        result = typing.get_type_hints(target).get("return")
    except (TypeError, NameError):
        return False
    return isinstance(result, type) and issubclass(result, BUILDABLE)
