"""A spiking network as a list of operations from a small closed set: what files hold.

The set is `ftbc_lightning.interchange.operation_set`. Every operation maps arrays `[B, ...]` of one
time step to one array `[B, ...]`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ftbc_lightning.errors import UserError
from ftbc_lightning.interchange.neuron_kind import NeuronKind, kind_from
from ftbc_lightning.interchange.operation_set import (
    ATTRIBUTES,
    LATER,
    OPTIONAL,
    TENSORS,
    UNIT,
)
from ftbc_lightning.version import __version__

FORMAT = "ftbc-snn"
FORMAT_VERSION = 4
"""The highest that is read; a file of plain neurons is written as version 1, others as 2, those of
integers as 3, and those with functions or encoders as 4."""


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
        kinds = {kind_from(o.attributes) for o in self.operations if _is_plain_neuron(o)}
        encoders = {_encoder_kind(o) for o in self.operations if is_encoder(o)}
        leaks = {o.attributes.get("leak", 1.0) for o in self.operations if _reads_leak(o)}
        known = kinds or encoders or {NeuronKind()}
        alike = {(kind.levels, kind.leak) for kind in known | encoders}
        if len(known) > 1 or len(alike) > 1 or leaks - {kind.leak for kind in known}:
            raise UserError(
                "The neurons, functions, poolings and readout of a file must have one sign, number "
                "of levels and leak, and here they differ; export the network again."
            )
        return next(iter(known))

    def version(self) -> int:
        """Of the format: the lowest that tells everything."""
        if any(operation.kind in LATER or is_encoder(operation) for operation in self.operations):
            return 4
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
            **({"encoder": kind.encoder_facts()} if any(map(is_encoder, self.operations)) else {}),
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


def is_encoder(operation: Operation) -> bool:
    """Say whether an operation is a neuron for a value of either sign."""
    return bool(operation.attributes.get("two_sided"))


def _is_plain_neuron(operation: Operation) -> bool:
    return operation.kind == "neuron" and not is_encoder(operation)


def _encoder_kind(encoder: Operation) -> NeuronKind:
    return kind_from({key: v for key, v in encoder.attributes.items() if key != "two_sided"})


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
