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
| `round` | | | the nearest integers, halves to even ones: only in files of integers |
| `output` | | | what the logits are the mean of |

A neuron carries its membrane, which begins at `initial_membrane`, from step to step:

    u = v + x + temporal_bias[t];   s = 1 if u >= threshold else 0;   v = u - threshold * s

Files of other neurons have format version 2, and these attributes where they are needed:

| op | attribute | else | meaning |
|---|---|---|---|
| `neuron` | `levels` | 1 | K: `s = floor(u / threshold)` within 0 and K |
| `neuron` | `signed` | false | within -K and K, and at least minus the sum of s so far |
| `neuron` | `leak` | 1 | `v = leak * (u - threshold * s)` |
| `max_pool` in time | `leak` | 1 | `max(leak * S + x) - leak * max(S)`, `S = leak * S + x` |
| `output` | `leak` | 1 | logits `r / n`, `r = leak * r + output`, `n = leak * n + 1`, both from 0 |

All neurons of a file are alike, and all its leaks are the same.

Files of integers (`ftbc_lightning.interchange.integers`) have format version 3 and an entry
`integers` in the header; a neuron has a tensor more, `unit [C]`.

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
from ftbc_lightning.interchange.neuron_kind import NeuronKind, kind_from
from ftbc_lightning.version import __version__

FORMAT = "ftbc-snn"
FORMAT_VERSION = 3
"""The highest that is read; a file of plain neurons is written as version 1, others as 2, and those
of integers as 3."""

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
    "round": (),
    "output": (),
}
"""The closed set: each operation with the names of its attributes."""

OPTIONAL: dict[str, dict[str, type]] = {
    "neuron": {"signed": bool, "levels": int, "leak": float},
    "max_pool": {"leak": float},
    "output": {"leak": float},
}
"""Attributes that are there where neurons are not plain, with the type of each: version 2."""

TENSORS: dict[str, tuple[str, ...]] = {
    "conv": ("weight", "bias"),
    "linear": ("weight", "bias"),
    "affine": ("scale", "shift"),
    "neuron": ("threshold", "initial_membrane", "temporal_bias"),
}
"""The tensors of each operation that has any."""

UNIT = "unit"
"""A tensor that neurons have besides, in files of integers."""


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
    """A network: operations in an order in which they can be computed, and T.

    Attributes:
        operations: In order.
        timesteps: T.
        weight_bits: Of a weight, where the network is one of integers; else None.
        shift: How many bits a membrane has below those of a weight.
    """

    operations: tuple[Operation, ...]
    timesteps: int
    weight_bits: int | None = None
    shift: int = 0

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

    def kind(self) -> NeuronKind:
        """Of its neurons.

        Raises:
            UserError: They differ, or there is no such neuron.
        """
        kinds = {kind_from(o.attributes) for o in self.operations if o.kind == "neuron"}
        leaks = {o.attributes.get("leak", 1.0) for o in self.operations if _reads_leak(o)}
        if len(kinds) > 1 or leaks - {kind.leak for kind in (kinds or {NeuronKind()})}:
            raise UserError(
                "The neurons, poolings and readout of a file must have one sign, number of levels "
                "and leak, and here they differ; export the network again."
            )
        return next(iter(kinds), NeuronKind())

    def version(self) -> int:
        """Of the format: the lowest that tells everything."""
        if any(operation.kind == "round" for operation in self.operations):
            return 3
        return 1 if self.kind().plain else 2

    def _integers(self) -> dict[str, Any]:
        if self.weight_bits is None:
            return {}
        return {
            "integers": {
                "weight_bits": self.weight_bits,
                "shift": self.shift,
                "unit": "what a neuron compares and adds up are integers; times its unit they are "
                "in the unit of the ANN's activation; weights count 2^shift units",
                "real": "the sample up to the first round, and logits behind the last affine",
            }
        }

    def header(self) -> dict[str, Any]:
        """All but the tensors, in values that JSON knows."""
        kind = self.kind()
        return {
            "format": FORMAT,
            "format_version": self.version(),
            "program": f"ftbc-lightning {__version__}",
            "timesteps": self.timesteps,
            "coding": "the sample is the input of every step",
            "readout": kind.readout(),
            "neuron": kind.facts(),
            **self._integers(),
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


def _reads_leak(operation: Operation) -> bool:
    return operation.kind == "output" or bool(operation.attributes.get("in_time"))


def _attributes(entry: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """The attributes of an operation of a header, with those that it may leave out."""
    attributes = {key: entry[key] for key in ATTRIBUTES[kind]}
    for key, of in OPTIONAL.get(kind, {}).items():
        if key in entry:
            attributes[key] = of(entry[key])
            if attributes[key] != entry[key]:
                raise ValueError(f"{key} is {entry[key]!r}")
    return attributes


def _tensors(entry: Mapping[str, Any], kind: str) -> tuple[str, ...]:
    """The names of the tensors of an operation of a header."""
    more = (UNIT,) if kind == "neuron" and UNIT in entry else ()
    return (*TENSORS.get(kind, ()), *more)


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
                    _attributes(entry, kind),
                    {key: tensors[entry[key]] for key in _tensors(entry, kind)},
                )
            )
        whole = header.get("integers", {})
        description = Description(
            tuple(operations),
            int(header["timesteps"]),
            whole.get("weight_bits"),
            int(whole.get("shift", 0)),
        )
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise UserError(
            f"{where} is damaged: its header and its tensors do not fit ({error}). Export it again."
        ) from error
    description.kind()
    return description
