"""Read and write checkpoints: safe mode only, and never half a file under its name."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import nn

from ftbc_lightning.ann.weights import check_finite, read_file
from ftbc_lightning.calibration import parse_method
from ftbc_lightning.errors import UserError, is_count
from ftbc_lightning.files.whole_file import write_whole

DAMAGE = (LookupError, TypeError, ValueError, AttributeError, RuntimeError, ArithmeticError)
"""What reading a description raises where a value is of another kind, a tensor for instance."""

VERSION_KEY = "pytorch-lightning_version"
CHECKPOINT_KEY = "ftbc"
"""Where this package's own part of a checkpoint is."""

Phase = Literal["ann", "converted", "calibrated"]

ANN_PREFIX = "ann."
"""What the ANN's weights begin with in a checkpoint."""


class SafeCheckpointIO(TorchCheckpointIO):
    """Loads in safe mode whatever the caller asks for, and writes beside and renames.

    Lightning writes a checkpoint to the system's folder for temporary files and moves it, which
    copies where that folder is another file system: a process that is killed meanwhile leaves
    half a file under the final name.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Write a checkpoint whole, or raise `UserError` and leave the earlier one as it was."""
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, lambda beside: _save(checkpoint, beside))

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Load a checkpoint; see `read_checkpoint`."""
        return read_checkpoint(path)


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


@contextmanager
def devices_explained(path: str | Path) -> Iterator[None]:
    """Raise `UserError` where tensors of a file were on a device that is not here."""
    try:
        yield
    except RuntimeError as error:
        if "deserialize object" in str(error) or "restore data location" in str(error):
            raise UserError(
                f"Tensors of {path} were on a device that is not here; give map_location='cpu'."
            ) from error
        raise


def _is_version(value: Any) -> bool:
    """Say whether a value is a version, which Lightning reads to bring old files up to date."""
    return isinstance(value, str) and re.fullmatch(r"\d+(\.\w+)*(\+[\w.]+)?", value) is not None


def _is_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor)


def _save(checkpoint: dict[str, Any], path: Path) -> None:
    """Write with torch; a full device is an `OSError`, which torch reports in its own way."""
    try:
        torch.save(checkpoint, path)
    except RuntimeError as error:
        if "inline_container" in str(error) or "write" in str(error):
            raise OSError("no space left, or the device failed") from error
        raise


def ann_state(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """The ANN's weights in a checkpoint of any phase."""
    return {
        key.removeprefix(ANN_PREFIX): value
        for key, value in checkpoint.get("state_dict", {}).items()
        if key.startswith(ANN_PREFIX)
    }


def division_seed(path: str | Path) -> int | None:
    """The seed by which the run of a checkpoint divided its samples; None if it does not tell."""
    saved = read_file(path).get(CHECKPOINT_KEY)
    seed = saved.get("data_seed") if isinstance(saved, Mapping) else None
    return seed if type(seed) is int else None


def check_state(ann: nn.Module, checkpoint: Mapping[str, Any]) -> None:
    """Raise `UserError` unless the file's ANN fits `ann` by names and shapes."""
    state = ann_state(checkpoint)
    saved = {key: value.shape for key, value in state.items()}
    own = {key: value.shape for key, value in ann.state_dict().items()}
    missing, unexpected = sorted(own.keys() - saved.keys()), sorted(saved.keys() - own.keys())
    reshaped = sorted(key for key in own.keys() & saved.keys() if own[key] != saved[key])
    if missing or unexpected or reshaped:
        first = [*reshaped, *missing, *unexpected][0]
        raise UserError(
            f"The checkpoint holds another network than {type(ann).__name__}: {len(missing)} "
            f"weights are missing, {len(unexpected)} are unknown, {len(reshaped)} have another "
            f"shape (first: {first}). Give the configuration it was trained with."
        )
    check_finite(state, "the checkpoint")


def check_whole(own: Mapping[str, Any], saved: Mapping[str, Any]) -> None:
    """Raise `UserError` unless a file has a tensor of the right shape for everything."""
    differing = sorted(
        key
        for key in own.keys() | saved.keys()
        if key not in own or key not in saved or own[key].shape != saved[key].shape
    )
    if differing:
        raise UserError(
            f"The checkpoint does not fit the spiking networks that it describes: {len(differing)} "
            f"tensors are missing, unknown or of another shape (first: {differing[0]}). Make it "
            "again with `ftbc calibrate` from the ANN's file."
        )


def saved_networks(checkpoint: Mapping[str, Any]) -> tuple[Phase, list[dict[str, Any]]]:
    """The phase and the spiking networks that a checkpoint describes.

    Args:
        checkpoint: What was read; one without this package's part holds an ANN.

    Returns:
        "ann", "converted" or "calibrated", and for each network its `method`, `timesteps`,
        `seconds` and conversion `map`.

    Raises:
        UserError: The description is damaged, or a later program has written it.
    """
    saved = checkpoint.get(CHECKPOINT_KEY, {"phase": "ann", "networks": []})
    try:
        phase, networks = saved["phase"], list(saved["networks"])
        if phase not in get_args(Phase) or (phase == "ann") != (not networks):
            raise ValueError(f"phase {phase!r} with {len(networks)} networks")
        for entry in networks:
            _check_network(entry, checkpoint["state_dict"])
    except DAMAGE as error:
        raise UserError(
            f"The checkpoint's description of its spiking networks is damaged ({error}). Make it "
            "again with `ftbc calibrate` from the ANN's file."
        ) from error
    return phase, networks


def _check_network(entry: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    timesteps, structure = entry["timesteps"], entry["map"]
    try:
        parse_method(entry["method"])
    except UserError as error:
        raise UserError(
            f"The checkpoint has a network calibrated by {entry['method']!r}, which this program "
            "does not know; install a newer ftbc-lightning to read it."
        ) from error
    biases = {value.shape[0] for key, value in state.items() if key.endswith("temporal_bias")}
    if not is_count(timesteps) or not is_count(structure["timesteps"]):
        raise ValueError(f"T={timesteps}")
    if timesteps not in biases or structure["timesteps"] != timesteps:
        raise ValueError(f"no biases for T={timesteps}")
    float(entry["seconds"])
    for served in entry.get("serves", ()):
        if not (is_count(served) and served <= timesteps):
            raise ValueError(f"T={served} served by a network for T={timesteps}")
    if structure.get("input") is not None and not all(map(is_count, structure["input"])):
        raise ValueError(f"input of shape {structure['input']}")
    for name, shape in structure["neurons"].items():
        if not all(map(is_count, shape)) or not shape:
            raise ValueError(f"shape {shape} of {name}")
