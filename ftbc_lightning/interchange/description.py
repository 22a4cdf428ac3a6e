"""A spiking network as a list of operations from a small closed set: what files hold.

Every operation maps arrays `[B, ...]` of one time step to one array `[B, ...]`. Shapes are those of
one sample; axes count the batch axis as 0. The closed set:

| op | attributes | tensors | output |
|---|---|---|---|
| `input` | | | the sample, the same at every step |
| `conv` | `stride`, `padding`, `dilation`, `groups` | `weight [O, I/groups, ...]`, `bias [O]` | |
| `linear` | | `weight [O, I]`, `bias [O]` | over the last axis |
| `affine` | | `scale [C]`, `shift [C]` | `scale * x + shift` for each channel (axis 1) |
| `avg_pool` | `kernel`, `stride`, `padding` | | mean of each window, padding counted as 0 |
| `max_pool` | `kernel`, `stride`, `padding`, `dilation`, `ceil_mode`, `in_time` | | see below |
| `add` | | | the sum of its inputs, all of one shape |
| `concat` | `axis` | | |
| `flatten`, `reshape` | | | to `shape`, row by row |
| `permute` | `axes` | | |
| `pad` | `pad`: `[before, after]` for each axis but the batch | | zeros around |
| `slice` | `slices`: `[start, stop, step]` for each axis but the batch | | |
| `neuron` | | `threshold [C]`, `initial_membrane [C]`, `temporal_bias [T, C]` | spikes 0 and 1 |
| `output` | | | the logits of this step |

A neuron carries its membrane, which begins at `initial_membrane`, from step to step:

    u = v + x + temporal_bias[t];   s = 1 if u >= threshold else 0;   v = u - threshold * s

A `max_pool` with `in_time` carries S, the sum of its inputs so far, and passes on how much the
maximum of S has grown: `max(S + x) - max(S)`; without it (before the first spike) it is an ordinary
one. Its padding never wins. Paddings are those before each axis; what is needed after it follows
from `shape`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ftbc_lightning.errors import UserError
from ftbc_lightning.version import __version__

FORMAT = "ftbc-snn"
FORMAT_VERSION = 1

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "input": (),
    "conv": ("stride", "padding", "dilation", "groups"),
    "linear": (),
    "affine": (),
    "avg_pool": ("kernel", "stride", "padding"),
    "max_pool": ("kernel", "stride", "padding", "dilation", "ceil_mode", "in_time"),
    "add": (),
    "concat": ("axis",),
    "flatten": (),
    "reshape": (),
    "permute": ("axes",),
    "pad": ("pad",),
    "slice": ("slices",),
    "neuron": (),
    "output": (),
}
"""The closed set: each operation with the names of its attributes."""

TENSORS: dict[str, tuple[str, ...]] = {
    "conv": ("weight", "bias"),
    "linear": ("weight", "bias"),
    "affine": ("scale", "shift"),
    "neuron": ("threshold", "initial_membrane", "temporal_bias"),
}
"""The tensors of each operation that has any."""

NEURON = {
    "equations": [
        "u = v + x + temporal_bias[t]",
        "s = 1 if u >= threshold else 0",
        "v = u - threshold * s",
    ],
    "order": ["charge", "bias", "fire", "reset"],
    "reset": "subtract",
    "initial_membrane": "v before step 0",
    "output": "s, 0 or 1: thresholds are folded into the weights behind the neuron",
}


@dataclass(frozen=True)
class Operation:
    """One operation of a network.

    Attributes:
        name: Unique in its network.
        kind: One of `ATTRIBUTES`.
        inputs: Names of the operations whose outputs it reads, in order.
        shape: Of its output for one sample.
        attributes: Plain numbers and lists, by name.
        tensors: Weights, by name.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    shape: tuple[int, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Description:
    """A network: operations in an order in which they can be computed, and T."""

    operations: tuple[Operation, ...]
    timesteps: int

    def named(self) -> dict[str, Operation]:
        """The operations by name."""
        return {operation.name: operation for operation in self.operations}

    def readers(self) -> dict[str, list[str]]:
        """For each operation the names of those that read its output, once for each reading."""
        found: dict[str, list[str]] = {operation.name: [] for operation in self.operations}
        for operation in self.operations:
            for source in operation.inputs:
                found[source].append(operation.name)
        return found

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor under `operation.tensor`, each in memory of its own."""
        return {
            f"{operation.name}.{key}": tensor.detach().cpu().contiguous().clone()
            for operation in self.operations
            for key, tensor in operation.tensors.items()
        }

    def header(self) -> dict[str, Any]:
        """All but the tensors, in values that JSON knows."""
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "program": f"ftbc-lightning {__version__}",
            "timesteps": self.timesteps,
            "coding": "the sample is the input of every step",
            "readout": "logits after step t: mean of the output over steps 0 to t",
            "neuron": NEURON,
            "operations": [
                {
                    "name": operation.name,
                    "op": operation.kind,
                    "inputs": list(operation.inputs),
                    "shape": list(operation.shape),
                    **operation.attributes,
                    **{key: f"{operation.name}.{key}" for key in operation.tensors},
                }
                for operation in self.operations
            ],
        }


def from_header(
    header: Mapping[str, Any], tensors: Mapping[str, Tensor], where: str
) -> Description:
    """Rebuild a description from what `header` and `tensors` gave.

    Raises:
        UserError: The header is of another format or version, or names what is not there.
    """
    if header.get("format") != FORMAT:
        raise UserError(f"{where} holds no spiking network: its header has no format {FORMAT!r}.")
    if header["format_version"] > FORMAT_VERSION:
        raise UserError(
            f"{where} has format version {header['format_version']}, this program knows "
            f"{FORMAT_VERSION}; install a newer ftbc-lightning to read it."
        )
    operations = []
    try:
        for entry in header["operations"]:
            kind = entry["op"]
            operations.append(
                Operation(
                    entry["name"],
                    kind,
                    tuple(entry["inputs"]),
                    tuple(entry["shape"]),
                    {key: entry[key] for key in ATTRIBUTES[kind]},
                    {key: tensors[entry[key]] for key in TENSORS.get(kind, ())},
                )
            )
        return Description(tuple(operations), int(header["timesteps"]))
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{where} is damaged: its header and its tensors do not fit ({error}). Export it again."
        ) from error
