"""Train an ANN, convert it to a spiking network, calibrate it with temporal biases.

The functions need torch alone; each name is imported when it is first used.

>>> import torch
>>> from ftbc_lightning import calibrate, convert, simulate
>>> ann = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
>>> samples = torch.rand(64, 2)
>>> snn = convert(ann, samples[:1], [samples], timesteps=4)
>>> trace = calibrate(ann, snn, [samples], method="exact")
>>> simulate(snn, samples).shape
torch.Size([4, 64, 3])
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ftbc_lightning.errors import UserError
from ftbc_lightning.version import __version__

if TYPE_CHECKING:
    from ftbc_lightning.calibration import CalibrationTrace, calibrate
    from ftbc_lightning.interchange import export, load
    from ftbc_lightning.interchange.hub import from_pretrained, push_to_hub
    from ftbc_lightning.snn.conversion import convert, reconvert
    from ftbc_lightning.snn.frozen import FrozenNetwork
    from ftbc_lightning.snn.network import SpikingNetwork, conversion_map, without_temporal_bias
    from ftbc_lightning.snn.neurons import IFNeuron, SignedNeuron, TwoSidedNeuron
    from ftbc_lightning.snn.simulation import simulate
    from ftbc_lightning.snn.surrogates import Surrogate
    from ftbc_lightning.snn.trainable import TrainableNetwork
    from ftbc_lightning.training.callbacks import ForwardTemporalBiasCorrection, ResultFiles
    from ftbc_lightning.training.module import SpikingClassifier
    from ftbc_lightning.training.trainer import Trainer

__all__ = [
    "CalibrationTrace",
    "ForwardTemporalBiasCorrection",
    "FrozenNetwork",
    "IFNeuron",
    "ResultFiles",
    "SignedNeuron",
    "SpikingClassifier",
    "SpikingNetwork",
    "Surrogate",
    "TrainableNetwork",
    "Trainer",
    "TwoSidedNeuron",
    "UserError",
    "__version__",
    "calibrate",
    "conversion_map",
    "convert",
    "export",
    "from_pretrained",
    "load",
    "push_to_hub",
    "reconvert",
    "simulate",
    "without_temporal_bias",
]

_FROM = {
    "CalibrationTrace": "calibration",
    "calibrate": "calibration",
    "export": "interchange",
    "load": "interchange",
    "from_pretrained": "interchange.hub",
    "push_to_hub": "interchange.hub",
    "convert": "snn.conversion",
    "reconvert": "snn.conversion",
    "FrozenNetwork": "snn.frozen",
    "SpikingNetwork": "snn.network",
    "conversion_map": "snn.network",
    "without_temporal_bias": "snn.network",
    "IFNeuron": "snn.neurons",
    "SignedNeuron": "snn.neurons",
    "TwoSidedNeuron": "snn.neurons",
    "simulate": "snn.simulation",
    "Surrogate": "snn.surrogates",
    "TrainableNetwork": "snn.trainable",
    "ForwardTemporalBiasCorrection": "training.callbacks",
    "ResultFiles": "training.callbacks",
    "SpikingClassifier": "training.module",
    "Trainer": "training.trainer",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    if name not in _FROM:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"ftbc_lightning.{_FROM[name]}"), name)
    return value


def __dir__() -> list[str]:
    """What is here, and the public names that have not been asked for yet."""
    return sorted({*globals(), *__all__})
