"""The LightningModule: trains the ANN, owns the spiking networks, saves and rebuilds both."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Self

import torch
from lightning import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.core.mixins.hparams_mixin import _given_hyperparameters
from torch import Tensor, nn

from ftbc_lightning.analysis.network_variants import Phase, Variant, headline, saved_networks
from ftbc_lightning.errors import UserError, check_choice
from ftbc_lightning.files.checkpoint import CHECKPOINT_KEY, read_checkpoint
from ftbc_lightning.graph.propagation import prepared
from ftbc_lightning.graph.tracing import trace
from ftbc_lightning.report.rows import Result
from ftbc_lightning.snn.conversion import check_convertible, neuron_shapes, prepare, reconvert
from ftbc_lightning.snn.early_exit import simulate_until_sure
from ftbc_lightning.snn.network import SpikingNetwork, conversion_map, shortened, sibling
from ftbc_lightning.snn.simulation import simulate
from ftbc_lightning.training.buildable_classes import check_described
from ftbc_lightning.training.checkpoints import check_state, check_whole, devices_explained
from ftbc_lightning.training.metrics import StepMetric
from ftbc_lightning.training.pretrained import load_pretrained
from ftbc_lightning.training.tasks import TASKS


def _sgd(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=5e-4)


class SpikingClassifier(LightningModule):
    """Train an ANN and keep the spiking networks that it is converted to.

    `phase` is "ann" while there is no spiking network, "converted" when their structure is there,
    "calibrated" when thresholds and biases are set; `unsaved` says that some are in no file yet. A
    checkpoint carries the phase, and loading it makes the structure follow the file in both
    directions.

    Args:
        network: The ANN: any network with one input tensor that `ftbc_lightning.snn.convert` can
            convert.
        optimizer: Made from the ANN's parameters. SGD, 0.1, momentum 0.9, decay 5e-4 by default.
        lr_scheduler: Made from the optimizer and stepped after each epoch; none by default.
        label_smoothing: Of the cross entropy, 0 to 1.
        task: What the network is trained for and judged by.
        weights: A file with weights of the ANN to begin with: a state dict (`.pt`, `.pth`,
            `.safetensors`), a checkpoint, or torchvision's name of weights, such as
            `ResNet34_Weights.IMAGENET1K_V1`.
    """

    ann: nn.Module
    snns: nn.ModuleDict

    def __init__(
        self,
        network: nn.Module,
        *,
        optimizer: OptimizerCallable = _sgd,
        lr_scheduler: LRSchedulerCallable | None = None,
        label_smoothing: float = 0.0,
        task: str = "classification",
        weights: str | None = None,
    ) -> None:
        super().__init__()
        # Objects do not belong into a safe checkpoint. The command line gives their description
        # instead, from which `load_from_checkpoint` builds them; weights are in the file anyway.
        described = _given_hyperparameters.get() is not None
        objects = [] if described else ["network", "optimizer", "lr_scheduler"]
        self.save_hyperparameters(ignore=["weights", *objects])
        self.ann = network
        if weights is not None:
            load_pretrained(network, weights)
        self._optimizer, self._lr_scheduler = optimizer, lr_scheduler
        self.early_exit: float | None = None
        self.chosen: Variant | None = None
        check_choice("task", task, TASKS)
        self.task = TASKS[task](network, label_smoothing=label_smoothing)
        self.reset()

    # The life of the spiking networks

    def reset(self) -> None:
        """Drop the spiking networks: the ANN is about to change."""
        self.phase: Phase = "ann"
        self.unsaved = False
        self.variants: dict[str, Variant] = {}
        self.snns = nn.ModuleDict()
        self.ann_metric = self._metric(1)
        self.snn_metrics = nn.ModuleDict()
        self.results: list[Result] = []

    def check_convertible(
        self, example_input: Tensor, outputs: int | None
    ) -> dict[str, tuple[int, ...]]:
        """Raise `UserError` unless the ANN converts and fits the inputs, the task and the data.

        Args:
            example_input: One input.
            outputs: How many outputs the data asks for, from `Task.outputs_of`.

        Returns:
            For each neuron the shape of its current for one sample.
        """
        graph = trace(self.ann, example_input)
        name = type(self.ann).__name__
        check_convertible(graph, name=name)
        shapes = neuron_shapes(graph, example_input)
        found = graph(prepared(example_input, next(graph.parameters())))
        self.task.check_outputs(found.shape, outputs, name=name)
        return shapes

    def convert(self, example_input: Tensor, variants: Iterable[Variant]) -> None:
        """Build one spiking network for each variant.

        Linear layers are shared, but for those of networks whose weights a calibration changes.
        """
        variants = list(variants)
        first = prepare(self.ann, example_input, timesteps=variants[0].timesteps)
        self._adopt(first, variants)
        self.phase = "converted"

    def network(self, variant: Variant) -> SpikingNetwork:
        """The spiking network of a variant; the first steps of one that serves several T."""
        serving = (v for v in self.variants.values() if v.method == variant.method)
        key = next((v.key for v in serving if variant.timesteps in v.reported), variant.key)
        network = self.snns[key]
        assert isinstance(network, SpikingNetwork)
        if network.timesteps == variant.timesteps:
            return network
        return shortened(network, variant.timesteps)

    def every_variant(self) -> list[Variant]:
        """The variants, one for each T that has a result."""
        return [one for variant in self.variants.values() for one in variant.each]

    def calibrated(self, seconds: Mapping[str, float]) -> None:
        """Note that thresholds and biases are set, and what each variant took."""
        for key, variant in self.variants.items():
            self.variants[key] = replace(variant, seconds=seconds[key])
        self.phase = "calibrated"

    def add(self, variant: Variant, network: SpikingNetwork) -> None:
        """Take in a network that was made elsewhere, and keep of the others those of its T."""
        kept = {v.key: v for v in self.every_variant() if v.timesteps == variant.timesteps}
        networks = {key: self.network(one) for key, one in kept.items()}
        self.reset()
        for key, one in {**kept, variant.key: variant}.items():
            self.variants[key] = one
            self.snns[key] = network if key == variant.key else networks[key]
            self.snn_metrics[key] = self._metric(one.timesteps)
        self.snns.to(self.device)
        self.phase, self.unsaved = "calibrated", True

    def _adopt(self, first: SpikingNetwork, variants: Iterable[Variant]) -> None:
        self.reset()
        for variant in variants:
            self.variants[variant.key] = variant
            network = sibling(
                first,
                timesteps=variant.timesteps,
                own_layers=variant.own_layers,
                neurons=variant.neurons,
            )
            if variant.stages.membranes:
                network.correct_membranes()
            self.snns[variant.key] = network
            self.snn_metrics[variant.key] = self._metric(variant.timesteps)
        self.snns.to(self.device)

    def _metric(self, timesteps: int) -> StepMetric:
        """A metric where the module is: it may be made in the middle of a run."""
        return self.task.metric(timesteps).to(self.device)

    # Training

    def configure_optimizers(self) -> Any:
        """The optimizer over the ANN's parameters, and the scheduler if there is one."""
        optimizer = self._optimizer(self.ann.parameters())
        if self._lr_scheduler is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": self._lr_scheduler(optimizer)}

    def forward(self, images: Tensor) -> Tensor:
        """What the ANN returns, `[B, classes]` or `[B, outputs]`."""
        logits: Tensor = self.ann(images)
        return logits

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """The loss of the task, for the ANN."""
        images, labels = batch
        loss = self.task.loss(self(images), labels, images)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(labels))
        return loss

    # Evaluation

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Evaluate the ANN and every calibrated network on the same batch."""
        self._evaluate(batch)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Evaluate the ANN and every calibrated network on the same batch."""
        self._evaluate(batch)

    def on_validation_epoch_end(self) -> None:
        """Turn counts into results."""
        self._finish("val")

    def on_test_epoch_end(self) -> None:
        """Turn counts into results."""
        self._finish("test")

    def predict_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        """What is predicted after each step; by the ANN while there is no network.

        Returns:
            What the task makes of the outputs (`Task.predictions`): of classification `label` and
            `confidence`, `[T, B]`, of regression `value`, `[T, B, outputs]`; T = 1 for the ANN. Of
            the network in `chosen`, or if that is None the one that stands for all. `steps`, how
            many steps each sample ran, `[B]`: T, or fewer where `early_exit` is set, a confidence
            at which a sample stops. `target`, `[B]` or `[B, outputs]`, where it is known.
        """
        images = batch if isinstance(batch, Tensor) else batch[0]
        steps = None
        if self.phase != "calibrated":
            logits = self(images).unsqueeze(0)
        elif self.early_exit is None:
            logits = simulate(self.network(self.classifying()), images)
        else:
            self.task.check_early_exit()
            network = self.network(self.classifying())
            logits, steps = simulate_until_sure(network, images, confidence=self.early_exit)
        if steps is None:
            steps = torch.full((len(images),), len(logits), device=logits.device)
        found = {**self.task.predictions(logits, images), "steps": steps}
        if not isinstance(batch, Tensor) and len(batch) > 1:
            found["target"] = batch[1]
        return found

    def classifying(self) -> Variant:
        """The variant that `predict_step` runs."""
        return self.chosen or self.headline()

    def headline(self) -> Variant:
        """The variant that stands for all: exact (else the last method) at the largest T."""
        return headline(self.variants.values())

    def _evaluate(self, batch: tuple[Tensor, Tensor]) -> None:
        images, labels = batch
        if self.phase == "converted":
            raise UserError(
                "The network is converted but not calibrated. Add the callback "
                "ForwardTemporalBiasCorrection and run trainer.validate before anything else."
            )
        logits = self(images)
        if not logits.isfinite().all():
            raise UserError(
                "The ANN's outputs are NaN or infinite; its weights or some of the samples are "
                "broken, or the training diverged. Look at train/loss, or lower the learning rate."
            )
        self.ann_metric.update(logits.unsqueeze(0), labels)
        if self.phase == "ann":
            stage = "val" if self.trainer.validating or self.trainer.training else "test"
            stage = "val" if self.trainer.sanity_checking else stage
            loss = self.task.evaluation_loss(logits, labels, images)
            self.log(f"{stage}/loss", loss, batch_size=len(labels), sync_dist=True)
        for key, variant in self.variants.items():
            metric = self.snn_metrics[key]
            assert isinstance(metric, StepMetric)
            metric.update(simulate(self.network(variant), images), labels)

    def _finish(self, split: str) -> None:
        measure, reached = self.task.measure, self.ann_metric.curve()[-1]
        n, seed = self.ann_metric.samples, _seed()
        of_ann = (split, "ann", None, reached, n, seed, 0.0)
        self.results = [Result(*of_ann, measure=measure.name)]
        self.step_curves: dict[str, list[float]] = {}
        self.log(f"{split}/{measure.key}", reached, prog_bar=True)
        for key, variant in self.variants.items():
            metric = self.snn_metrics[key]
            assert isinstance(metric, StepMetric)
            curve = metric.curve()
            self.step_curves[key] = curve
            self.results += [
                Result(
                    *(split, variant.name, t, curve[t - 1], n, seed, variant.seconds),
                    neuron=variant.neurons.name,
                    labels=variant.labels,
                    measure=measure.name,
                )
                for t in variant.reported
            ]
            metric.reset()
        self.ann_metric.reset()
        if self.variants:
            best = self.headline()
            self.log(f"{split}/{measure.key}_{best.key}", self.step_curves[best.key][-1])

    # Checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Write down the phase and the structure of the spiking networks."""
        networks = [
            {**variant.saved(), "map": conversion_map(self.network(variant))}
            for variant in self.variants.values()
        ]
        data = getattr(self._trainer, "datamodule", None)
        checkpoint[CHECKPOINT_KEY] = {
            "phase": self.phase,
            "networks": networks,
            "data_seed": getattr(data, "division_seed", None),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Make the structure follow the file, before Lightning loads its weights."""
        check_state(self.ann, checkpoint)
        phase, networks = saved_networks(checkpoint)
        self.reset()
        variants = [Variant.of(entry) for entry in networks]
        if variants:
            self._adopt(reconvert(self.ann, networks[0]["map"]), variants)
        check_whole(self.state_dict(), checkpoint["state_dict"])
        self.phase = phase

    @classmethod
    def load_from_checkpoint(
        cls,
        checkpoint_path: Any,
        map_location: Any = None,
        hparams_file: Any = None,
        strict: bool | None = None,
        weights_only: bool | None = None,
        **kwargs: Any,
    ) -> Self:
        """Build the module that a file describes; always in safe mode.

        See `ftbc_lightning.training.buildable_classes.check_described` for what a file may name.

        Args:
            checkpoint_path: A file of this package.
            map_location: The device that tensors go to; the one they were on, or the CPU where
                there is no CUDA, if None.
            hparams_file: Not read.
            strict: See Lightning.
            weights_only: Not read: loading is always safe.
            kwargs: Arguments of the class in place of those in the file, such as `network`.

        Raises:
            UserError: The file cannot be read, is damaged, names what must not be built, or its
                tensors were on a device that is not here.
        """
        content = read_checkpoint(checkpoint_path)
        check_described(content, str(checkpoint_path), given=kwargs)
        with devices_explained(checkpoint_path):
            return super().load_from_checkpoint(
                checkpoint_path, map_location, strict=strict, weights_only=True, **kwargs
            )


def _seed() -> int | None:
    value = os.environ.get("PL_GLOBAL_SEED")
    return int(value) if value else None
