"""The pictures of a run, each with what it says and a text for those who cannot see it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from ftbc_lightning.report.figures import (
    bias_figure,
    bias_map_figure,
    energy_figure,
    steps_figure,
)
from ftbc_lightning.report.layer_figures import (
    error_figure,
    last_steps,
    membrane_figure,
    step_map_figure,
    threshold_figure,
)
from ftbc_lightning.report.measure import MEASURES, measure_of
from ftbc_lightning.report.rows import Measurements, Result, StepRow
from ftbc_lightning.report.style import label_of

PICTURES = {
    "error_by_layer": "Where the error is",
    "error_and_rates_by_step": "Errors and firing rates, step by step",
    "bias_curves": "The temporal bias",
    "bias_maps": "The temporal bias of each channel",
    "thresholds": "Thresholds against activations",
    "membranes": "Membranes",
}
"""The pictures of the layers and their titles, in the order in which they are read; before them
comes `energy`."""


@dataclass(frozen=True)
class Picture:
    """A figure with its words.

    Attributes:
        name: Of its file.
        title: A heading.
        reading: How to read it, for everybody.
        alternative: Its content in a sentence, in place of the picture.
        figure: The figure.
    """

    name: str
    title: str
    reading: str
    alternative: str
    figure: Figure


def steps_picture(results: Sequence[Result], steps: Sequence[StepRow]) -> Picture:
    """The measure by T and by step."""
    measure = measure_of(results)
    rows = [row for row in results if row.split == "val"]
    said = ", ".join(
        f"{label_of(row.method)}{f' T={row.timesteps}' if row.timesteps else ''} "
        f"{measure.said(row.accuracy)}"
        for row in rows
    )
    return Picture(
        f"{measure.name}_by_step",
        f"{measure.heading} by time steps",
        "Left: each T with a network of its own (of an anytime run: its first steps). Right: the "
        "networks for the largest T, stopped after each step.",
        f"Line chart of validation {measure.label} by time steps: {said}.",
        steps_figure(results, steps, split="val"),
    )


def layer_pictures(found: Measurements) -> Iterator[Picture]:
    """The pictures of the layers, in the order in which they are read."""
    before, after = found.of(calibrated=False), found.of(calibrated=True)
    label, timesteps = label_of(found.method), found.timesteps
    measure = MEASURES[found.measure]
    if found.operations:
        said = ", ".join(
            f"{label_of(row.method)} T={row.timesteps} {row.energy_once:.3g} nJ"
            for row in found.operations
        )
        yield Picture(
            "energy",
            f"{measure.heading} against energy",
            "An estimate from counted operations, without memory traffic. "
            f"{'Higher' if measure.higher_is_better else 'Lower'} and further left is better. The "
            "quantised ANN is what a spiking network has to beat: one pass with activations of "
            "ceil(log2(T + 1)) bits, each of which costs an addition.",
            f"{measure.heading} against estimated energy for a sample: {said}.",
            energy_figure(found.operations, measure, split="val"),
        )
    if after:
        errors = ", ".join(f"{name} {row.total:.2f}" for name, row in last_steps(after).items())
        yield Picture(
            "error_by_layer",
            PICTURES["error_by_layer"],
            "Layers are ranked by what they add to the error of those that feed them. How far the "
            "mean output of each layer is from the ANN's activation. Clipping is what "
            "lies above the threshold, quantisation what the grid threshold/T cannot show, "
            "unevenness the rest: spikes at the wrong time, and errors of earlier layers.",
            f"Error of each layer after {timesteps} steps, calibrated: {errors}.",
            error_figure(before, after),
        )
        yield Picture(
            "error_and_rates_by_step",
            PICTURES["error_and_rates_by_step"],
            "Layers from top to bottom. A layer that stays bright in the error maps does not "
            "catch up with more steps.",
            f"Heat maps of error and firing rate, layers by time step, T = {timesteps}.",
            step_map_figure(before, after),
        )
    if found.biases:
        last = max(row.step for row in found.biases)
        yield Picture(
            "bias_curves",
            PICTURES["bias_curves"],
            "What calibration adds to the membrane at each step, over the channels of a layer. "
            "Large values at the first steps mean that spikes came too early or too late there.",
            f"Quantile bands of bias over threshold by time step for each layer, T = {last}.",
            bias_figure(found.biases, title=f"{label}, T = {last}: bias over channels"),
        )
        yield Picture(
            "bias_maps",
            PICTURES["bias_maps"],
            "The same, channel by channel. A bright or dark line across all steps is a channel "
            "that a static bias would mend as well.",
            f"Heat maps of bias over threshold, channels by time step, T = {last}.",
            bias_map_figure(found.biases, title=f"{label}, T = {last}: bias of each channel"),
        )
    if found.histograms:
        yield Picture(
            "thresholds",
            PICTURES["thresholds"],
            "What lies right of the dashed line is clipped. Much there: raise the threshold. "
            "Nothing near the line: the grid is coarser than it has to be.",
            f"Histograms of the ANN's activations in units of the threshold, T = {timesteps}.",
            threshold_figure(found.histograms, timesteps=timesteps),
        )
        yield Picture(
            "membranes",
            PICTURES["membranes"],
            "What is left after the reset. Between 0 and 1 nothing is lost; above 1 a neuron had "
            "more to say than one spike a step lets it, below 0 it has fired more than its input "
            "so far asks for.",
            f"Histograms of membrane over threshold at chosen steps, T = {timesteps}.",
            membrane_figure(found.histograms, network=f"{label_of(found.shown)}, T = {timesteps}"),
        )
