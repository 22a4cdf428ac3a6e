"""The tensors of a checkpoint, and whether they fit the networks that they are for."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from ftbc_lightning.ann.weights import check_finite
from ftbc_lightning.errors import UserError
from ftbc_lightning.files.checkpoint import FINETUNING_KEY
from ftbc_lightning.graph.wrappers import name_of

ANN_PREFIX = "ann."
"""What the ANN's weights begin with in a checkpoint."""


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
