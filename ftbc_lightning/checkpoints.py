"""Read and write checkpoints: safe mode only, and never half a file under its name."""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import nn

from ftbc_lightning.ann.weights import read_file
from ftbc_lightning.errors import UserError

ANN_PREFIX = "ann."
"""What the ANN's weights begin with in a checkpoint."""


class SafeCheckpointIO(TorchCheckpointIO):
    """Loads in safe mode whatever the caller asks for, and says plainly what is wrong."""

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Load a checkpoint; see `ftbc_lightning.ann.weights.read_file`."""
        return read_file(path)


def ann_state(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """The ANN's weights in a checkpoint of any phase."""
    return {
        key.removeprefix(ANN_PREFIX): value
        for key, value in checkpoint.get("state_dict", {}).items()
        if key.startswith(ANN_PREFIX)
    }


def check_state(ann: nn.Module, checkpoint: Mapping[str, Any]) -> None:
    """Raise `UserError` unless the file's ANN fits `ann` by names and shapes."""
    saved = {key: value.shape for key, value in ann_state(checkpoint).items()}
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
