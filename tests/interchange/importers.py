"""Other programs' modules for the nodes of a NIR graph, run as NIR defines it.

sinabs and snnTorch make a module of each node. Their common loader (nirtorch 2.0.2) runs a chain,
but not a sum: it goes depth first and misses the second term, or hands it over as a second
argument. So the edges are followed here: in the order of the names, edges into one node added.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tests.reference.nir_reader import clocked


class ImportedGraph:
    """A graph with one module a node, run step by step; counts the spikes of each neuron."""

    def __init__(self, graph: Any, module: Callable[[Any], nn.Module | None]) -> None:
        import nir

        self.edges = graph.edges
        self.order = sorted(graph.nodes)
        self.modules = {name: module(graph.nodes[name]) for name in self.order}
        kinds = nir.IF | nir.LIF
        self.neurons = [name for name in self.order if isinstance(graph.nodes[name], kinds)]
        self.metadata = {name: graph.nodes[name].metadata for name in self.neurons}

    def run(
        self, images: Tensor, timesteps: int, *, clock: bool = False
    ) -> tuple[list[int], Tensor]:
        """Spikes of each layer of neurons over all steps, and the mean output."""
        spikes = dict.fromkeys(self.neurons, 0)
        total = torch.zeros(())
        for step in range(timesteps):
            values = {self.order[0]: clocked(images, step, timesteps) if clock else images}
            for name in self.order[1:]:
                terms = [values[source] for source, target in self.edges if target == name]
                value = terms[0] if len(terms) == 1 else torch.stack(terms).sum(0)
                made = self.modules[name]
                value = value if made is None else made(value)
                values[name] = value = value[0] if isinstance(value, tuple) else value
                if name in spikes:
                    spikes[name] += int(value.sum())
            total = total + values[self.order[-1]]
        return list(spikes.values()), total / timesteps


def by_sinabs(graph: Any, batch: int, *, as_imported: bool) -> ImportedGraph:
    """The modules that sinabs makes; unless `as_imported`, with one spike a step and no floor."""
    import sinabs.layers
    import sinabs.nir
    from sinabs.activation import SingleSpike

    made = ImportedGraph(graph, lambda node: sinabs.nir._import_sinabs_module(node, batch, None))
    for module in made.modules.values():
        if isinstance(module, sinabs.layers.IAFSqueeze) and not as_imported:
            module.spike_fn, module.min_v_mem = SingleSpike, None
    return made


def by_snntorch(graph: Any, *, as_imported: bool) -> ImportedGraph:
    """The modules that snnTorch makes; unless `as_imported`, IF without leak, LIF with soft reset.

    It makes nothing of an LI node, so that what the graph gives is what goes into it.
    """
    import nir
    import snntorch
    from snntorch.import_nir import _nir_to_snntorch_module

    made = ImportedGraph(graph, _nir_to_snntorch_module)
    for name, module in made.modules.items():
        if isinstance(module, snntorch.Leaky):
            if not as_imported:
                module.reset_mechanism = "subtract"
            if not as_imported and isinstance(graph.nodes[name], nir.IF):
                module.beta = torch.tensor(1.0)
            made.modules[name] = _Stateful(module)
    return made


class _Stateful(nn.Module):
    """Keeps the membrane that a neuron of snnTorch gives back."""

    def __init__(self, neuron: nn.Module) -> None:
        super().__init__()
        self.neuron = neuron
        self.membrane: Tensor | None = None

    def forward(self, current: Tensor) -> Tensor:
        membrane = torch.zeros_like(current) if self.membrane is None else self.membrane
        spikes, self.membrane = self.neuron(current, membrane)
        return spikes
