"""The spiking network: the ANN's graph with an integrate-and-fire neuron at each activation."""

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn

from ftbc_lightning.errors import UserError
from ftbc_lightning.graph.encoding import is_encoder
from ftbc_lightning.graph.functions import Functions
from ftbc_lightning.graph.operators import NEURONS, is_neuron
from ftbc_lightning.graph.propagation import Plan, prepared
from ftbc_lightning.graph.tracing import trace
from ftbc_lightning.graph.wrappers import name_of
from ftbc_lightning.snn.neurons import TwoSidedNeuron, check_neuron, model_named
from ftbc_lightning.snn.neurons.integrate_and_fire import IFNeuron, check_timesteps
from ftbc_lightning.snn.neurons.settings import NeuronSettings
from ftbc_lightning.snn.simulation import simulate

MAP_FORMAT = 1
"""Version of the conversion map; a file with a higher one was written by a later program."""


class SpikingNetwork(nn.Module):
    """An ANN's graph in which every activation is an `IFNeuron`.

    Linear operations are those of the ANN with batch norm folded. Several networks, for several T
    or calibrations, may share them: only the neurons are a network's own.

    Attributes:
        layers: The graph; its nodes have the names they have in `ftbc_lightning.graph.trace`.
        timesteps: T, the number of steps that the temporal biases cover.
        shapes: For each neuron the shape of its current for one sample, `(C, ...)`.
        input_shape: The shape of one sample; None if a file of an earlier program has left it out.
        input_dtype: The type of its values: the network's, or integers such as token numbers.
        neuron: The name of the neuron model.
        levels: K, how many spikes a neuron emits in one step at most.
        leak: What is left of the membranes after a step.

    Args:
        graph: A traced ANN, from `ftbc_lightning.graph.trace`. Its modules are shared, not copied.
        shapes: For each node that becomes a neuron the shape of its input without the batch axis.
        timesteps: T, at least 1.
        input_shape: The shape of one sample, `(C, H, W)`.
        input_dtype: The type of its values; float32 stands for the network's own.
        neuron: The name of the neuron model, in `ftbc_lightning.snn.neurons.NEURON_MODELS`.
        levels: K, 1 to 127.
        leak: Above 0 and at most 1.
        functions: What became of functions that are not linear, see `convert`.

    Raises:
        UserError: T, K or the leak is out of range, or there is no such neuron.
    """

    def __init__(
        self,
        graph: fx.GraphModule,
        shapes: Mapping[str, Sequence[int]],
        *,
        timesteps: int,
        input_shape: Sequence[int] | None = None,
        input_dtype: torch.dtype = torch.float32,
        neuron: str = "if",
        levels: int = 1,
        leak: float = 1.0,
        functions: Functions = "refuse",
    ) -> None:
        super().__init__()
        check_timesteps(timesteps)
        check_neuron(neuron, levels, leak)
        self.neuron, self.levels, self.leak = neuron, levels, float(leak)
        self.timesteps, self.functions = timesteps, functions
        self.input_shape = None if input_shape is None else tuple(input_shape)
        self.input_dtype = input_dtype
        self.shapes = {name: tuple(shape) for name, shape in shapes.items()}
        activation, encoder = (
            partial(model, timesteps=timesteps, levels=levels, leak=self.leak)
            for model in (model_named(neuron), TwoSidedNeuron)
        )
        self.layers = _with_neurons(graph, self.shapes, activation, encoder)
        self.requires_grad_(False)
        self.eval()

    def plan(self) -> Plan:
        """What can be known of the graph before any value flows, for one use of it."""
        return Plan(self.layers)

    def neurons(self) -> dict[str, IFNeuron]:
        """The neurons by node name, from the input to the output."""
        return {name: getattr(self.layers.get_submodule(NEURONS), name) for name in self.shapes}

    @property
    def example_input(self) -> Tensor | None:
        """One empty input, if its shape is known."""
        if self.input_shape is None:
            return None
        return torch.zeros(1, *self.input_shape, dtype=self.input_dtype)

    def traced(self, ann: nn.Module) -> fx.GraphModule:
        """The ANN as the graph that this network was made from.

        Raises:
            UserError: It was made from another ANN, or the ANN cannot be traced.
        """
        graph = trace(ann, self.example_input, functions=self.functions)
        names = {node.name for node in graph.graph.nodes}
        other = [f"has no {name}" for name in self.shapes if name not in names]
        own = dict(self.layers.named_parameters())
        other += [
            f"has {name} of shape {list(value.shape)} instead of {list(own[name].shape)}"
            for name, value in graph.named_parameters()
            if name in own and own[name].shape != value.shape
        ]
        if other:
            raise UserError(
                f"The spiking network is a conversion of another network: {name_of(ann)} "
                f"{other[0]}. Give the network that was converted."
            )
        return graph

    @torch.inference_mode(False)
    def correct_membranes(self) -> None:
        """Make room for a correction of v0 at every neuron; where there is room, it is kept."""
        for name, neuron in self.neurons().items():
            if neuron.membrane_correction is None:
                like = neuron.threshold
                neuron.membrane_correction = like.new_zeros(self.shapes[name])

    @property
    def corrects_membranes(self) -> bool:
        """Whether every neuron has a correction of v0 of its own."""
        return all(n.membrane_correction is not None for n in self.neurons().values())

    def prepared(self, images: Tensor) -> Tensor:
        """Inputs on the device and in the precision of the network; whole numbers stay so."""
        return prepared(images, next(iter(self.neurons().values())).threshold)

    def check_thresholds(self) -> None:
        """Raise `UserError` if a threshold has not been set."""
        neurons = self.neurons()
        # All of them in one question: a GPU would be waited for at each.
        if torch.cat([neuron.threshold for neuron in neurons.values()]).isnan().any():
            missing = [name for name, neuron in neurons.items() if neuron.threshold.isnan().any()]
            raise UserError(
                f"The thresholds of {len(missing)} of {len(self.shapes)} neurons are not set "
                f"(first: {missing[0]}): the network is converted but not calibrated. Run "
                "`trainer.validate`, or `convert` with calibration batches, first."
            )

    def forward(self, images: Tensor) -> Any:
        """Simulate all T steps; see `ftbc_lightning.snn.simulation.simulate`.

        Args:
            images: `[B, ...]`, the analog input, the same at every step.

        Returns:
            Logits after each step, `[T, B, classes]`.
        """
        return simulate(self, images)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "SpikingNetwork":
        """Stay in float32 at least: membranes add up over the steps."""

        def whole(values: Tensor) -> Tensor:
            moved = fn(values)
            halved = moved.is_floating_point() and moved.dtype.itemsize < 4
            return values.to(moved.device) if halved else moved

        super()._apply(whole, recurse)  # type: ignore[no-untyped-call]
        return self

    def train(self, mode: bool = True) -> "SpikingNetwork":
        """Stay in evaluation mode: a converted network has nothing to train."""
        return super().train(False)


