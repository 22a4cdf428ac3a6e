"""Checkpoints of Lightning: never half a file under its name, and the ANN in them fits."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import nn

from ftbc_lightning.ann.weights import check_finite
from ftbc_lightning.errors import UserError
from ftbc_lightning.files.checkpoint import FINETUNING_KEY, read_checkpoint
from ftbc_lightning.files.whole_file import write_whole
from ftbc_lightning.graph.wrappers import name_of

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


def check_state(ann: nn.Module, checkpoint: Mapping[str, Any]) -> None:
    """Raise `UserError` unless the file's ANN fits `ann` by names and shapes."""
    if FINETUNING_KEY in checkpoint:
        raise UserError(
            "The checkpoint is that of a fine-tuning under way: go on with `ftbc finetune "
            "--ckpt_path last`, or give the snn.ckpt beside it."
        )
    state = ann_state(checkpoint)
    saved = {key: value.shape for key, value in state.items()}
    own = {key: value.shape for key, value in ann.state_dict().items()}
    missing, unexpected = sorted(own.keys() - saved.keys()), sorted(saved.keys() - own.keys())
    reshaped = sorted(key for key in own.keys() & saved.keys() if own[key] != saved[key])
    if missing or unexpected or reshaped:
        first = [*reshaped, *missing, *unexpected][0]
        raise UserError(
            f"The checkpoint holds another network than {name_of(ann)}: {len(missing)} "
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
