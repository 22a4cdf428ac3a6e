"""Which neurons a network has: one object, read by the callback, `compare` and checkpoints."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ftbc_lightning.snn.neurons import check_neuron, model_named


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
        """What results call it: "if", the paper's, or what differs from it.

        >>> NeuronSettings().name, NeuronSettings(neuron="signed", levels=2).name
        ('if', 'signed, 2 levels')
        >>> NeuronSettings(leak="auto").name
        'if, leak by T'
        """
        several = [f"{self.levels} levels"] * (self.levels > 1)
        leaky = ["leak by T" if self.leak == "auto" else f"leak {self.leak:g}"] * (self.leak != 1)
        return ", ".join([self.neuron, *several, *leaky])

    @property
    def values(self) -> str:
        """What it may fire in one step, thresholds apart.

        >>> NeuronSettings().values, NeuronSettings(neuron="signed", levels=2).values
        ('0 and 1', '-2 to 2')
        """
        lowest = -self.levels * model_named(self.neuron).below
        return "0 and 1" if (lowest, self.levels) == (0, 1) else f"{lowest} to {self.levels}"

    @property
    def needs(self) -> list[str]:
        """What it asks of hardware beyond integrate and fire, a phrase each."""
        signed = "a second comparison and a counter a neuron, and spikes of two signs"
        levels = f"spikes that carry a number up to {self.levels}"
        leak = "one multiplication of the membrane a step (LIF), and an output read with that leak"
        return [
            *[signed] * (self.neuron == "signed"),
            *[levels] * (self.levels > 1),
            *[leak] * (self.leak != 1),
        ]

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
