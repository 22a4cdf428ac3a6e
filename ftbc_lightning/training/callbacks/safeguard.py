"""Before a run: can its files be written? After a mishap: what is finished, and how to go on?"""

import math
import os
import sys
import tempfile
from pathlib import Path

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import nn

from ftbc_lightning.errors import UserError
from ftbc_lightning.files.whole_file import remove_leftovers
from ftbc_lightning.report.run_folder import LOGS
from ftbc_lightning.training.callbacks.ftbc import (
    ForwardTemporalBiasCorrection,
    example_input,
    makes_networks,
)
from ftbc_lightning.training.module import SpikingClassifier

KEPT = ("ann.ckpt", "finetuning.ckpt", "snn.ckpt", "results.csv")

FIGURES = 1_000_000
"""Bytes for tables and figures."""


class Safeguard(Callback):
    """Refuse a folder that cannot be written before the work begins; name what is kept.

    Args:
        folder: Where files go; the trainer's `default_root_dir` if None.
    """

    def __init__(self, *, folder: str | None = None) -> None:
        self.folder = folder

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check the folder, and remove what a killed run has left half written."""
        if not trainer.is_global_zero:
            return
        folder = self._path(trainer)
        makes = makes_networks(pl_module, stage)
        checkpoints = checkpoint_space(trainer, pl_module) if makes else 0
        check_writable(folder, needed=checkpoints + FIGURES)
        places = (folder, *folder.glob(f"{LOGS}/*"))
        removed = [path for place in places for path in remove_leftovers(place)]
        if removed:
            names = ", ".join(path.name for path in removed)
            print(f"Removed half-written files of a run that was killed: {names}.")

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Name the files that are finished after Ctrl-C, and how to go on."""
        if not isinstance(exception, KeyboardInterrupt) or not trainer.is_global_zero:
            return
        folder = self._path(trainer)
        kept = [str(folder / name) for name in KEPT if (folder / name).is_file()]
        message = f"Interrupted. Finished and kept: {', '.join(kept) or 'nothing yet'}."
        begun = any((folder / name).is_file() for name in KEPT[:2])
        if trainer.state.fn == TrainerFn.FITTING and begun:
            message += " Go on with the same command and --ckpt_path last."
        elif (folder / "ann.ckpt").is_file():
            message += f" Calibrate with: ftbc calibrate ... --ckpt_path {folder / 'ann.ckpt'}"
        print(message, file=sys.stderr)

    def _path(self, trainer: Trainer) -> Path:
        return Path(self.folder or trainer.default_root_dir)


def checkpoint_space(trainer: Trainer, module: LightningModule) -> int:
    """Bytes for the checkpoints of a run, each twice, as a new one is written beside the old.

    `ann.ckpt` has the weights and twice as much of an optimizer. `snn.ckpt` has the weights, once
    more for each network whose calibration changes them, and for each network whose start membranes
    are calibrated a number for each neuron of a sample.
    """
    if not isinstance(module, SpikingClassifier):
        return 2 * 3 * _bytes(module)
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    correcting = [c for c in callbacks if isinstance(c, ForwardTemporalBiasCorrection)]
    stages = [v.stages for callback in correcting for v in callback.variants]
    weights = 3 + 1 + sum(stage.weights is not None for stage in stages)
    membranes = sum(stage.membranes is not None for stage in stages)
    neurons = _neurons(trainer, module, correcting[0]) if membranes else 0
    return 2 * (weights * _bytes(module.ann) + membranes * 4 * neurons)


def _neurons(
    trainer: Trainer, module: SpikingClassifier, callback: ForwardTemporalBiasCorrection
) -> int:
    """How many neurons one sample passes through."""
    if module.variants:
        network = module.network(module.headline())
    else:
        network = callback.structure(module, example_input(trainer), None)
    return sum(math.prod(shape) for shape in network.shapes.values())


def _bytes(network: nn.Module) -> int:
    return sum(p.numel() * p.element_size() for p in network.parameters())


def check_writable(folder: Path, *, needed: int) -> None:
    """Raise `UserError` unless a file can be written into a folder, which is made.

    Args:
        folder: The folder.
        needed: How many bytes must be free.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
        free = os.statvfs(folder)
    except OSError as error:
        raise UserError(
            f"Nothing can be written into {folder} ({error.strerror}); give another folder with "
            "--trainer.default_root_dir, or make room."
        ) from error
    available = free.f_bavail * free.f_frsize
    if available < needed:
        raise UserError(
            f"{folder} has {available / 1e6:.1f} MB free, and this run may write "
            f"{needed / 1e6:.1f} MB; make room, or give another folder with "
            "--trainer.default_root_dir."
        )
