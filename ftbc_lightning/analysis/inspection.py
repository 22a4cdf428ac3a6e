"""Look at a network before conversion: what each node becomes, or why it cannot."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, fx, nn

from ftbc_lightning.graph import operators
from ftbc_lightning.graph.batch_axis import MIXES, WAY_OUT, mixing_nodes
from ftbc_lightning.graph.batch_norm import FOLDED
from ftbc_lightning.graph.encoding import is_encoder
from ftbc_lightning.graph.functions import Functions
from ftbc_lightning.graph.shapes import is_number
from ftbc_lightning.graph.tracing import trace
from ftbc_lightning.graph.two_sided import WRITTEN
from ftbc_lightning.graph.wrappers import name_of
from ftbc_lightning.snn.neurons.settings import PLAIN_NEURONS, NeuronSettings
from ftbc_lightning.snn.threshold_folding import weights_behind

Scope = Literal["channel", "layer"]


BOTH_SIGNS = "the sum of its two IF neurons, one for each sign"
FRONT = "kept: computed once, before the first layer"
ON_MEAN = "kept: computed on the mean over the steps"
FUNCTION = "taken over what has arrived so far: no spikes, one evaluation a step, counters"
ENCODER = "encoder: a neuron with spikes of both signs"
POOL_IN_TIME = "maximum of sums in time: needs a counter at each position"


@dataclass(frozen=True)
class Row:
    """One node of the report.

    Attributes:
        node: Its path in the network, or its name in the graph.
        kind: Its type.
        becomes: What stands in its place in the spiking network; empty if nothing can.
        threshold: "channel" or "layer" for a neuron, else empty.
        calls: How often the network uses the same module.
        way_out: For a node that cannot be converted, what to do.
        spikes: For a neuron, whether its spikes can be 0 and 1 on the wire, or where not.
    """

    node: str
    kind: str
    becomes: str
    threshold: str = ""
    calls: int = 1
    way_out: str = ""
    spikes: str = ""


@dataclass(frozen=True)
class Inspection:
    """The report on a network.

    Attributes:
        network: Its type.
        rows: One for each node, in the order in which values reach them.
    """

    network: str
    rows: tuple[Row, ...]

    @property
    def refused(self) -> tuple[Row, ...]:
        """The nodes that cannot be converted."""
        return tuple(row for row in self.rows if not row.becomes)

    @property
    def neurons(self) -> int:
        """How many layers of neurons there would be."""
        return sum(bool(row.threshold) for row in self.rows)

    @property
    def convertible(self) -> bool:
        """Whether the network can be converted."""
        return not self.refused and self.neurons > 0

    @property
    def verdict(self) -> str:
        """The answer in one line."""
        if self.refused:
            return f"{self.network} converts: no, {len(self.refused)} nodes stand in the way."
        if not self.neurons:
            return f"{self.network} converts: no, it has no ReLU to turn into neurons."
        return f"{self.network} converts: yes, {self.neurons} layers of neurons."


def inspect(
    network: nn.Module,
    example_input: Tensor | None = None,
    *,
    scope: Scope = "channel",
    neurons: NeuronSettings = PLAIN_NEURONS,
    functions: Functions = "refuse",
) -> Inspection:
    """Say of every node what it becomes, or why it cannot be converted.

    Args:
        network: The ANN; it stays untouched.
        example_input: `[B, ...]`, for a network that asks for the shape of its input; what mixes
            the samples of a batch is found with it alone.
        scope: Whether thresholds would be per channel or per layer.
        neurons: Which neurons it would have.
        functions: What would become of functions that are not linear, see `convert`.

    Returns:
        The report.

    Raises:
        UserError: The network cannot be traced.

    >>> print(inspect(nn.Sequential(nn.Linear(2, 2), nn.GELU(), nn.Linear(2, 2))).verdict)
    Sequential converts: no, 1 nodes stand in the way.
    """
    graph = trace(network, example_input, functions=functions)
    calls: dict[str, int] = {}
    for node in graph.graph.nodes:
        if node.op == "call_module":
            calls[str(node.target)] = calls.get(str(node.target), 0) + 1
    taken = functions != "refuse"
    roles = operators.roles(graph, functions=taken)
    mixing: list[fx.Node] = []
    if example_input is not None:
        mixing = mixing_nodes(graph, example_input, functions=taken)
    rows = [*_nodes(graph, roles, calls, scope, mixing, neurons), *_folded(graph)]
    return Inspection(name_of(network), tuple(rows))


def _nodes(
    graph: fx.GraphModule,
    roles: dict[fx.Node, operators.Role],
    calls: dict[str, int],
    scope: Scope,
    mixing: list[fx.Node],
    neurons: NeuronSettings,
) -> Iterator[Row]:
    plain = neurons == PLAIN_NEURONS
    becomes = {
        "neuron": "IF neuron" if plain else f"neuron ({neurons.name})",
        "linear": "kept",
        "pool": "kept",
        "front": FRONT,
        "tail": ON_MEAN,
        "function": FUNCTION,
        "refused": "",
    }
    in_time = operators.pools_in_time(graph)
    for node, role in roles.items():
        path, kind = operators.path_and_kind(node, graph)
        if node in mixing and role != "refused":
            yield Row(path, kind, "", way_out=f"it {MIXES}. {WAY_OUT}")
            continue
        if role not in becomes:
            continue
        known = POOL_IN_TIME if node in in_time else ENCODER if is_encoder(node) else becomes[role]
        yield Row(
            node=path,
            kind=kind,
            becomes=BOTH_SIGNS if WRITTEN in node.meta and role == "linear" else known,
            threshold=scope if role == "neuron" else "",
            calls=calls.get(str(node.target), 1),
            way_out=operators.advice(node, graph) if role == "refused" else "",
            spikes=_spikes(node, graph, neurons) if role == "neuron" else "",
        )


def _spikes(neuron: fx.Node, graph: fx.GraphModule, neurons: NeuronSettings) -> str:
    """What `fold_thresholds` will do with the threshold on each way out of a neuron."""
    ways = {user: weights_behind(user, graph) for user in neuron.users}
    held = [user.name for user, ends in ways.items() if ends is None and not is_number(user)]
    if held:
        return f"theta stays before {', '.join(held)}"
    return f"-{neurons.levels} to {neurons.levels}" if is_encoder(neuron) else neurons.values


def _folded(graph: fx.GraphModule) -> Iterator[Row]:
    """Batch norms that are no longer in the graph, because they were folded."""
    for path, kind in graph.meta[FOLDED].items():
        yield Row(path, kind, "folded into weights")
