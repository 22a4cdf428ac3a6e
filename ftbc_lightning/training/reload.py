"""A finished run with Lightning: the module of its checkpoint, and its data module."""

from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser
from lightning import LightningDataModule

from ftbc_lightning.data import DividedDataModule
from ftbc_lightning.errors import UserError
from ftbc_lightning.files.checkpoint import read_checkpoint
from ftbc_lightning.files.old_names import in_configuration
from ftbc_lightning.training.finished_networks import check_rebuildable
from ftbc_lightning.training.module import SpikingClassifier


def reload(ckpt_path: str | Path) -> SpikingClassifier:
    """The module of a checkpoint with spiking networks, rebuilt from its own description.

    Raises:
        UserError: The file cannot be read, holds no calibrated network, or its network was made
            in Python, so that the file does not tell how to build it.
    """
    check_rebuildable(read_checkpoint(ckpt_path), ckpt_path)
    return SpikingClassifier.load_from_checkpoint(
        ckpt_path, map_location="cpu", weights_only=True
    ).eval()


def fill(module: SpikingClassifier, ckpt_path: str | Path) -> None:
    """Make a module what its file says: structure, phase and values.

    Raises:
        UserError: The file cannot be read or holds another network.
    """
    content = read_checkpoint(ckpt_path)
    module.on_load_checkpoint(content)
    module.load_state_dict(content["state_dict"])


def datamodule(config: Path) -> LightningDataModule:
    """The data module that a configuration describes.

    Raises:
        UserError: It has no `data`, or the data is not there.
    """
    said = yaml.safe_load(config.read_text()) or {}
    content: dict[str, Any] = in_configuration(said, lambda old, new: None)
    if "data" not in content:
        raise UserError(f"{config} has no data.")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(DividedDataModule, "data")
    made = parser.instantiate_classes(parser.parse_object({"data": content["data"]})).data
    assert isinstance(made, LightningDataModule)
    return made
