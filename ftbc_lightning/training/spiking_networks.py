"""The spiking networks that a LightningModule owns: made, found, written down and rebuilt."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Self

from lightning import LightningModule
from torch import Tensor, nn

from ftbc_lightning.analysis.network_variants import Variant
from ftbc_lightning.ann.one_output import named_outputs
from ftbc_lightning.errors import UserError
from ftbc_lightning.files.checkpoint import CHECKPOINT_KEY, read_checkpoint
from ftbc_lightning.graph.functions import Functions
from ftbc_lightning.graph.outputs import form_of
from ftbc_lightning.graph.propagation import prepared
from ftbc_lightning.graph.tracing import trace, warn_of_halves
from ftbc_lightning.graph.wrappers import name_of
from ftbc_lightning.report.rows import Result
from ftbc_lightning.snn.conversion import MaxPooling, prepare
from ftbc_lightning.snn.convertible import refuse_max_pooling
from ftbc_lightning.snn.network import SpikingNetwork, conversion_map
from ftbc_lightning.training.buildable_classes import check_described
from ftbc_lightning.training.checkpoints import devices_explained
from ftbc_lightning.training.converted_networks import ConvertedNetworks
from ftbc_lightning.training.metrics import StepMetric
from ftbc_lightning.training.tasks import Task


class SpikingNetworks(ConvertedNetworks, LightningModule):
    """`ConvertedNetworks` under a Trainer: made, judged, and written into checkpoints.

    A checkpoint carries the phase, and loading it makes the structure follow the file in both
    directions.

    Attributes:
        task: What the networks are judged by.
        unsaved: Whether some are in no file yet.
    """

    task: Task

    def reset(self) -> None:
        """Drop the spiking networks: the ANN is about to change."""
        super().reset()
        self.unsaved = False
        self.ann_metric = self._metric(1)
        self.snn_metrics = nn.ModuleDict()
        self.results: list[Result] = []

    def follow(self, data: Any) -> None:
        """Judge by the labels of a data module, or where it has none by the ANN's answers."""
        labelled = bool(getattr(data, "labelled", True))
        if labelled == self.task.labelled:
            return
        self.task.labelled = labelled
        self.ann_metric = self._metric(1)
        for key, variant in self.variants.items():
            self.snn_metrics[key] = self._metric(variant.timesteps)

    def structure(
        self,
        example_input: Tensor,
        outputs: int | None = None,
        *,
        functions: Functions = "refuse",
        max_pooling: MaxPooling = "sums",
    ) -> SpikingNetwork:
        """The ANN with neurons in place, their thresholds not set.

        Args:
            example_input: One input.
            outputs: How many outputs the data asks for, from `Task.outputs_of`; None if unknown.
            functions: What becomes of functions that are not linear, see `convert`.
            max_pooling: What becomes of max poolings that spikes reach, see `convert`.

        Raises:
            UserError: The ANN does not convert, or does not fit the inputs, the task or the data.
        """
        graph = trace(self.ann, example_input, functions=functions)
        name = name_of(self.ann)
        if max_pooling == "refuse":
            refuse_max_pooling(graph, name=name)
        snn = prepare(graph, example_input, timesteps=1, functions=functions)
        warn_of_halves(self.ann)
        found = graph(prepared(example_input, next(graph.parameters())))
        if not isinstance(found, Tensor):
            raise UserError(
                f"{name}.forward returns {form_of(found)}; say which of it is the answer, such as "
                f"--model.output {next(iter(named_outputs(found)))}."
            )
        self.task.check_outputs(found.shape, outputs, name=name)
        return snn

    def convert(self, structure: SpikingNetwork, variants: Iterable[Variant]) -> None:
        """Build one spiking network for each variant.

        Linear layers are shared, but for those of networks whose weights a calibration changes.
        """
        self.adopt(structure, variants)
        self.phase = "converted"

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

    def adopt(self, first: SpikingNetwork, variants: Iterable[Variant]) -> None:
        """Take in a network for each variant, and a metric, where the module is."""
        super().adopt(first, variants)
        for variant in self.variants.values():
            self.snn_metrics[variant.key] = self._metric(variant.timesteps)
        self.snns.to(self.device)

    def _metric(self, timesteps: int) -> StepMetric:
        """A metric where the module is: it may be made in the middle of a run."""
        return self.task.metric(timesteps).to(self.device)

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
        self.restore(checkpoint)

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