def _with_neurons(
    ann: fx.GraphModule,
    shapes: Mapping[str, Sequence[int]],
    activation: Callable[[int], IFNeuron],
    encoder: Callable[[int], IFNeuron],
) -> fx.GraphModule:
    """Copy the graph, share its modules, and put a neuron at each node in `shapes`.

    A new neuron lies where the one before it lies, or else the weights; what is shared stays.
    """
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    output = graph.graph_copy(ann.graph, copies)
    graph.output(output)
    members: dict[str, Any] = {}
    weight = next(ann.parameters(), torch.empty(0))
    for node in graph.nodes:
        if node.name in shapes:
            old = _member(ann, str(node.target)) if is_neuron(node) else None
            like = weight if old is None else old.threshold
            encodes = is_encoder(node) or isinstance(old, TwoSidedNeuron)
            neuron = (encoder if encodes else activation)(shapes[node.name][0])
            members[f"{NEURONS}.{node.name}"] = neuron.to(device=like.device, dtype=like.dtype)
            node.op, node.target = "call_module", f"{NEURONS}.{node.name}"
            node.args, node.kwargs = (node.all_input_nodes[0],), {}
        elif node.op in ("call_module", "get_attr"):
            members[node.target] = _member(ann, node.target)
    return fx.GraphModule(members, graph)


def _member(module: nn.Module, path: str) -> Any:
    for name in path.split("."):
        module = getattr(module, name)
    return module


