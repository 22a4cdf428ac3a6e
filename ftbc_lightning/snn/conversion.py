"""Turn an ANN into a spiking network: structure first, then thresholds."""

import copy
import warnings
from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch
from torch import Tensor, fx, nn

from ftbc_lightning.errors import UserError, check_choice
from ftbc_lightning.graph import operators
from ftbc_lightning.graph.functions import Functions
from ftbc_lightning.graph.tracing import trace, warn_of_halves
from ftbc_lightning.graph.wrappers import name_of
from ftbc_lightning.snn.convertible import (
    activation_nodes,
    check_convertible,
    neuron_shapes,
    refuse_max_pooling,
)
from ftbc_lightning.snn.network import MAP_FORMAT, SpikingNetwork
from ftbc_lightning.snn.neurons.integrate_and_fire import HalfThreshold, check_timesteps
from ftbc_lightning.snn.statistics import (
    ActivationStatistics,
    Batches,
    Progress,
    Reduce,
    identity,
    observe,
    silent,
)
from ftbc_lightning.snn.thresholds import (
    Scope,
    ThresholdSettings,
    choose,
    rule_named,
)
from ftbc_lightning.snn.thresholds.settings import UPDATES

MaxPooling = Literal["sums", "refuse"]
"""What becomes of a max pooling that spikes reach."""


def convert(
    ann: nn.Module,
    example_input: Tensor,
    batches: Batches,
    *,
    timesteps: int,
    threshold_rule: str = "mse",
    scope: Scope = "channel",
    half_threshold: HalfThreshold = "initial",
    percent: float = 99.9,
    balancing_updates: int = UPDATES,
    neuron: str = "if",
    levels: int = 1,
    leak: float = 1.0,
    max_pooling: MaxPooling = "sums",
    functions: Functions = "refuse",
    reduce: Reduce = identity,
    progress: Progress = silent,
) -> SpikingNetwork:
    """Convert an ANN into a spiking network with thresholds set and temporal biases at zero.

    Args:
        ann: The network; it stays untouched, training flags included.
        example_input: One or more inputs `[B, ...]`, of which only the shape matters.
        batches: Calibration inputs, from the training split.
        timesteps: T, at least 1.
        threshold_rule: How theta is chosen; this and the next four are described in
            `ftbc_lightning.snn.thresholds.ThresholdSettings`.
        scope: See there.
        half_threshold: See there.
        percent: See there.
        balancing_updates: See there.
        neuron: The neuron model by its name: "if", integrate and fire, or "signed".
        levels: K, how many spikes a neuron emits in one step at most.
        leak: What is left of a membrane after a step, above 0 and at most 1.
        max_pooling: What becomes of a max pooling that spikes reach: "sums" takes the maximum
            over what has arrived so far, which is the ANN's in the mean but needs a counter at
            each position; "refuse" raises.
        functions: What becomes of functions that are not linear, such as GELU, gates, norms and
            attention: "refuse" raises; "in_time" takes them over what has arrived so far, exact in
            the mean, without spikes; "encoded" also puts neurons before each layer that would read
            no spikes else. See `ftbc_lightning.graph.functions`.
        reduce: Merges sums and maxima over processes.
        progress: Told what is being done.

    Returns:
        A new module beside the ANN.

    Raises:
        UserError: Nodes that cannot be converted (all of them are named), T below 1, an empty
            calibration set, values that are not finite.

    >>> ann = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> snn = convert(ann, torch.rand(1, 2), [torch.rand(64, 2)], timesteps=4)
    >>> snn(torch.rand(5, 2)).shape
    torch.Size([4, 5, 2])
    """
    check_choice("max_pooling", max_pooling, get_args(MaxPooling))
    settings = ThresholdSettings(
        threshold_rule=threshold_rule,
        scope=scope,
        half_threshold=half_threshold,
        percent=percent,
        balancing_updates=balancing_updates,
    )
    if max_pooling == "refuse":
        refuse_max_pooling(trace(ann, example_input, functions=functions), name=name_of(ann))
    snn = prepare(
        *(ann, example_input),
        timesteps=timesteps,
        neuron=neuron,
        levels=levels,
        leak=leak,
        functions=functions,
    )
    statistics = observe_activations(ann, snn, batches, reduce=reduce, progress=progress)
    set_thresholds(ann, snn, statistics, settings, progress=progress)
    return snn


