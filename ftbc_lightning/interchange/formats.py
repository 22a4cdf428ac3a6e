"""The one way out: a network, a path and the name of a format."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import torch

from ftbc_lightning.errors import UserError
from ftbc_lightning.graph.outputs import check_one_output
from ftbc_lightning.interchange.integers import integers
from ftbc_lightning.interchange.lowering import describe
from ftbc_lightning.interchange.neuron_kind import kind_of
from ftbc_lightning.interchange.nir_file import write_nir
from ftbc_lightning.interchange.nir_metadata import CLOCK, UNSAID
from ftbc_lightning.interchange.programs import write_onnx, write_torch_program
from ftbc_lightning.interchange.tensors_file import write_safetensors
from ftbc_lightning.interchange.unit_threshold import Bias, mean_charge
from ftbc_lightning.snn.network import SpikingNetwork, without_temporal_bias
from ftbc_lightning.snn.weight_rounding import check_bits

Writer = Callable[[SpikingNetwork, Path, Bias, tuple[int, ...]], None]
"""(network, path, what becomes of the biases, shape of a sample if the network does not know its
own) -> nothing; the file has been written whole."""


@dataclass(frozen=True)
class Format:
    """A kind of file that a network is written to.

    Attributes:
        suffix: Of its files.
        holds: What is in it, for the help.
        write: Writes one.
    """

    suffix: str
    holds: str
    write: Writer


def _safetensors(snn: SpikingNetwork, path: Path, bias: Bias, input_shape: tuple[int, ...]) -> None:
    write_safetensors(describe(snn, input_shape=input_shape), path)


def _nir(snn: SpikingNetwork, path: Path, bias: Bias, input_shape: tuple[int, ...]) -> None:
    write_nir(describe(snn, input_shape=input_shape), path, bias=bias)
    notes = {"metadata": UNSAID, "clock": CLOCK}
    if bias in notes:
        warnings.warn(notes[bias], stacklevel=3)


def _onnx(snn: SpikingNetwork, path: Path, bias: Bias, input_shape: tuple[int, ...]) -> None:
    write_onnx(snn, path, input_shape=input_shape)


def _torch_export(
    snn: SpikingNetwork, path: Path, bias: Bias, input_shape: tuple[int, ...]
) -> None:
    write_torch_program(snn, path, input_shape=input_shape)


FORMATS = {
    "safetensors": Format(".safetensors", "weights, thresholds, biases and graph", _safetensors),
    "nir": Format(".nir", "for other simulators and chips", _nir),
    "onnx": Format(".onnx", "one time step", _onnx),
    "torch_export": Format(".pt2", "a program of all steps", _torch_export),
}
"""Every format by its name; one more is one line here."""


def export(
    snn: SpikingNetwork,
    path: str | Path,
    *,
    format: str = "safetensors",
    bias: Bias = "metadata",
    bits: int | None = None,
    input_shape: Sequence[int] | None = None,
) -> Path:
    """Write a spiking network to a file for another program.

    Thresholds are folded into the weights behind each neuron, so spikes are 0 and 1, or whole
    numbers where neurons have a sign or several levels.

    Args:
        snn: A network with thresholds set; left as it is.
        path: The file; its folder must exist.
        format: "safetensors": all tensors and the graph as JSON, read by `load` and by the NumPy
            reader of the documentation. "nir": for other simulators and chips, thresholds 1.
            "onnx": one time step with its state in and out, float32. "torch_export": a program
            of all T steps.
        bias: What "nir" does with v0 and b[t], which it cannot say: "metadata" keeps them beside
            the graph, "clock" makes them weights from T more channels of the input, which
            say which step it is, "mean" adds their mean over the steps to the weights' bias.
        bits: Write weights as integers of so many bits, sign included, 2 to 16, and thresholds,
            membranes and biases as whole numbers of the same unit
            (`ftbc_lightning.interchange.integers`); "safetensors" alone. Calibrate with
            `weight_bits` of the same number before.
        input_shape: Shape of one sample; only for a network that does not know its own.

    Returns:
        The path.

    Raises:
        UserError: Unknown format, thresholds not set, the format's library is missing, or neurons
            or operations that the format has no place for, or no integers; all are named.

    >>> import tempfile
    >>> from ftbc_lightning import convert, load, simulate
    >>> ann = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    >>> samples = torch.rand(16, 2)
    >>> snn = convert(ann, samples[:1], [samples], timesteps=4)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     twin = load(export(snn, f"{folder}/snn.safetensors"))
    >>> torch.allclose(simulate(twin, samples), simulate(snn, samples), atol=1e-5)
    True
    """
    path = Path(path)
    _check(path, format, bias, bits)
    if snn.corrects_membranes:
        raise UserError(
            "This network corrects the start membrane of every single neuron (the method "
            "potential), and the formats hold one for each channel; export another network."
        )
    kind_of(snn)
    if format != "torch_export":
        check_one_output(snn.layers, what=f"the format {format}")
    shape = _shape(snn, input_shape)
    if bits is None:
        FORMATS[format].write(snn, path, bias, shape)
    else:
        write_safetensors(integers(describe(snn, input_shape=shape), bits), path)
    return path


def _shape(snn: SpikingNetwork, given: Sequence[int] | None) -> tuple[int, ...]:
    """The shape of one sample, as it is given or as the network knows it."""
    shape = snn.input_shape if given is None else tuple(given)
    if shape is None:
        raise UserError(
            "The shape of a sample is not known, because the file was written by an earlier "
            "program; give it as input_shape, such as [3, 32, 32]."
        )
    if snn.input_shape not in (shape, None):
        raise UserError(
            f"input_shape is {list(shape)}, but the network was converted for samples of "
            f"{list(snn.input_shape)}; leave it out."
        )
    return shape


def _check(path: Path, format: str, bias: str, bits: int | None) -> None:
    if format not in FORMATS:
        raise UserError(f"Format {format!r} is unknown; choose one of {', '.join(FORMATS)}.")
    if bias not in get_args(Bias):
        raise UserError(f"bias is {bias!r}; choose one of {', '.join(get_args(Bias))}.")
    if bias != "metadata" and format != "nir":
        raise UserError(f"bias={bias} is for nir alone; the format {format} holds b[t] itself.")
    if bits is not None:
        check_bits(bits)
        if format != "safetensors":
            raise UserError(
                f"bits={bits} is for safetensors alone; the format {format} holds no integers."
            )
    if path.is_dir():
        raise UserError(f"{path} is a folder; give the name of a file in it.")
    if not path.parent.is_dir():
        raise UserError(f"There is no folder {path.parent}; make it first.")


@torch.no_grad()
def mean_bias(snn: SpikingNetwork) -> SpikingNetwork:
    """The network that `bias="mean"` writes: one bias for all steps in place of v0 and b[t].

        b'[t] = (v0 + sum over t of b[t]) / T,   v0' = 0

    With a leak the mean has the weights of the steps; see
    `ftbc_lightning.interchange.unit_threshold.mean_charge`.

    Args:
        snn: A calibrated network; left as it is.

    Returns:
        The same network with the same charge in all, spread evenly over the steps.
    """
    twin = without_temporal_bias(snn)
    for neuron, original in zip(twin.neurons().values(), snn.neurons().values(), strict=True):
        mean = mean_charge(original.initial_membrane, original.temporal_bias, snn.leak)
        neuron.temporal_bias.copy_(mean.expand_as(neuron.temporal_bias))
        neuron.initial_membrane.zero_()
    return twin
