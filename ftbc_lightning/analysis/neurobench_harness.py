"""NeuroBench's harness on a spiking network: its metrics, under its names (Yik et al., 2025)."""

import io
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn

from ftbc_lightning.errors import UserError, imported
from ftbc_lightning.graph.batch_norm import Transposed
from ftbc_lightning.graph.operators import layers_as_functions
from ftbc_lightning.snn.network import SpikingNetwork
from ftbc_lightning.snn.simulation import simulate
from ftbc_lightning.snn.threshold_folding import fold_thresholds

Correctness = Literal["ClassificationAccuracy", "MSE"]
"""NeuroBench's metrics of correctness that a network here can have."""

STATIC = ("ParameterCount", "Footprint", "ConnectionSparsity")
WORKLOAD = ("ActivationSparsity", "ActivationSparsityByLayer", "SynapticOperations")
"""Its metrics that say something of a network here. `MembraneUpdates` and `NeuronOperations` read
the membranes of snnTorch's neurons alone."""

SPIKES = "spikes"
"""Where the places at which spikes are watched lie in the graph, by the names of their neurons."""


class Spikes(nn.Identity):
    """A place behind a neuron at which NeuroBench watches what is emitted."""


class LastStep(nn.Module):
    """A spiking network as NeuroBench calls one: samples in, outputs after the last step out.

    Args:
        snn: The network.
    """

    def __init__(self, snn: SpikingNetwork) -> None:
        super().__init__()
        self.snn = snn

    def forward(self, images: Tensor) -> Any:
        """Outputs `[B, classes]`."""
        return simulate(self.snn, images)[-1]


class _Loader:
    """Batches with the lengths that the harness asks for.

    Args:
        batches: Samples and what is known of them, or None.
        count: How many samples.
        parts: How many batches.
        values: Whether what is known are numbers, `[B, outputs]`.
    """

    def __init__(
        self,
        batches: Iterable[tuple[Tensor, Tensor | None]],
        count: int,
        parts: int,
        *,
        values: bool,
    ) -> None:
        self.batches, self.dataset, self.parts, self.values = batches, range(count), parts, values

    def __len__(self) -> int:
        return self.parts

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for images, known in self.batches:
            labels = images.new_zeros(len(images)) if known is None else known
            yield images, labels.reshape(len(labels), -1) if self.values else labels


def imported_neurobench(part: str = "") -> Any:
    """The package, or one of its modules.

    Args:
        part: The module's path in the package.

    Raises:
        UserError: It is not installed.
    """
    package = imported("neurobench", "`ftbc benchmark` needs", "neurobench")
    if not part:
        return package
    return imported(f"neurobench.{part}", "`ftbc benchmark` needs", "neurobench")


def neurobench_results(
    snn: SpikingNetwork,
    batches: Iterable[tuple[Tensor, Tensor | None]],
    *,
    samples: int,
    parts: int,
    correctness: Correctness | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Run NeuroBench's harness on a network whose thresholds are folded into its weights.

    A spike is then a whole number on the wire. The samples are carried as `simulate` does, so what
    reads the sample itself is computed once.

    Args:
        snn: A network with thresholds set; left as it is.
        batches: Samples `[B, ...]` and labels, on the device of the network.
        samples: How many there are in all.
        parts: In how many batches.
        correctness: NeuroBench's metric against the labels; none if None.
        progress: Whether the harness shows its bar.

    Returns:
        What the harness returns: a number, or a dictionary of numbers, by the name of each metric.

    Raises:
        UserError: NeuroBench is not installed, or one of its metrics failed.
    """
    static, workload, models, benchmarks = (
        imported_neurobench(part)
        for part in ("metrics.static", "metrics.workload", "models", "benchmarks")
    )
    asked = [*WORKLOAD, *([correctness] if correctness else [])]
    metrics = [
        [getattr(static, name) for name in STATIC],
        [getattr(workload, name) for name in asked],
    ]
    model = models.TorchModel(LastStep(watched(snn)))
    model.add_activation_module(Spikes)
    answer = _values if correctness == "MSE" else _class
    harness = benchmarks.Benchmark(model, None, [], [answer], metrics)
    loader = _Loader(batches, samples, parts, values=correctness == "MSE")
    said = io.StringIO()
    with ExitStack() as silenced:
        silenced.enter_context(redirect_stdout(said))
        if not progress:
            silenced.enter_context(redirect_stderr(io.StringIO()))
        results: dict[str, Any] = harness.run(dataloader=loader)
    _check(said.getvalue())
    return results


@torch.no_grad()
def watched(snn: SpikingNetwork) -> SpikingNetwork:
    """The network with thresholds folded, and behind each neuron a place where spikes are seen.

    Args:
        snn: A network with thresholds set; left as it is.
    """
    folded, _ = fold_thresholds(snn)
    layers = folded.layers
    for name in folded.neurons():
        _insert(layers, next(node for node in layers.graph.nodes if node.name == name))
    layers.recompile()
    return folded


def left_out(snn: SpikingNetwork) -> list[str]:
    """Layers with weights that NeuroBench counts no operations of."""
    modules = [path for path, one in snn.layers.named_modules() if isinstance(one, Transposed)]
    return [*modules, *layers_as_functions(snn.layers)]


def _insert(layers: fx.GraphModule, neuron: fx.Node) -> None:
    readers = list(neuron.users)
    layers.add_submodule(f"{SPIKES}.{neuron.name}", Spikes())
    with layers.graph.inserting_after(neuron):
        place = layers.graph.call_module(f"{SPIKES}.{neuron.name}", (neuron,))
    for reader in readers:
        reader.replace_input_with(neuron, place)


def _class(outputs: Tensor) -> Tensor:
    return outputs.argmax(1)


def _values(outputs: Tensor) -> Tensor:
    return outputs.reshape(len(outputs), -1)


def _check(said: str) -> None:
    """Raise `UserError` where a metric failed: the harness says so and goes on with a 0."""
    failed = [line for line in said.splitlines() if line.startswith("Error running")]
    if failed:
        raise UserError(f"NeuroBench could not measure this network. It says: {failed[0]}")
