"""Round trips of torchvision's networks through every format."""

import pytest
import torch
import torchvision
from torch import nn

from ftbc_lightning import export, load, simulate
from tests.interchange.test_programs import run_onnx
from tests.interchange.test_safetensors import calibrated, numpy_reader
from tests.known_networks import build

T = 4


def network(name, dtype, *, size=None, **replaced):
    """A calibrated network with random weights, other samples, and their logits."""
    assert hasattr(torchvision.models, name)
    net, images = build(name)
    net, images = net.to(dtype), images.to(dtype)[..., :size, :size]
    for path, module in replaced.items():
        net.set_submodule(path, module)
    snn = calibrated(net, images, T)
    shape = (4, *images.shape[1:])
    fresh = torch.randn(shape, generator=torch.Generator().manual_seed(9)).to(dtype)
    return snn, fresh, simulate(snn, fresh)


def difference(logits, expected):
    return float((torch.as_tensor(logits) - expected).abs().max())


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        *("resnet18", "alexnet", "vgg11", "squeezenet1_1", "mobilenet_v2"),
        *("shufflenet_v2_x1_0", "googlenet", "densenet121"),
    ],
)
def test_safetensors_gives_the_logits_in_float64(name, tmp_path):
    snn, images, expected = network(name, torch.float64)
    twin = load(export(snn, tmp_path / "snn.safetensors"))
    assert difference(simulate(twin, images), expected) < 1e-9


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "alexnet"])
def test_the_numpy_reader_gives_the_logits(name, tmp_path):
    snn, images, expected = network(name, torch.float32)
    reader, _ = numpy_reader()
    path = export(snn, tmp_path / "snn.safetensors")
    logits = reader["logits"](*reader["read"](path), images.numpy())
    assert difference(logits, expected) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "alexnet"])
def test_onnxruntime_gives_the_logits_step_by_step(name, tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    snn, images, expected = network(name, torch.float32)
    path = export(snn, tmp_path / "step.onnx", format="onnx")
    assert difference(run_onnx(path, images, T), expected) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "alexnet"])
def test_a_program_of_torch_export_gives_the_logits_of_all_steps(name, tmp_path):
    snn, images, expected = network(name, torch.float64)
    path = export(snn, tmp_path / "snn.pt2", format="torch_export")
    assert difference(torch.export.load(path).module()(images), expected) < 1e-9


@pytest.mark.filterwarnings("ignore:NIR has no time-varying bias")
def test_a_nir_graph_of_resnet18_with_average_pooling_gives_the_logits(tmp_path):
    nir = pytest.importorskip("nir")
    from tests.interchange.test_nir import run_graph

    average = nn.AvgPool2d(3, 2, 1)  # NIR has no maximum
    snn, images, expected = network("resnet18", torch.float32, size=32, maxpool=average)
    graph = nir.read(export(snn, tmp_path / "snn.nir", format="nir"))
    assert difference(run_graph(graph, images, T), expected) < 1e-5
