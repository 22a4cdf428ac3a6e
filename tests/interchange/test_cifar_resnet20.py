"""The figures of docs/reference/formats.md.

A CIFAR-10 ResNet-20 with published weights in every format.
"""

import pytest
import torch

from ftbc_lightning import export, load, simulate
from ftbc_lightning.ann import ResNet20
from ftbc_lightning.ann.weights import load_weights
from ftbc_lightning.data.transforms import NORMALIZATION, evaluation
from ftbc_lightning.interchange import FORMATS
from tests.interchange.test_programs import run_onnx
from tests.interchange.test_safetensors import calibrated, numpy_reader
from tests.real_data import HERE, WEIGHTS, cifar10

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not HERE, reason="no real weights here"),
    pytest.mark.filterwarnings("ignore:NIR has no time-varying bias"),
]
T, SAMPLES = 4, 128


@pytest.fixture(scope="module", params=[torch.float32, torch.float64], ids=["float32", "float64"])
def network(request):
    """A calibrated network, test samples, and their logits."""
    net = ResNet20()
    load_weights(net, WEIGHTS / "cifar10" / "akamaster_resnet20.pt")
    prepared = evaluation(*NORMALIZATION["imagenet"])
    training, samples = (
        prepared(cifar10(split)[0][:count]).to(request.param)
        for split, count in (("train", 256), ("test", SAMPLES))
    )
    snn = calibrated(net.eval().to(request.param), training, T)
    return snn, samples, simulate(snn, samples)


def read(file_format, path, images):
    if file_format == "safetensors":
        return simulate(load(path), images)
    if file_format == "torch_export":
        return torch.export.load(path).module()(images)
    if file_format == "onnx":
        pytest.importorskip("onnxruntime")
        return torch.as_tensor(run_onnx(path, images.float(), T))
    nir = pytest.importorskip("nir")
    from tests.interchange.test_nir import run_graph

    return run_graph(nir.read(path), images.float(), T)


def check(logits, expected, *, single):
    """All but a few samples have the same logits; in double precision all have."""
    difference = (logits.to(expected.dtype) - expected).abs().amax((0, 2))
    alike = difference < 1e-4
    flipped = int((~alike).sum())
    print(f"{flipped} of {len(alike)} samples flip; the others: {difference[alike].max():.1e}")
    assert difference[alike].max() < (1e-5 if single else 1e-10)
    assert flipped <= (6 if single else 0)


@pytest.mark.parametrize("file_format", list(FORMATS))
def test_a_format_gives_the_logits_but_where_a_spike_is_within_rounding(
    file_format, network, tmp_path
):
    snn, images, expected = network
    path = export(snn, tmp_path / f"snn{FORMATS[file_format]}", format=file_format)
    single = expected.dtype == torch.float32 or file_format in ("nir", "onnx")
    check(read(file_format, path, images), expected, single=single)


def test_the_numpy_reader_gives_the_logits_but_where_a_spike_is_within_rounding(network, tmp_path):
    snn, images, expected = network
    reader, _ = numpy_reader()
    path = export(snn, tmp_path / "snn.safetensors")
    logits = torch.as_tensor(reader["logits"](*reader["read"](path), images.numpy()))
    check(logits, expected, single=expected.dtype == torch.float32)
