"""Checkpoints of Lightning: never half a file under its name, and loading in safe mode."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from ftbc_lightning.errors import UserError
from ftbc_lightning.files.checkpoint import read_checkpoint
from ftbc_lightning.files.whole_file import write_whole


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
        write_whole(path, partial(torch.save, checkpoint))

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
