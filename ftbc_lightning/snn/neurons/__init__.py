"""Neuron models: one file a model, one line here."""

from ftbc_lightning.errors import UserError
from ftbc_lightning.snn.neurons.integrate_and_fire import IFNeuron

__all__ = ["NEURON_MODELS", "IFNeuron", "model_named"]

NEURON_MODELS: dict[str, type[IFNeuron]] = {
    "if": IFNeuron,
}
"""Every neuron model by its name. A model has the buffers of `IFNeuron` and its `forward`."""


def model_named(name: str) -> type[IFNeuron]:
    """The neuron model of a name.

    Raises:
        UserError: There is none; all are listed.
    """
    if name not in NEURON_MODELS:
        raise UserError(f"Neuron {name!r} is unknown; choose one of {', '.join(NEURON_MODELS)}.")
    return NEURON_MODELS[name]
