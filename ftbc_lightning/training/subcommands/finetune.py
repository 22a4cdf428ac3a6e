"""`ftbc finetune`: train a calibrated spiking network by back-propagation."""

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
from lightning import LightningDataModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable

from ftbc_lightning.analysis.network_variants import Variant, saved_networks
from ftbc_lightning.calibration import parse_method
from ftbc_lightning.calibration.finetuned import NAME
from ftbc_lightning.errors import UserError
from ftbc_lightning.files.checkpoint import FINETUNING_KEY, read_checkpoint
from ftbc_lightning.snn.surrogates import Surrogate
from ftbc_lightning.training.callbacks import ForwardTemporalBiasCorrection
from ftbc_lightning.training.finetuning import FineTuning, Loss
from ftbc_lightning.training.finished_networks import choose
from ftbc_lightning.training.module import SpikingClassifier
from ftbc_lightning.training.relative_adam import RelativeAdam
from ftbc_lightning.training.reload import fill

FOLDER = "finetuned"
"""Where a fine-tuning writes, in the folder of the run."""

FILE = "finetuning"
"""The name of its checkpoint."""


class FineTuneTrainer(lightning.Trainer):
    """A Trainer that trains a calibrated spiking network."""

    def finetune(
        self,
        model: SpikingClassifier,
        datamodule: LightningDataModule | None = None,
        ckpt_path: str | None = None,
        *,
        at: int | None = None,
        method: str | None = None,
        epochs: int = 1,
        optimizer: OptimizerCallable = RelativeAdam,
        lr_scheduler: LRSchedulerCallable | None = None,
        surrogate: str = "triangle",
        width: float = 1.0,
        loss: Loss = "kl",
        temperature: float = 1.0,
        thresholds: bool = False,
        checkpointing: bool = False,
    ) -> None:
        """Train one network of a run over its steps, and compare it with those it stands beside.

        It becomes the method that it began with, and `+finetuned`, in a file with all networks of
        the same T. See `ftbc_lightning.training.finetuning.FineTuning` for the equations.

        Args:
            model: Holds the ANN.
            datamodule: Its training samples, augmented as it says.
            ckpt_path: The snn.ckpt of a run, or the checkpoint of a fine-tuning to go on with.
            at: T of the network to begin with; the largest if not given.
            method: Whose calibration it begins with; exact, or the last in the file, if not given.
            epochs: Passes over the training samples, at least 1; those of the ANN
                (trainer.max_epochs) say nothing here.
            optimizer: Made from the parameters. By default Adam with a rate in proportion to the
                size of each tensor.
            lr_scheduler: Made from the optimizer and stepped after each epoch; by default the
                learning rate rises for a tenth of all steps and falls to zero along a cosine.
            surrogate: What stands for the derivative of a spike: triangle, arctan or sigmoid.
            width: Of the surrogate, in thresholds.
            loss: "kl" brings the outputs to the ANN's and reads no labels, "labels" is the loss of
                the task, "both" their sum.
            temperature: Of the softened probabilities of kl.
            thresholds: Train thresholds too.
            checkpointing: Compute layers again in the backward pass, in place of keeping them.

        Raises:
            UserError: The checkpoint cannot be read or has no such network, or a setting is out
                of range.
        """
        if ckpt_path is None:
            raise UserError("finetune begins with a calibrated network: give --ckpt_path snn.ckpt.")
        if epochs < 1:
            raise UserError(f"epochs is {epochs}; give at least 1.")
        begun = read_checkpoint(ckpt_path).get(FINETUNING_KEY)
        path = ckpt_path if begun is None else _source(begun, ckpt_path)
        fill(model, path)
        if begun is not None:
            _check_same(begun, method=method, timesteps=at, thresholds=thresholds)
            method, at = begun["method"], begun["timesteps"]
        start = choose(model, method=method, timesteps=at)
        model.follow(datamodule)
        if loss != "kl" and not model.task.labelled:
            raise UserError(
                f"loss is {loss}, which reads labels, and the data has none (--data.labelled "
                "false); kl needs none."
            )
        folder = Path(self.default_root_dir)
        _keep_others(folder, Path(path), start)
        if begun is None and self.is_global_zero:
            (folder / f"{FILE}.ckpt").unlink(missing_ok=True)  # of an earlier training
        module = FineTuning(
            *(model.ann, model.network(start)),
            task=model.task,
            optimizer=optimizer,
            lr_scheduler=lr_scheduler,
            surrogate=Surrogate(surrogate, width),
            loss=loss,
            temperature=temperature,
            thresholds=thresholds,
            checkpointing=checkpointing,
        )
        module.source = {
            "path": str(Path(path).resolve()),
            "method": start.method,
            "timesteps": start.timesteps,
            "thresholds": thresholds,
        }
        module.seconds_before = 0.0 if begun is None else float(begun.get("seconds", 0.0))
        self._leave_out_calibration()
        self.fit_loop.max_epochs = epochs
        self.fit(module, datamodule=datamodule, ckpt_path=None if begun is None else ckpt_path)
        if self.interrupted:
            raise KeyboardInterrupt
        seconds = module.seconds_before + time.perf_counter() - module.began
        labels = _labels(self, datamodule) if module.uses_labels else 0
        tuned = replace(
            start,
            method=finetuned(start.method),
            seconds=start.seconds + seconds,
            labels=max(start.labels, labels),
            weight_bits=None,
        )
        model.add(tuned, module.trained.network())
        self.validate(model, datamodule=datamodule, verbose=False)

    def _leave_out_calibration(self) -> None:
        """What is trained here is no ANN to be converted."""
        callbacks = self.callbacks  # type: ignore[has-type]
        self.callbacks = [c for c in callbacks if not isinstance(c, ForwardTemporalBiasCorrection)]


