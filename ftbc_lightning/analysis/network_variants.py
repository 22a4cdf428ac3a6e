"""The spiking networks of a run, one for each method and T, and how a checkpoint lists them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from ftbc_lightning.calibration import Stages, parse_method
from ftbc_lightning.errors import UserError, is_count
from ftbc_lightning.files.checkpoint import CHECKPOINT_KEY
from ftbc_lightning.snn.neurons.settings import PLAIN_NEURONS, NeuronSettings

DAMAGE = (LookupError, TypeError, ValueError, AttributeError, RuntimeError, ArithmeticError)
"""What reading a description raises where a value is of another kind, a tensor for instance."""

Phase = Literal["ann", "converted", "calibrated"]


@dataclass(frozen=True)
class Variant:
    """One spiking network among those that are compared.

    Attributes:
        method: How it is calibrated, stages joined by `+`.
        timesteps: T.
        seconds: What its thresholds and calibration took; 0 until they are done.
        serves: Every T that the network stands for, read after that step; T alone if empty.
        neurons: Which neurons it has.
        labels: How many labelled samples a training after the calibration has used.
        weight_bits: How many bits its weights are rounded to; None if they are not.
    """

    method: str
    timesteps: int
    seconds: float = 0.0
    serves: tuple[int, ...] = ()
    neurons: NeuronSettings = PLAIN_NEURONS
    labels: int = 0
    weight_bits: int | None = None

    @classmethod
    def of(cls, saved: Mapping[str, Any]) -> "Variant":
        """A variant from the entry of a checkpoint."""
        return cls(
            saved["method"],
            saved["timesteps"],
            float(saved["seconds"]),
            tuple(saved.get("serves", ())),
            NeuronSettings.of(saved.get("neurons", {})),
            int(saved.get("labels", 0)),
            saved.get("weight_bits"),
        )

    def saved(self) -> dict[str, Any]:
        """The entry of a checkpoint, for `of`."""
        entry = {"method": self.method, "timesteps": self.timesteps, "seconds": self.seconds}
        neurons = self.neurons.written()
        more = {"neurons": neurons, "labels": self.labels, "weight_bits": self.weight_bits}
        return {**entry, "serves": self.serves, **{k: v for k, v in more.items() if v}}

    @property
    def reported(self) -> tuple[int, ...]:
        """The numbers of steps after which its accuracy is a result."""
        return self.serves or (self.timesteps,)

    @property
    def each(self) -> list["Variant"]:
        """One variant for every T that it stands for.

        >>> [variant.key for variant in Variant("exact", 4, serves=(2, 4)).each]
        ['snn_ftbc_exact_T2', 'snn_ftbc_exact_T4']
        """
        return [replace(self, timesteps=t, serves=()) for t in self.reported]

    @property
    def stages(self) -> Stages:
        """What its calibration consists of."""
        return parse_method(self.method)

    @property
    def own_layers(self) -> bool:
        """Whether it has linear layers of its own, with other weights than the ANN's."""
        changed = self.stages.weights is not None or self.stages.training is not None
        return changed or self.weight_bits is not None

    @property
    def neuron(self) -> str:
        """What results call its neurons, and its weights where they are rounded.

        >>> Variant("exact", 4).neuron, Variant("exact", 4, weight_bits=8).neuron
        ('if', 'if, 8-bit weights')
        """
        rounded = "" if self.weight_bits is None else f", {self.weight_bits}-bit weights"
        return self.neurons.name + rounded

    @property
    def name(self) -> str:
        """How the method is called in results, `snn_ftbc_exact`."""
        return self.stages.result_name

    @property
    def key(self) -> str:
        """Its name in the module, `snn_ftbc_exact_T4`."""
        return f"{self.name}_T{self.timesteps}"


def headline(variants: Iterable[Variant]) -> Variant:
    """The variant that stands for all: exact (else the last method) at the largest T.

    >>> headline([Variant("exact", 2), Variant("exact", 4), Variant("weights", 4)])
    Variant(method='exact', timesteps=4, ...)
    """
    found = list(variants)
    exact = [variant for variant in found if variant.method == "exact"]
    return max(exact or found[-1:], key=lambda variant: variant.timesteps)


def saved_networks(checkpoint: Mapping[str, Any]) -> tuple[Phase, list[dict[str, Any]]]:
    """The phase and the spiking networks that a checkpoint describes.

    Args:
        checkpoint: What was read; one without this package's part holds an ANN.

    Returns:
        "ann", "converted" or "calibrated", and for each network its `method`, `timesteps`,
        `seconds` and conversion `map`.

    Raises:
        UserError: The description is damaged, or a later program has written it.
    """
    saved = checkpoint.get(CHECKPOINT_KEY, {"phase": "ann", "networks": []})
    try:
        phase, networks = saved["phase"], list(saved["networks"])
        if phase not in get_args(Phase) or (phase == "ann") != (not networks):
            raise ValueError(f"phase {phase!r} with {len(networks)} networks")
        for entry in networks:
            _check_network(entry, checkpoint["state_dict"])
    except DAMAGE as error:
        raise UserError(
            f"The checkpoint's description of its spiking networks is damaged ({error}). Make it "
            "again with `ftbc calibrate` from the ANN's file."
        ) from error
    return phase, networks


def _check_network(entry: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    timesteps, structure = entry["timesteps"], entry["map"]
    try:
        parse_method(entry["method"])
    except UserError as error:
        raise UserError(
            f"The checkpoint has a network calibrated by {entry['method']!r}, which this program "
            "does not know; install a newer ftbc-lightning to read it."
        ) from error
    biases = {value.shape[0] for key, value in state.items() if key.endswith("temporal_bias")}
    if not is_count(timesteps) or not is_count(structure["timesteps"]):
        raise ValueError(f"T={timesteps}")
    if timesteps not in biases or structure["timesteps"] != timesteps:
        raise ValueError(f"no biases for T={timesteps}")
    float(entry["seconds"])
    if not (entry.get("labels", 0) == 0 or is_count(entry["labels"])):
        raise ValueError(f"{entry['labels']} labels")
    if not (entry.get("weight_bits") is None or is_count(entry["weight_bits"])):
        raise ValueError(f"weights of {entry['weight_bits']} bits")
    NeuronSettings.of(entry.get("neurons", {}))
    for served in entry.get("serves", ()):
        if not (is_count(served) and served <= timesteps):
            raise ValueError(f"T={served} served by a network for T={timesteps}")
    if structure.get("input") is not None and not all(map(is_count, structure["input"])):
        raise ValueError(f"input of shape {structure['input']}")
    for name, shape in structure["neurons"].items():
        if not all(map(is_count, shape)) or not shape:
            raise ValueError(f"shape {shape} of {name}")
