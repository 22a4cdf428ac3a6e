"""One draw of calibration samples, and what all networks of an ANN have in common on it."""

import time

from torch import Tensor, fx

from ftbc_lightning.calibration import CalibrationSamples, CalibrationTrace, calibrate
from ftbc_lightning.calibration.settings import CalibrationSettings
from ftbc_lightning.snn.conversion import choose_thresholds, observe_activations, put_thresholds
from ftbc_lightning.snn.network import SpikingNetwork
from ftbc_lightning.snn.statistics import Batches, Progress, Reduce, identity, silent
from ftbc_lightning.snn.thresholds import ThresholdSettings


class CalibrationDraw:
    """Calibrates networks of one ANN for several T and methods on the same samples.

    Computed once: the statistics of the ANN's activations, for each T the thresholds, and for the
    methods that read no more of the ANN the means of its activations.

    Args:
        reference: The traced ANN.
        structure: One of its networks.
        batches: The calibration samples.
        thresholds: How thresholds are chosen.
        corrections: How corrections are found.
        reduce: Merges sums, counts and maxima over processes.
        progress: Told what is being done.
    """

    def __init__(
        self,
        reference: fx.GraphModule,
        structure: SpikingNetwork,
        batches: Batches,
        *,
        thresholds: ThresholdSettings,
        corrections: CalibrationSettings,
        reduce: Reduce = identity,
        progress: Progress = silent,
    ) -> None:
        self.reference, self.reduce, self.progress = reference, reduce, progress
        self.thresholds, self.corrections = thresholds, corrections
        began = time.perf_counter()
        self.statistics = observe_activations(
            reference, structure, batches, reduce=reduce, progress=progress
        )
        self.samples = CalibrationSamples(reference, batches, reduce=reduce)
        self._observed = time.perf_counter() - began
        self._chosen: dict[tuple[int, int], tuple[dict[str, Tensor], float]] = {}

    def calibrate(self, network: SpikingNetwork, method: str) -> tuple[CalibrationTrace, float]:
        """Set the thresholds of a network and calibrate it.

        Returns:
            How it went, and the seconds: its own, and those of the statistics and thresholds,
            which it has in common with others. The means are counted where they are found.
        """
        key = network.timesteps, network.levels
        if key not in self._chosen:
            began = time.perf_counter()
            theta = choose_thresholds(
                *(self.reference, network, self.statistics, self.thresholds),
                progress=self.progress,
            )
            self._chosen[key] = theta, time.perf_counter() - began
        theta, taken = self._chosen[key]
        began = time.perf_counter()
        put_thresholds(network, theta, self.thresholds)
        outcome = calibrate(
            *(self.reference, network, self.samples),
            method=method,
            reduce=self.reduce,
            progress=self.progress,
            **self.corrections.options(),
        )
        return outcome, self._observed + taken + time.perf_counter() - began
