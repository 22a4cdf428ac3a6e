"""Which neurons a network has: one object, read by the callback, `compare` and checkpoints."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ftbc_lightning.snn.neurons import check_neuron

PLAIN = "snn"
"""How networks of plain integrate-and-fire neurons begin in the names of results."""


def leak_of(timesteps: int) -> float:
    """The leak that `auto` takes for T steps: 1 - 0.6 / T, and none for one step.

    Found on selection samples of CIFAR-10 (RESULTS.md): 0.7, 0.85, 0.925, 0.9625 for T = 2, 4, 8,
    16. Fewer steps are worth a stronger leak, because the first spikes are the least informed.

    >>> [leak_of(timesteps) for timesteps in (1, 2, 4)]
    [1.0, 0.7, 0.85]
    """
    return 1.0 if timesteps == 1 else 1 - 0.6 / timesteps


@dataclass(frozen=True, kw_only=True)
class NeuronSettings:
    """Which neurons a network has.

    Args:
        neuron: The neuron model: "if", integrate and fire; "signed", which takes back with a
            negative spike what it has emitted too early.
        levels: How many spikes a neuron emits in one step at most.
        leak: What is left of a membrane after a step, above 0 and at most 1; "auto" is
            1 - 0.6 / T. Below 1 later steps count more, also in the readout.

    Raises:
        UserError: A setting is out of range.
    """

    neuron: str = "if"
    levels: int = 1
    leak: float | Literal["auto"] = 1.0

    def __post_init__(self) -> None:
        """Check what needs no data."""
        check_neuron(self.neuron, self.levels, self.leak_at(1))

    def leak_at(self, timesteps: int) -> float:
        """The leak of a network for T steps."""
        return leak_of(timesteps) if self.leak == "auto" else self.leak

    def at(self, timesteps: int) -> dict[str, Any]:
        """Arguments of `ftbc_lightning.snn.network.SpikingNetwork`."""
        leak = self.leak_at(timesteps)
        return {"neuron": self.neuron, "levels": self.levels, "leak": leak}

    @property
    def name(self) -> str:
        """How results begin that are of such neurons.

        >>> NeuronSettings().name, NeuronSettings(neuron="signed", levels=2).name
        ('snn', 'snn_signed2')
        >>> NeuronSettings(leak="auto").name, NeuronSettings(levels=2, leak=0.9).name
        ('snn_leak', 'snn_if2_leak0.9')
        """
        several = str(self.levels) if self.levels > 1 else ""
        model = f"{self.neuron}{several}" if self.neuron != "if" or several else ""
        value = "" if self.leak == "auto" else f"{self.leak:g}"
        return "_".join([PLAIN, *filter(None, [model, "" if self.leak == 1 else f"leak{value}"])])

    def written(self) -> dict[str, Any]:
        """For a checkpoint: what differs from the plain neuron."""
        return {k: v for k, v in asdict(self).items() if v != getattr(PLAIN_NEURONS, k)}

    @classmethod
    def of(cls, saved: Mapping[str, Any]) -> "NeuronSettings":
        """From what `written` gives.

        Raises:
            TypeError: It has other keys, or values of other types.
        """
        found = cls(**saved)
        numbers = isinstance(found.levels, int) and isinstance(found.leak, int | float | str)
        if not isinstance(found.neuron, str) or not numbers:
            raise TypeError(f"neuron {saved}")
        return found


PLAIN_NEURONS = NeuronSettings()
"""Integrate and fire, one spike a step, no leak: the paper's."""