def folder_of(run: Path) -> Path:
    """Where a fine-tuning writes."""
    return run if run.name == FOLDER else run / FOLDER


def finetuned(method: str) -> str:
    """The method of a network that begins with `method`.

    >>> finetuned("exact"), finetuned("exact+finetuned")
    ('exact+finetuned', 'exact+finetuned')
    """
    return method if method.split("+")[-1] == NAME else f"{method}+{NAME}"


def _labels(trainer: lightning.Trainer, datamodule: Any) -> int:
    """How many labelled samples an epoch reads."""
    there = len(getattr(datamodule, "train_indices", ()))
    size = getattr(datamodule, "batch_size", 1) * trainer.world_size
    return min(there, int(trainer.num_training_batches) * size)


def _keep_others(folder: Path, source: Path, start: Variant) -> None:
    """Raise `UserError` where a finished file with other networks would be written over."""
    path = folder / "snn.ckpt"
    if not path.is_file():
        return
    _, networks = saved_networks(read_checkpoint(path))
    trained = {
        Variant.of(entry).key for entry in networks if parse_method(entry["method"]).training
    }
    made = replace(start, method=finetuned(start.method)).key
    own = path.resolve() == source.resolve() and start.stages.training is not None
    if trained == {made} or own:
        return
    held = ", ".join(sorted(trained)) or "the networks of a run"
    raise UserError(
        f"{path} holds {held}, which this fine-tuning would write over; move the folder away, or "
        "give another one with --trainer.default_root_dir."
    )


def _check_same(begun: Mapping[str, Any], **asked: Any) -> None:
    """Raise `UserError` where a training is to go on with other settings than it began with."""
    for name, value in asked.items():
        there = begun.get(name, value)
        if value not in (None, there):
            option = {"timesteps": "at"}.get(name, name)
            raise UserError(
                f"The fine-tuning to go on with has {option} {there}, and {value} was asked for; "
                "leave it out, or begin anew with --ckpt_path snn.ckpt."
            )


def _source(begun: Any, ckpt_path: str) -> str:
    """The file that a fine-tuning began with."""
    path = begun.get("path") if isinstance(begun, Mapping) else None
    if not isinstance(path, str) or {"method", "timesteps"} - set(begun):
        raise UserError(f"{ckpt_path} does not tell what its training began with; begin anew.")
    if not Path(path).is_file():
        raise UserError(
            f"The fine-tuning of {ckpt_path} began with {path}, which is not there any more; put "
            "it back, or begin anew with --ckpt_path snn.ckpt."
        )
    return path