@torch.inference_mode(False)
@torch.no_grad()
def prepare(
    ann: nn.Module,
    example_input: Tensor,
    *,
    timesteps: int,
    neuron: str = "if",
    levels: int = 1,
    leak: float = 1.0,
    functions: Functions = "refuse",
) -> SpikingNetwork:
    """Build the structure alone: neurons in place, thresholds not set yet (NaN)."""
    check_timesteps(timesteps)
    graph = _convertible(ann, example_input, functions)
    warn_of_halves(ann)
    return SpikingNetwork(
        graph,
        neuron_shapes(graph, example_input),
        timesteps=timesteps,
        input_shape=example_input.shape[1:],
        input_dtype=_input_dtype(example_input.dtype),
        neuron=neuron,
        levels=levels,
        leak=leak,
        functions=functions,
    )


def _convertible(
    ann: nn.Module, example_input: Tensor | None, functions: Functions
) -> fx.GraphModule:
    """The traced ANN, which has been found to convert, with the roles of its nodes marked."""
    check_choice("functions", functions, get_args(Functions))
    graph = trace(ann, example_input, functions=functions)
    graph = copy.deepcopy(graph) if graph is ann else graph
    check_convertible(graph, name=name_of(ann), functions=functions)
    operators.mark_roles(graph, functions=functions != "refuse")
    return graph


@torch.inference_mode(False)
@torch.no_grad()
def reconvert(ann: nn.Module, conversion_map: Mapping[str, Any]) -> SpikingNetwork:
    """Rebuild the structure of a converted network from its ANN and its map, without data.

    Args:
        ann: A network of the same architecture; its weights are overwritten by the state dict
            that is loaded next.
        conversion_map: From `ftbc_lightning.snn.network.conversion_map`.

    Raises:
        UserError: The map is of a later format, or of another network.

    >>> from ftbc_lightning import conversion_map, convert
    >>> ann = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> snn = convert(ann, torch.rand(1, 2), [torch.rand(8, 2)], timesteps=4)
    >>> twin = reconvert(ann, conversion_map(snn))
    >>> _ = twin.load_state_dict(snn.state_dict())
    >>> twin.timesteps
    4
    """
    written = conversion_map.get("format", 0)
    if written != MAP_FORMAT:
        newer = written > MAP_FORMAT
        raise UserError(
            f"The conversion map has format {written}, this program knows {MAP_FORMAT}; "
            + ("install a newer ftbc-lightning to read it." if newer else "convert the ANN again.")
        )
    dtype = _input_dtype(getattr(torch, str(conversion_map.get("input_dtype", "float32")), None))
    example = _example(conversion_map.get("input"), dtype)
    functions = conversion_map.get("functions", "refuse")
    graph = _convertible(ann, example, functions)
    shapes = {name: tuple(shape) for name, shape in conversion_map["neurons"].items()}
    found = activation_nodes(graph)
    if found != list(shapes):
        differing = sorted(set(found) ^ set(shapes)) or found
        raise UserError(
            f"The file holds a conversion of another network: it has {len(shapes)} neurons, "
            f"{name_of(ann)} has {len(found)} (differing: {', '.join(differing[:5])}). "
            "Give the network that was converted"
            + (", or convert it again with this version." if functions == "encoded" else ".")
        )
    snn = SpikingNetwork(
        graph,
        shapes,
        timesteps=conversion_map["timesteps"],
        input_shape=conversion_map.get("input"),
        input_dtype=dtype,
        neuron=str(conversion_map.get("neuron", "if")),
        levels=conversion_map.get("levels", 1),
        leak=conversion_map.get("leak", 1.0),
        functions=functions,
    )
    if conversion_map.get("corrects_membranes", False):
        snn.correct_membranes()
    return snn


