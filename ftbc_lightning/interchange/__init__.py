"""Take a spiking network away: files that other programs and chips read."""

from ftbc_lightning.interchange.description import Description, Operation
from ftbc_lightning.interchange.formats import FORMATS, Format, export, mean_bias
from ftbc_lightning.interchange.lowering import describe
from ftbc_lightning.interchange.tensors_file import load
from ftbc_lightning.snn.stepping import SteppedNetwork

__all__ = [
    "FORMATS",
    "Description",
    "Format",
    "Operation",
    "SteppedNetwork",
    "describe",
    "export",
    "load",
    "mean_bias",
]
