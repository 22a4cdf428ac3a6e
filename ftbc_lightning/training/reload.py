"""A finished run: the networks of its checkpoint, and its configuration beside it."""

from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser
from lightning import LightningDataModule

from ftbc_lightning.analysis.network_variants import Variant
from ftbc_lightning.data import DividedDataModule
from ftbc_lightning.errors import UserError
from ftbc_lightning.files.checkpoint import CHECKPOINT_KEY, read_checkpoint
from ftbc_lightning.files.old_names import in_configuration
from ftbc_lightning.training.module import SpikingClassifier


def reload(ckpt_path: str | Path) -> SpikingClassifier:
    """The module of a checkpoint with spiking networks, rebuilt from its own description.

    Raises:
        UserError: The file cannot be read, holds no calibrated network, or its network was made
            in Python, so that the file does not tell how to build it.
    """
    content = read_checkpoint(ckpt_path)
    phase = content.get(CHECKPOINT_KEY, {}).get("phase")
    if phase != "calibrated":
        raise UserError(
            f"{ckpt_path} holds no calibrated spiking network; give the snn.ckpt that `ftbc fit` "
            "or `ftbc calibrate` has left."
        )
    if "network" not in content.get("hyper_parameters", {}):
        raise UserError(
            f"{ckpt_path} does not tell how to build its network, which was made in Python. Load "
            "it there: module = SpikingClassifier.load_from_checkpoint(path, network=yours); its "
            "networks are module.network(variant) for each of module.variants.values()."
        )
    return SpikingClassifier.load_from_checkpoint(
        ckpt_path, map_location="cpu", weights_only=True
    ).eval()


def choose(module: SpikingClassifier, *, method: str | None, timesteps: int | None) -> Variant:
    """One of a module's networks: by default the one that stands for all.

    Raises:
        UserError: There is none with this method and T; those that there are are listed.
    """
    if module.phase != "calibrated":
        raise UserError("There is no calibrated network to choose; give --ckpt_path snn.ckpt.")
    fitting = [
        variant
        for variant in module.every_variant()
        if method in (None, variant.method) and timesteps in (None, variant.timesteps)
    ]
    if not fitting:
        there: dict[str, list[str]] = {}
        for variant in module.every_variant():
            there.setdefault(variant.method, []).append(str(variant.timesteps))
        listed = "; ".join(f"{name} at T = {', '.join(steps)}" for name, steps in there.items())
        asked = ", ".join(
            f"{name} {value}"
            for name, value in (("method", method), ("T =", timesteps))
            if value is not None
        )
        raise UserError(f"The file has no network with {asked}; there are: {listed}.")
    preferred = module.headline().method
    best = [variant for variant in fitting if variant.method == preferred] or fitting
    return max(best, key=lambda variant: variant.timesteps)


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
