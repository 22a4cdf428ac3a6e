"""What can be chosen by name: the help lists what the registries hold."""

from collections.abc import Collection, Mapping

from jsonargparse import ArgumentParser

from ftbc_lightning.calibration.stages import STAGES
from ftbc_lightning.interchange import FORMATS
from ftbc_lightning.snn.neurons import NEURON_MODELS
from ftbc_lightning.snn.thresholds import RULES

CHOICES: Mapping[str, Collection[str]] = {
    "calibration.threshold_rule": RULES,
    "calibration.neuron": NEURON_MODELS,
    "calibration.methods": STAGES,
    "format": FORMATS,
}
"""Each option whose values are names, and the registry of those."""


def list_choices(parser: ArgumentParser) -> None:
    """Add the names that there are to the help of the options that take one."""
    for action in parser._actions:
        if action.dest in CHOICES and action.help is not None:
            action.help = f"{action.help} There are: {', '.join(CHOICES[action.dest])}."
