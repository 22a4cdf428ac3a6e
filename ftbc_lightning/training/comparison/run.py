"""Calibrate and evaluate every method at every T over several calibration draws."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from ftbc_lightning.analysis.network_variants import Variant
from ftbc_lightning.report.comparison_rows import Row, RowFile
from ftbc_lightning.snn.network import SpikingNetwork, sibling
from ftbc_lightning.training.calibration_draw import CalibrationDraw
from ftbc_lightning.training.callbacks.ftbc import Settings
from ftbc_lightning.training.tasks import Task


@dataclass(frozen=True)
class Comparison:
    """What is compared, and on what.

    Attributes:
        reference: The traced ANN.
        structure: Its conversion without thresholds, whose linear layers are shared.
        variants: The networks to compare.
        settings: How thresholds are chosen and corrections found.
        draw: The calibration samples of a seed, in batches.
        images: The test samples and labels, in batches; iterated once a network.
        task: What the ANN was trained for, and by what networks are compared.
    """

    reference: fx.GraphModule
    structure: SpikingNetwork
    variants: Sequence[Variant]
    settings: Settings
    draw: Callable[[int], Sequence[Any]]
    images: Iterable[tuple[Tensor, Tensor | None]]
    task: Task

    def run(self, file: RowFile, *, seeds: int, told: Callable[[Row], None]) -> None:
        """Fill a file with the rows that it does not have.

        One network exists at a time: it is built, calibrated, evaluated and dropped. The ANN is
        evaluated once, and what networks have in common (`CalibrationDraw`) is found once a draw,
        and only where a row of that draw is missing.

        Args:
            file: Where rows are kept.
            seeds: How many draws: 0, 1 .. `seeds` - 1.
            told: Called with each new row.
        """
        if not file.has("ann", None, None):
            (reached,), n = self.evaluate(lambda x: self.reference(x).unsqueeze(0), 1)
            row = Row(
                *("test", "ann", None, reached, n, None, None),
                measure=self.task.measure.name,
                settings=file.fingerprint,
            )
            file.append(row)
            told(row)
        for seed in range(seeds):
            missing = [
                variant
                for variant in self.variants
                if not all(_has(file, variant, t, seed) for t in variant.reported)
            ]
            if not missing:
                continue
            draw = CalibrationDraw(
                *(self.reference, self.structure, self.draw(seed)),
                thresholds=self.settings,
                corrections=self.settings,
            )
            for variant in missing:
                network = self.network(variant)
                _, seconds = draw.calibrate(network, variant.method)
                curve, n = self.evaluate(network, variant.timesteps)
                rows = [
                    Row(
                        *("test", variant.name, t, curve[t - 1], n, seed),
                        seconds=round(seconds, 3),
                        neuron=variant.neuron,
                        measure=self.task.measure.name,
                        settings=file.fingerprint,
                    )
                    for t in variant.reported
                    if not _has(file, variant, t, seed)
                ]
                file.append(*rows)
                for row in rows:
                    told(row)

    def add(
        self,
        file: RowFile,
        trained: Mapping[Variant, SpikingNetwork],
        *,
        told: Callable[[Row], None],
    ) -> None:
        """Add networks that were trained after their calibration, in the place of earlier ones.

        Such a row is of no draw: it says what one training has reached, in how many seconds and
        with how many labels.

        Args:
            file: Where rows are kept.
            trained: The networks.
            told: Called with each new row.
        """
        for variant, network in trained.items():
            curve, n = self.evaluate(network.to(device_of(self.reference)), variant.timesteps)
            row = Row(
                *("test", variant.name, variant.timesteps, curve[-1], n, None),
                seconds=round(variant.seconds, 3),
                neuron=variant.neuron,
                labels=variant.labels,
                measure=self.task.measure.name,
                settings=file.fingerprint,
            )
            file.replace(row)
            told(row)

    def network(self, variant: Variant) -> SpikingNetwork:
        """The structure of a variant."""
        return sibling(
            self.structure,
            timesteps=variant.timesteps,
            own_layers=variant.own_layers,
            neurons=variant.neurons,
        )

    @torch.no_grad()
    def evaluate(
        self, network: Callable[[Tensor], Tensor], timesteps: int
    ) -> tuple[list[float], int]:
        """The measure after every step, and the number of samples."""
        metric = self.task.metric(timesteps).to(device_of(self.reference))
        for images, given in self.images:
            labels = self.task.truth(given, images, self.reference)
            self.task.judge(metric, network(images), labels, images)
        return metric.curve(), metric.samples


def device_of(module: nn.Module) -> torch.device:
    """Where its parameters are."""
    return next(module.parameters()).device


def _has(file: RowFile, variant: Variant, timesteps: int, seed: int) -> bool:
    return file.has(variant.name, timesteps, seed, variant.neuron)
