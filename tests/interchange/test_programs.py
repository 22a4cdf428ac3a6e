"""ONNX and torch.export programs, run by onnxruntime and by torch alone."""

import json
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from ftbc_lightning import convert, export, simulate
from ftbc_lightning.ann import LogMel, SmallCNN
from ftbc_lightning.snn.stepping import SteppedNetwork
from tests.graph.test_max_pooling import net as pooled_net
from tests.interchange.test_safetensors import Unusual, calibrated, networks, uneven
from tests.networks import residual_net, samples


@pytest.mark.parametrize("name", ["residual", "pooled", "grouped", "rearranged"])
def test_step_by_step_gives_what_layer_by_layer_gives(name):
    ann, images = networks()[name], samples(8)
    snn = calibrated(ann, images)
    torch.testing.assert_close(
        SteppedNetwork(snn)(images), simulate(snn, images), rtol=0, atol=1e-12
    )


def onnx_steps(path, images, timesteps):
    """T runs of one step, the state handed on: the outputs, and the facts of the file."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path))
    facts = session.get_modelmeta().custom_metadata_map
    shapes = json.loads(facts["state_shapes"])
    state = {
        f"{name}_in": np.full((len(images), *shape), np.nan, np.float32)
        for name, shape in shapes.items()
    }
    outputs = []
    for t in range(timesteps):
        feed = {"images": images.numpy(), "step": np.array(t), **state}
        output, *after = session.run(None, feed)
        outputs.append(output)
        state = dict(zip(state, after, strict=True))
    return outputs, facts


def run_onnx(path, images, timesteps):
    """The mean of the outputs up to each step."""
    outputs, _ = onnx_steps(path, images, timesteps)
    return np.cumsum(outputs, 0) / np.arange(1, timesteps + 1)[:, None, None]


@pytest.mark.slow
@pytest.mark.parametrize("make", [residual_net, pooled_net, Unusual, partial(uneven, 4)])
def test_onnxruntime_gives_the_logits_for_any_batch(make, tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    snn = calibrated(make().float().eval(), samples(8, dtype=torch.float32))
    path = export(snn, tmp_path / "step.onnx", format="onnx")
    # not the calibration samples: "exact" cuts between two membranes of theirs, which may be close
    images = samples(8, seed=2, dtype=torch.float32)
    for batch in (images, images[:1]):
        expected = simulate(snn, batch).numpy()
        np.testing.assert_allclose(run_onnx(path, batch, 4), expected, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_onnxruntime_computes_the_spectrogram_in_front(tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    torch.manual_seed(0)
    ann = nn.Sequential(LogMel(), SmallCNN(in_channels=1, width=4)).eval()
    sounds = torch.randn(4, 1, 2000)
    snn = convert(ann, sounds[:1], [sounds], timesteps=4)
    path = export(snn, tmp_path / "step.onnx", format="onnx")
    found = run_onnx(path, sounds, 4)
    np.testing.assert_allclose(found, simulate(snn, sounds).numpy(), rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("make", [residual_net, pooled_net, Unusual, partial(uneven, 4)])
def test_a_program_of_torch_export_gives_the_logits_for_any_batch(make, tmp_path):
    ann, images = make().double().eval(), samples(8)
    snn = calibrated(ann, images)
    path = export(snn, tmp_path / "snn.pt2", format="torch_export")
    program = torch.export.load(path).module()
    for batch in (images, images[:1]):
        torch.testing.assert_close(program(batch), simulate(snn, batch), rtol=0, atol=1e-10)