def conversion_map(snn: SpikingNetwork) -> dict[str, Any]:
    """Write down what was converted, in plain numbers, strings, lists and dictionaries.

    Together with the ANN it rebuilds the structure of the network without data
    (`ftbc_lightning.snn.conversion.reconvert`); the values come from the state dict.

    Returns:
        `{"format": 1, "timesteps": T, "input": [C, H, W], "neurons": {name: [C, ...]},
        "corrects_membranes": bool}`, `"input_dtype"` where inputs are integers,
        and `"neuron"`, `"levels"`, `"leak"` and `"functions"` where they are others than "if",
        1, 1 and "refuse".

    >>> from ftbc_lightning import convert
    >>> ann = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> conversion_map(convert(ann, torch.rand(1, 2), [torch.rand(8, 2)], timesteps=4))
    {'format': 1, 'timesteps': 4, 'input': [2], 'neurons': {'_1': [3]}, 'corrects_membranes': False}
    """
    integers = not snn.input_dtype.is_floating_point
    return {
        "format": MAP_FORMAT,
        "timesteps": snn.timesteps,
        "input": None if snn.input_shape is None else list(snn.input_shape),
        "neurons": {name: list(shape) for name, shape in snn.shapes.items()},
        "corrects_membranes": snn.corrects_membranes,
        **{
            name: value
            for name, value in (("neuron", snn.neuron), ("levels", snn.levels), ("leak", snn.leak))
            if value not in ("if", 1)
        },
        **({} if snn.functions == "refuse" else {"functions": snn.functions}),
        **({"input_dtype": str(snn.input_dtype).removeprefix("torch.")} if integers else {}),
    }


def sibling(
    snn: SpikingNetwork,
    *,
    timesteps: int,
    own_layers: bool = False,
    neurons: NeuronSettings | None = None,
) -> SpikingNetwork:
    """A network for another T with neurons of its own.

    Args:
        snn: Its structure is copied.
        timesteps: T of the new network.
        own_layers: Copy the linear layers, because their weights will differ; else they are
            shared with `snn`.
        neurons: Which neurons it has; those of `snn` if None.
    """
    own = {"neuron": snn.neuron, "levels": snn.levels, "leak": snn.leak}
    layers = copy.deepcopy(snn.layers) if own_layers else snn.layers
    return SpikingNetwork(
        layers,
        snn.shapes,
        timesteps=timesteps,
        input_shape=snn.input_shape,
        input_dtype=snn.input_dtype,
        functions=snn.functions,
        **(own if neurons is None else neurons.at(timesteps)),
    )


def own_copy(snn: SpikingNetwork) -> SpikingNetwork:
    """The same network with layers and neurons of its own."""
    twin = sibling(snn, timesteps=snn.timesteps, own_layers=True)
    if snn.corrects_membranes:
        twin.correct_membranes()
    for neuron, original in zip(twin.neurons().values(), snn.neurons().values(), strict=True):
        neuron.load_state_dict(original.state_dict())
    return twin


@torch.no_grad()
def shortened(snn: SpikingNetwork, timesteps: int) -> SpikingNetwork:
    """The first steps of a network as a network of their own, with the same thresholds and layers.

    Args:
        snn: A calibrated network; left as it is, and its linear layers are shared.
        timesteps: How many of its steps, 1 to T.

    >>> from ftbc_lightning import calibrate, convert, simulate
    >>> ann = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> samples = torch.rand(8, 2)
    >>> snn = convert(ann, samples[:1], [samples], timesteps=4)
    >>> _ = calibrate(ann, snn, [samples])
    >>> torch.equal(shortened(snn, 2)(samples), simulate(snn, samples, 2))
    True
    """
    short = sibling(snn, timesteps=timesteps)
    if snn.corrects_membranes:
        short.correct_membranes()
    for neuron, original in zip(short.neurons().values(), snn.neurons().values(), strict=True):
        state = original.state_dict()
        neuron.load_state_dict({**state, "temporal_bias": state["temporal_bias"][:timesteps]})
    return short


@torch.no_grad()
def without_temporal_bias(snn: SpikingNetwork) -> SpikingNetwork:
    """The same network with every temporal bias and correction of v0 at zero.

    It shares the linear layers of `snn`, whose weights stay as a calibration has left them.

    Args:
        snn: A calibrated network; left as it is.

    Returns:
        The uncalibrated network: same thresholds, same v0, b = 0.

    >>> from ftbc_lightning import calibrate, convert
    >>> ann = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> samples = torch.rand(8, 2)
    >>> snn = convert(ann, samples[:1], [samples], timesteps=4)
    >>> _ = calibrate(ann, snn, [samples])
    >>> bool(without_temporal_bias(snn).neurons()["_1"].temporal_bias.any())
    False
    """
    twin = shortened(snn, snn.timesteps)
    for neuron in twin.neurons().values():
        neuron.clear_correction()
    return twin
