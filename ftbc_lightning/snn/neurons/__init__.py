"""Neuron models: one file a model, one line here."""

from numbers import Integral

from ftbc_lightning.errors import UserError
from ftbc_lightning.snn.neurons.integrate_and_fire import IFNeuron
from ftbc_lightning.snn.neurons.signed import SignedNeuron
from ftbc_lightning.snn.neurons.two_sided import TwoSidedNeuron

__all__ = [
    "NEURON_MODELS",
    "IFNeuron",
    "SignedNeuron",
    "TwoSidedNeuron",
    "check_neuron",
    "model_named",
]

NEURON_MODELS: dict[str, type[IFNeuron]] = {
    "if": IFNeuron,
    "signed": SignedNeuron,
}
"""Every neuron model that can stand for an activation, by its name. A model has the buffers of
`IFNeuron` and its `forward`; encoders are `TwoSidedNeuron` beside every one of them."""

MOST_LEVELS = 127
"""Spikes of a step are stored in a byte with a sign."""


def check_neuron(neuron: str, levels: int, leak: float) -> None:
    """Raise `UserError` unless there is such a neuron.

    Args:
        neuron: The name of a model.
        levels: K, 1 to 127.
        leak: Above 0 and at most 1.
    """
    model_named(neuron)
    if not isinstance(levels, Integral) or not 1 <= levels <= MOST_LEVELS:
        raise UserError(f"levels is {levels}; a neuron emits 1 to {MOST_LEVELS} spikes a step.")
    if not 0 < leak <= 1:
        raise UserError(f"leak is {leak}; it must be above 0 and at most 1 (1: no leak).")


def model_named(name: str) -> type[IFNeuron]:
    """The neuron model of a name.

    Raises:
        UserError: There is none; all are listed.
    """
    if name not in NEURON_MODELS:
        raise UserError(f"Neuron {name!r} is unknown; choose one of {', '.join(NEURON_MODELS)}.")
    return NEURON_MODELS[name]