def _input_dtype(found: Any) -> torch.dtype:
    """The integer type of an input; float32 for every other, which follows the network's."""
    integers = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool)
    return found if found in integers else torch.float32


def _example(shape: Any, dtype: torch.dtype) -> Tensor | None:
    return None if shape is None else torch.zeros(1, *shape, dtype=dtype)


def observe_activations(
    ann: nn.Module,
    snn: SpikingNetwork,
    batches: Batches,
    *,
    reduce: Reduce = identity,
    progress: Progress = silent,
) -> dict[str, ActivationStatistics]:
    """Gather the statistics that every threshold rule reads, in one pass of the ANN."""
    channels = {name: shape[0] for name, shape in snn.shapes.items()}
    shape = snn.input_shape
    return observe(
        snn.traced(ann), channels, batches, shape=shape, reduce=reduce, progress=progress
    )


@torch.no_grad()
def set_thresholds(
    ann: nn.Module,
    snn: SpikingNetwork,
    statistics: Mapping[str, ActivationStatistics],
    settings: ThresholdSettings | None = None,
    *,
    progress: Progress = silent,
) -> None:
    """Set theta and the half threshold of every neuron in place; clears the temporal biases.

    The arguments and what is raised are those of `choose_thresholds`.
    """
    settings = ThresholdSettings() if settings is None else settings
    put_thresholds(
        snn, choose_thresholds(ann, snn, statistics, settings, progress=progress), settings
    )


def put_thresholds(
    snn: SpikingNetwork, chosen: Mapping[str, Tensor], settings: ThresholdSettings
) -> None:
    """Give every neuron the theta that `choose_thresholds` has found for it."""
    for name, neuron in snn.neurons().items():
        neuron.set_threshold(chosen[name], half_threshold=settings.half_threshold)


@torch.no_grad()
def choose_thresholds(
    ann: nn.Module,
    snn: SpikingNetwork,
    statistics: Mapping[str, ActivationStatistics],
    settings: ThresholdSettings | None = None,
    *,
    progress: Progress = silent,
) -> dict[str, Tensor]:
    """Find theta of every neuron; the same for all networks with as many steps and levels.

    Args:
        ann: The network that was converted.
        snn: Its conversion; it stays as it is.
        statistics: From `observe_activations`.
        settings: How; the defaults if None.
        progress: Told what is being done.

    Returns:
        For each neuron theta, `[C]`.

    Raises:
        UserError: The rule is unknown, or needs what the ANN has not.
    """
    settings = ThresholdSettings() if settings is None else settings
    rule = rule_named(settings.threshold_rule)
    graph = snn.traced(ann)
    nodes = {node.name: node for node in graph.graph.nodes}
    thresholds = {}
    for index, name in enumerate(snn.shapes):
        progress(f"thresholds: {settings.threshold_rule}", index, len(snn.shapes))
        thresholds[name] = choose(
            settings.threshold_rule,
            statistics[name],
            name=operators.describe(nodes[name], graph),
            timesteps=snn.timesteps,
            levels=snn.levels,
            settings=settings,
            ceiling=operators.ceiling(nodes[name], graph),
            learned=operators.learned_threshold(nodes[name], graph),
        )
    if rule.unconverged is not None:
        tops = {name: snn.levels * theta for name, theta in thresholds.items()}
        found = rule.unconverged(statistics, tops, scope=settings.scope)
        if found:
            _warn_of_unconverged(found, len(thresholds), settings)
    return thresholds


def _warn_of_unconverged(found: dict[str, float], layers: int, settings: ThresholdSettings) -> None:
    listed = ", ".join(f"{name} ({share:.1%} clipped)" for name, share in found.items())
    warnings.warn(
        f"The {settings.threshold_rule} thresholds of {len(found)} of {layers} layers have not "
        f"converged after {settings.balancing_updates} updates: {listed}. Give more "
        "(balancing_updates), or choose another threshold rule.",
        stacklevel=3,
    )
