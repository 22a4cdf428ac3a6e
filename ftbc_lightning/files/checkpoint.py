"""Read checkpoints and weights in safe mode only: nothing in a file is executed."""

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import torch

from ftbc_lightning.errors import UserError

VERSION_KEY = "pytorch-lightning_version"
CHECKPOINT_KEY = "ftbc"
"""Where this package's own part of a checkpoint is."""

FINETUNING_KEY = "ftbc_finetuning"
"""Where the checkpoint of a fine-tuning under way says what it began with."""


def read_file(path: str | Path, *, mapped: bool = False) -> dict[str, Any]:
    """Load a checkpoint or state dict without executing anything in it.

    Args:
        path: The file.
        mapped: Leave the tensors where they are until they are looked at.

    Raises:
        UserError: The file is missing, truncated, not a checkpoint, or holds code.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(
            f"{path} is a folder; give the checkpoint in it. What `ftbc push` has written is none: "
            "`ftbc export` and from_pretrained read it."
        )
    if not path.is_file():
        raise UserError(f"There is no file {path}; check the path of the checkpoint or weights.")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        mapped = mapped and is_zipfile(path)
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} was refused: it holds more than tensors and plain values, or it is not a "
            "checkpoint. Only files that load in safe mode are read; save the state dict alone."
        ) from error
    except Exception as error:
        raise UserError(
            f"{path} cannot be read as a checkpoint ({type(error).__name__}); it may be "
            "truncated. Copy or make it again."
        ) from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__}, not a state dict.")
    return content


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Load a checkpoint in safe mode and check its build.

    Raises:
        UserError: The file cannot be read, or is not a checkpoint of Lightning.
    """
    content = read_file(path)
    state = content.get("state_dict")
    if not isinstance(state, Mapping) or not _is_version(content.get(VERSION_KEY)):
        raise UserError(
            f"{path} is not a checkpoint of Lightning: it has no state_dict with a version. "
            "Weights alone go in with --model.weights."
        )
    wrong = [str(k) for k, v in state.items() if not (isinstance(k, str) and _is_tensor(v))]
    if wrong:
        raise UserError(f"{path} is damaged: {wrong[0]} in its state_dict is no named tensor.")
    return content


def division_seed(path: str | Path) -> int | None:
    """The seed by which the run of a checkpoint divided its samples; None if it does not tell."""
    content = read_file(path, mapped=True)
    saved = content.get(CHECKPOINT_KEY, content.get(FINETUNING_KEY))
    seed = saved.get("data_seed") if isinstance(saved, Mapping) else None
    return seed if type(seed) is int else None


def _is_version(value: Any) -> bool:
    """Say whether a value is a version, which Lightning reads to bring old files up to date."""
    return isinstance(value, str) and re.fullmatch(r"\d+(\.\w+)*(\+[\w.]+)?", value) is not None


def _is_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor)
