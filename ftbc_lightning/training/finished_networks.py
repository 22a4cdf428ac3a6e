"""The networks of a finished run, rebuilt from its checkpoint without Lightning."""

from argparse import ArgumentError
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser
from torch import nn

from ftbc_lightning.analysis.network_variants import Variant
from ftbc_lightning.ann.one_output import OneOutput
from ftbc_lightning.errors import UserError
from ftbc_lightning.files.checkpoint import CHECKPOINT_KEY, read_checkpoint
from ftbc_lightning.training.buildable_classes import HYPERPARAMETERS, check_described
from ftbc_lightning.training.converted_networks import ConvertedNetworks


class FinishedNetworks(ConvertedNetworks):
    """The networks of a checkpoint.

    Args:
        network: The ANN.
        output: Which of its outputs is the answer, if there are several.
    """

    def __init__(self, network: nn.Module, output: str | None = None) -> None:
        super().__init__()
        self.ann = network if output is None else OneOutput(network, output)


def finished_networks(ckpt_path: str | Path) -> FinishedNetworks:
    """The ANN and the spiking networks of a checkpoint, rebuilt from its own description.

    See `ftbc_lightning.training.buildable_classes.check_described` for what a file may name.

    Raises:
        UserError: As `check_rebuildable` does, or the file is damaged or names what must not be
            built.
    """
    content = read_checkpoint(ckpt_path)
    check_rebuildable(content, ckpt_path)
    check_described(content, str(ckpt_path))
    networks = _built(content[HYPERPARAMETERS])
    networks.restore(content)
    networks.load_state_dict(content["state_dict"])
    return networks.eval()


def _built(described: Mapping[str, Any]) -> FinishedNetworks:
    """The ANN as the hyperparameters of a module describe it; Lightning reads them likewise."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(FinishedNetworks, "module", fail_untyped=False)
    config = {name: described[name] for name in ("network", "output") if name in described}
    try:
        made = parser.instantiate_classes(parser.parse_object({"module": config})).module
    except (ArgumentError, TypeError) as error:
        said = " ".join(str(error).split()).rstrip(".")
        raise UserError(
            f"The network that the checkpoint describes cannot be built: {said}. Read the file "
            "with the version of ftbc-lightning that wrote it."
        ) from error
    assert isinstance(made, FinishedNetworks)
    return made


def check_rebuildable(content: Mapping[str, Any], ckpt_path: str | Path) -> None:
    """Raise `UserError` unless a file holds calibrated networks and tells how to build them.

    Args:
        content: What was read.
        ckpt_path: Its path, for the message.
    """
    phase = content.get(CHECKPOINT_KEY, {}).get("phase")
    if phase != "calibrated":
        raise UserError(
            f"{ckpt_path} holds no calibrated spiking network; give the snn.ckpt that `ftbc fit` "
            "or `ftbc calibrate` has left."
        )
    if "network" not in (content.get("hyper_parameters") or {}):
        raise UserError(
            f"{ckpt_path} does not tell how to build its network, which was made in Python. Load "
            "it there: module = SpikingClassifier.load_from_checkpoint(path, network=yours); its "
            "networks are module.network(variant) for each of module.variants.values()."
        )


def given(ckpt_path: str | None) -> str:
    """The path of the file of calibrated networks.

    Raises:
        UserError: None was given.
    """
    if ckpt_path is None:
        raise UserError("Give the file of calibrated networks: --ckpt_path runs/NAME/snn.ckpt.")
    return ckpt_path


def choose(module: ConvertedNetworks, *, method: str | None, timesteps: int | None) -> Variant:
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
