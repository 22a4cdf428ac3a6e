"""Which neurons a network has, and the equations and the readout that files state for them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ftbc_lightning.errors import UserError
from ftbc_lightning.snn.network import SpikingNetwork
from ftbc_lightning.snn.neurons import check_neuron

SIGNS = {"if": False, "signed": True}
"""The neurons that files hold, and whether they fire negative spikes."""


@dataclass(frozen=True)
class NeuronKind:
    """What all neurons of a network have in common.

    Attributes:
        signed: Whether a spike may be negative and take back one that was sent.
        levels: K, how many spikes a neuron emits in one step at most.
        leak: What is left of the membrane after a step; the readout has it too.

    >>> NeuronKind().plain, NeuronKind(leak=0.8).unusual()
    (True, {'leak': 0.8})
    """

    signed: bool = False
    levels: int = 1
    leak: float = 1.0

    @property
    def plain(self) -> bool:
        """Whether they fire 0 or 1 and have no leak."""
        return self == NeuronKind()

    @property
    def name(self) -> str:
        """The name of the neuron model."""
        return "signed" if self.signed else "if"

    def unusual(self) -> dict[str, Any]:
        """The attributes that are not those of a plain neuron."""
        usual = asdict(NeuronKind())
        return {key: value for key, value in asdict(self).items() if value != usual[key]}

    def facts(self) -> dict[str, Any]:
        """Equations, order and units of a neuron whose threshold is folded into the weights."""
        leaks = self.leak != 1
        return {
            "equations": ["u = v + x + temporal_bias[t]", self.fire(), self._reset()],
            "order": ["charge", "bias", "fire", "reset", *(["leak"] if leaks else [])],
            "reset": "subtract",
            "initial_membrane": "v before step 0",
            "output": f"s, {self.values()}: thresholds are folded into the weights behind the "
            "neuron",
        }

    def encoder_facts(self) -> dict[str, str]:
        """What an encoder does otherwise than a neuron."""
        low = -self.levels
        return {
            "equation": f"s = floor(u / threshold) within {low} and {self.levels}",
            "output": f"s, {low} to {self.levels}",
        }

    def readout(self, output: str = "the output") -> str:
        """How the logits come from what the output layer gives at each step."""
        if self.leak == 1:
            return f"logits after step t: mean of {output} over steps 0 to t"
        value = output.removeprefix("the ")
        return (
            f"logits after step t: r / n, r = {self.leak} * r + {value}, n = {self.leak} * n + 1, "
            "both 0 before step 0"
        )

    def fire(self) -> str:
        """The equation of s."""
        if self.signed:
            return (
                f"s = floor(u / threshold) within -{self.levels} and {self.levels}, and at least "
                "-(sum of s over the steps before)"
            )
        if self.levels > 1:
            return f"s = floor(u / threshold) within 0 and {self.levels}"
        return "s = 1 if u >= threshold else 0"

    def _reset(self) -> str:
        left = "u - threshold * s"
        return f"v = {left}" if self.leak == 1 else f"v = {self.leak} * ({left})"

    def values(self) -> str:
        """What s can be."""
        if self.signed:
            return f"-{self.levels} to {self.levels}"
        return "0 or 1" if self.levels == 1 else f"0 to {self.levels}"


def kind_of(snn: SpikingNetwork) -> NeuronKind:
    """The kind of a network's neurons.

    Raises:
        UserError: They are of a model that no file holds.
    """
    if snn.neuron not in SIGNS:
        raise UserError(
            f"The neurons of this network are {snn.neuron}, and the formats hold "
            f"{' and '.join(SIGNS)} alone; export another network."
        )
    return NeuronKind(SIGNS[snn.neuron], snn.levels, snn.leak)


def kind_from(attributes: Mapping[str, Any]) -> NeuronKind:
    """The kind of a neuron with these attributes; a plain one has none.

    Raises:
        UserError: There is no such neuron.
    """
    kind = NeuronKind(**attributes)
    check_neuron(kind.name, kind.levels, kind.leak)
    return kind
