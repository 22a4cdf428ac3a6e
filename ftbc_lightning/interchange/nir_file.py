"""NIR: the graph that other simulators and chips read, and what it cannot say in its metadata.

Every operation becomes a primitive that each importer knows: `Conv2d`, `Affine`, `Flatten`, `IF`,
and several edges into one node, which are added. Average pooling and a factor for each channel are
convolutions with a diagonal of weights (not depthwise ones: sinabs and snnTorch do not read
groups); taking every second pixel, padding with channels and concatenation are 1x1 convolutions
with weights 0 and 1.

Neurons with a leak are `LIF` nodes, and a leaky integrator `LI` reads the output. NIR's equation,

    tau dv/dt = (v_leak - v) + R I,   in steps of dt:   v <- v + dt / tau * (v_leak - v + R I)

is u = leak * v + x for dt / tau = 1 - leak, R = tau / dt and v_leak = 0. Here the leak acts after
the reset, v = leak * (u - theta * s): the same, with NIR's v as it is before the leak.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ftbc_lightning.errors import UserError, imported
from ftbc_lightning.files.whole_file import write_whole
from ftbc_lightning.interchange.description import Description, Operation, is_encoder
from ftbc_lightning.interchange.neuron_kind import NeuronKind
from ftbc_lightning.interchange.nir_metadata import DT, graph_metadata
from ftbc_lightning.interchange.operation_set import LATER
from ftbc_lightning.interchange.unit_threshold import Bias, unit_thresholds

WHY_NOT = {
    "max_pool": "there is none for it; train with average pooling",
    **dict.fromkeys(("reshape", "permute"), "it changes the axes of a sample"),
    **dict.fromkeys(LATER, "it belongs to functions that are not linear"),
}
"""Why an operation has no primitive, by kind."""


class _NoPrimitive(Exception):
    """Why an operation has no place in NIR."""


def write_nir(description: Description, path: Path, *, bias: Bias) -> None:
    """Write a network as a NIR graph in HDF5.

    Args:
        description: Of the network.
        path: The file.
        bias: See `ftbc_lightning.interchange.unit_threshold.unit_thresholds`.

    Raises:
        UserError: The library is missing, the neurons have a sign or several levels, or
            operations have no primitive; all are named.
    """
    _refuse_neurons(description.kind())
    nir = imported("nir", "The format nir needs", "export")
    graph = nir_graph(unit_thresholds(description, bias=bias), bias=bias)

    def write(beside: Path) -> None:
        nir.write(beside, graph)
        _take_away_resets(beside)

    write_whole(path, write)


def _take_away_resets(path: Path) -> None:
    """Delete v_reset, which nir 1.0.8 writes as 0: what it reads where there is none.

    nir 1.0.4, which sinabs holds to, refuses a file with it.
    """
    import h5py

    with h5py.File(path, "r+") as file:
        for node in file["node/nodes"].values():
            node.pop("v_reset", None)


def nir_graph(description: Description, *, bias: Bias) -> Any:
    """The `nir.NIRGraph` of a network whose thresholds are 1."""
    import nir

    kind = description.kind()
    _refuse_neurons(kind)
    writer = _Writer(description)
    refused = []
    for operation in description.operations:
        try:
            writer.write(operation)
        except _NoPrimitive as reason:
            refused.append(f"{operation.name} ({operation.kind}): {reason}")
            writer.gives[operation.name] = []
    if refused:
        raise UserError(
            f"NIR has no primitive for {len(refused)} of the operations: {'; '.join(refused)}. "
            "Replace them, or export to another format."
        )
    metadata = graph_metadata(description, bias)
    try:
        return nir.NIRGraph(nodes=writer.nodes, edges=writer.edges, metadata=metadata)
    except ValueError as error:
        raise UserError(
            f"nir takes the shapes of this network for others than they are ({error}): it knows no "
            "kernels that are not square and no groups. Export to another format."
        ) from error


def _refuse_neurons(kind: NeuronKind) -> None:
    if kind.signed or kind.levels > 1:
        raise UserError(
            f"NIR has no neuron that fires {kind.values()} in a step, as those of this network do "
            f"(neuron {kind.name}, levels {kind.levels}). Convert with neuron if and levels 1, or "
            "export to safetensors, onnx or torch_export."
        )


class _Writer:
    """Makes nodes and edges; node names sort in the order of computation, as files are read."""

    def __init__(self, description: Description) -> None:
        self.leak, self.timesteps = description.kind().leak, description.timesteps
        self.shapes = {operation.name: operation.shape for operation in description.operations}
        self.nodes: dict[str, Any] = {}
        self.edges: list[tuple[str, str]] = []
        self.gives: dict[str, list[str]] = {}

    def write(self, operation: Operation) -> None:
        """Add the nodes of one operation and note those whose sum is its output."""
        if operation.kind == "add":
            terms = [name for source in operation.inputs for name in self.gives[source]]
            if len(set(terms)) < len(terms):
                raise _NoPrimitive("it adds a value to itself")
            self.gives[operation.name] = terms
            return
        kinds: dict[str, Callable[[Operation], list[str]]] = {
            "input": self._input,
            "output": self._output,
            "conv": self._conv,
            "linear": self._linear,
            "affine": self._affine,
            "avg_pool": self._avg_pool,
            "flatten": self._flatten,
            "pad": self._pad,
            "slice": self._slice,
            "concat": self._concat,
            "neuron": self._neuron,
        }
        if is_encoder(operation):
            raise _NoPrimitive("it is an encoder, whose spikes have either sign")
        if operation.kind not in kinds:
            raise _NoPrimitive(WHY_NOT.get(operation.kind, "there is none for it"))
        self.gives[operation.name] = kinds[operation.kind](operation)

    def _add(self, name: str, node: Any, sources: list[str]) -> list[str]:
        full = f"n{len(self.nodes):04d}_{name}"
        self.nodes[full] = node
        self.edges += [(source, full) for source in sources]
        return [full]

    def _input(self, operation: Operation) -> list[str]:
        import nir

        return self._add("input", nir.Input(input_type=np.array(operation.shape)), [])

    def _output(self, operation: Operation) -> list[str]:
        import nir

        node = nir.Output(output_type=np.array(operation.shape))
        return self._add("output", node, self._read_out(operation))

    def _read_out(self, operation: Operation) -> list[str]:
        """With a leak an `LI` node that holds, after the last step, the weighted mean.

        v = leak * v + (1 - leak) * R * x,   R = 1 / (1 - leak^T)
        """
        import nir

        sources = self.gives[operation.inputs[0]]
        if self.leak == 1 or not sources:
            return sources
        gain = 1 / (1 - self.leak**self.timesteps)
        node = nir.LI(**self._leaky(np.ones(operation.shape, dtype=np.float32), gain))
        return self._add("readout", node, sources)

    def _leaky(self, ones: Any, gain: float) -> dict[str, Any]:
        """What `LI` and `LIF` have in common: tau = dt / (1 - leak)."""
        return {"tau": ones * (DT / (1 - self.leak)), "r": ones * gain, "v_leak": 0 * ones}

    def _neuron(self, operation: Operation) -> list[str]:
        import nir

        metadata = {"reset": "subtract"} | {
            key: _array(operation.tensors[key]) for key in ("initial_membrane", "temporal_bias")
        }
        ones = np.ones(operation.shape, dtype=metadata["initial_membrane"].dtype)
        if self.leak == 1:
            node = nir.IF(r=ones, v_threshold=ones.copy(), metadata=metadata)
        else:
            metadata |= {"dt": DT, "initial_membrane": metadata["initial_membrane"] / self.leak}
            leaky = self._leaky(ones, 1 / (1 - self.leak))
            node = nir.LIF(**leaky, v_threshold=ones.copy(), metadata=metadata)
        return self._add(operation.name, node, self.gives[operation.inputs[0]])

    def _flatten(self, operation: Operation) -> list[str]:
        import nir

        before = {"input": np.array(self.shapes[operation.inputs[0]])}
        node = nir.Flatten(input_type=before, start_dim=0, end_dim=-1)
        return self._add(operation.name, node, self.gives[operation.inputs[0]])

    def _linear(self, operation: Operation) -> list[str]:
        if len(operation.shape) > 1:
            raise _NoPrimitive(
                "it maps the last of several axes, as adaptive pooling to a size that does not "
                "divide that of its input is written; choose a size of sample that it divides"
            )
        weight, bias = operation.tensors["weight"], operation.tensors["bias"]
        return self._map(operation, operation.inputs[0], weight=weight, bias=bias)

    def _conv(self, operation: Operation) -> list[str]:
        weight, bias = operation.tensors["weight"], operation.tensors["bias"]
        set_to = operation.attributes
        return self._map(operation, operation.inputs[0], weight=weight, bias=bias, **set_to)

    def _affine(self, operation: Operation) -> list[str]:
        scale, shift = operation.tensors["scale"], operation.tensors["shift"]
        return self._map(operation, operation.inputs[0], weight=scale.diag(), bias=shift)

    def _avg_pool(self, operation: Operation) -> list[str]:
        set_to, channels = operation.attributes, operation.shape[0]
        kernel = set_to["kernel"]
        if len(kernel) != 2:
            raise _NoPrimitive(f"it has {len(kernel)} axes")
        weight = torch.eye(channels)[:, :, None, None].expand(-1, -1, *kernel) / math.prod(kernel)
        return self._map(
            operation,
            operation.inputs[0],
            weight=weight,
            stride=set_to["stride"],
            padding=set_to["padding"],
        )

    def _pad(self, operation: Operation) -> list[str]:
        channels, *spatial = operation.attributes["pad"]
        if any(before != after for before, after in spatial):
            raise _NoPrimitive("it pads one side more than the other")
        weight = _selection(self.shapes[operation.inputs[0]][0], operation.shape[0], -channels[0])
        padding = [before for before, _ in spatial]
        return self._map(operation, operation.inputs[0], weight=weight, padding=padding)

    def _slice(self, operation: Operation) -> list[str]:
        before = self.shapes[operation.inputs[0]]
        (first, _, step), *spatial = operation.attributes["slices"]
        for (start, stop, _), size in zip(spatial, before[1:], strict=True):
            if start or stop != size:
                raise _NoPrimitive("it crops samples")
        weight = _selection(before[0], operation.shape[0], first, step)
        stride = [skip for _, _, skip in spatial]
        return self._map(operation, operation.inputs[0], weight=weight, stride=stride)

    def _concat(self, operation: Operation) -> list[str]:
        if operation.attributes["axis"] != 1:
            raise _NoPrimitive("it joins along another axis than channels")
        made: list[str] = []
        offset = 0
        for source in operation.inputs:
            channels = self.shapes[source][0]
            weight = _selection(channels, operation.shape[0], -offset)
            made += self._map(operation, source, weight=weight)
            offset += channels
        return made

    def _map(
        self,
        operation: Operation,
        source: str,
        *,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = (1, 1),
        padding: Any = (0, 0),
        dilation: Any = (1, 1),
        groups: int = 1,
    ) -> list[str]:
        """An `Affine` for vectors, a `Conv2d` for samples."""
        import nir

        before = self.shapes[source]
        bias = weight.new_zeros(len(weight)) if bias is None else bias
        if len(before) == 1:
            if weight.ndim > 2:
                raise _NoPrimitive("it acts on more than one axis")
            node = nir.Affine(weight=_array(weight), bias=_array(bias))
            return self._add(operation.name, node, self.gives[source])
        if len(before) != 3:
            raise _NoPrimitive(f"its input has {len(before) - 1} axes beside the channels")
        if weight.ndim == 2:
            weight = weight[:, :, None, None]
        node = nir.Conv2d(
            input_shape=tuple(before[1:]),
            weight=_array(weight),
            stride=tuple(stride),
            padding=tuple(padding),
            dilation=tuple(dilation),
            groups=groups,
            bias=_array(bias),
        )
        return self._add(operation.name, node, self.gives[source])


def _selection(inputs: int, outputs: int, offset: int, step: int = 1) -> Tensor:
    """Weights `[outputs, inputs]` that make output o the input offset + step * o, or 0.

    >>> _selection(2, 3, -1).tolist()
    [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]
    """
    wanted = offset + step * torch.arange(outputs)
    return (wanted[:, None] == torch.arange(inputs)).float()


def _array(values: Tensor) -> Any:
    return values.detach().cpu().float().numpy()
