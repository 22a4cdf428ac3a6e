"""ONNX: one time step with its state in and out. torch.export: all T steps as one program."""

import copy
import json
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ftbc_lightning.errors import imported
from ftbc_lightning.files.whole_file import write_whole
from ftbc_lightning.interchange.neuron_kind import kind_of
from ftbc_lightning.snn.network import SpikingNetwork
from ftbc_lightning.snn.stepping import State, SteppedNetwork

BATCH = 2
"""Samples that programs are traced with; the batch axis of what is written takes any number."""


class OneStep(nn.Module):
    """One time step as a function of tensors alone, for ONNX.

    Args:
        network: The network.
    """

    def __init__(self, network: SteppedNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor, step: Tensor, state: list[Tensor]) -> list[Tensor]:
        """Output of the step, then the state after it, in the order of `state_names`."""
        names = self.network.state_names
        before: State = dict(zip(names, state, strict=True))
        constants = self.network.constants(images)
        output, after = self.network.step(constants, before, step)
        return [output, *(after[name] for name in names)]


class AllSteps(nn.Module):
    """All steps as a function that returns what a file can name: of a named tuple a dictionary.

    Args:
        network: The network.
    """

    def __init__(self, network: SteppedNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Any:
        """Logits after each step."""
        return _without_classes(self.network(images))


def _without_classes(found: Any) -> Any:
    if isinstance(found, Tensor) or found is None:
        return found
    if isinstance(found, list) or type(found) is tuple:
        return type(found)(map(_without_classes, found))
    named = found if isinstance(found, Mapping) else found._asdict()
    return {str(key): _without_classes(value) for key, value in named.items()}


@torch.no_grad()
def write_onnx(snn: SpikingNetwork, path: Path, *, input_shape: tuple[int, ...]) -> None:
    """Write one time step as an ONNX model.

    Inputs: `images [B, ...]`, `step` (int64, 0 to T-1), and the state, `<layer>_in` for each
    neuron (its membrane), `<layer>.owed_in` for each with a sign (minus what it has sent) and
    `<layer>_in` for each max pooling in time (the sum of its inputs). At step 0 the state that
    comes in is not read: zeros will do. Outputs: `output [B, classes]` and the state after the
    step, `<layer>_out`, all float32. The logits after step t are the mean of `output` over steps 0
    to t, with a leak weighted by it; of a network with a function behind its last layer, `output`
    itself, and the state has the sum that it is taken of. The file's metadata says which.
    """
    onnx = imported("onnx", "The format onnx needs", "export")
    imported("onnxscript", "The format onnx needs", "export")  # torch's exporter needs it
    # float32 always: onnxruntime has no convolution in float64
    network = SteppedNetwork(copy.deepcopy(snn).float().cpu())
    names = network.state_names
    images = torch.zeros(BATCH, *input_shape, dtype=snn.input_dtype)
    _, state = network.step(network.constants(images), {}, 0)
    batch = torch.export.Dim("batch")
    for name in ("torch.onnx", "onnxscript"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*The axis name: batch will not be used.*")
        program = torch.onnx.export(
            OneStep(network).eval(),
            (images, torch.tensor(1), [state[name] for name in names]),
            input_names=["images", "step", *(f"{name}_in" for name in names)],
            output_names=["output", *(f"{name}_out" for name in names)],
            dynamic_shapes=({0: batch}, None, [{0: batch} for _ in names]),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    facts = _facts(snn, network, "`output`") | {
        "state": "at step 0 the state is not read",
        "state_shapes": json.dumps({name: list(state[name].shape[1:]) for name in names}),
    }
    for key, value in facts.items():
        model.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(model)
    write_whole(path, lambda beside: onnx.save(model, str(beside)))


@torch.no_grad()
def write_torch_program(snn: SpikingNetwork, path: Path, *, input_shape: tuple[int, ...]) -> None:
    """Write all T steps as a program of `torch.export`: images `[B, ...]` to logits `[T, B, K]`.

    `torch.export.load(path).module()(images)` runs it, without this package, on a CPU. The file
    has what it is beside the program, as JSON in its part `facts.json`.
    """
    # A program is bound to a device, and that of the one who writes may not be the reader's.
    snn = copy.deepcopy(snn).cpu()
    like = next(iter(snn.neurons().values())).threshold
    dtype = like.dtype if snn.input_dtype.is_floating_point else snn.input_dtype
    images = torch.zeros(BATCH, *input_shape, dtype=dtype)
    batch = torch.export.Dim("batch")
    network = SteppedNetwork(snn)
    program = torch.export.export(AllSteps(network).eval(), (images,), dynamic_shapes=({0: batch},))
    facts = _facts(snn, network, "the output layer")
    facts["output"] = "logits after each step, [T, B, classes]: already read out"
    extra = {"facts.json": json.dumps(facts)}
    write_whole(path, lambda beside: torch.export.save(program, beside, extra_files=extra))


def _facts(snn: SpikingNetwork, network: SteppedNetwork, output: str) -> dict[str, str]:
    """What a program computes, in words."""
    kind = kind_of(snn)
    mean = kind.readout(output)
    of_mean = f"logits after step t: {output}, which is computed on the mean over steps 0 to t"
    leaky = ", weighted by the leak" if kind.leak != 1 else ""
    encoders = [name for name, neuron in snn.neurons().items() if neuron.lowest < 0]
    return {
        "timesteps": str(snn.timesteps),
        "readout": of_mean + leaky if network.averages else mean,
        "neuron": kind.name,
        "levels": str(kind.levels),
        "leak": str(kind.leak),
        **({"two_sided": ", ".join(encoders)} if encoders else {}),
    }
