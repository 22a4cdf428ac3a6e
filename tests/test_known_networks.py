"""Networks of torchvision and timm convert, and their limit of many steps is the ANN."""

import re

import pytest
import torch
import torchvision

from ftbc_lightning import UserError, convert
from ftbc_lightning.analysis.inspection import inspect
from tests.conftest import ROOT
from tests.known_networks import FUNCTION_NETWORKS, NETWORKS, TIMM_NETWORKS, limit, make

EVERY = (*NETWORKS, *(f"timm/{name}" for name in TIMM_NETWORKS))


@pytest.mark.parametrize("name", EVERY)
def test_a_network_converts(name):
    # weights do not matter here, and to draw them takes longer; a RegNet counts its blocks so
    with torch.device("cpu" if "regnet_x_" in name else "meta"):
        extra = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
        net = make(name, **extra)
    size = 64 if name.startswith("timm/") else None  # they ask for the size of a sample
    report = inspect(net.eval(), None if size is None else torch.zeros(1, 3, size, size))
    assert report.convertible, report.refused
    assert report.neurons >= 7


def check_limit(name):
    """The graph is the ANN, and four times the steps leave at most half of the error."""
    found = limit(name, (64, 256))
    assert found.graph < 1e-10
    assert found.errors[1] < 0.5 * found.errors[0]
    assert found.errors[1] < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY)
def test_the_error_shrinks_like_one_over_t(name):
    check_limit(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", FUNCTION_NETWORKS)
def test_with_encoders_the_error_shrinks_with_the_steps(name):
    found = limit(name, (16, 64))
    assert found.graph < 1e-10
    assert found.errors[1] < 0.7 * found.errors[0]
    assert found.errors[1] < 0.05


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_the_error_of_a_quick_network_shrinks_like_one_over_t(name):
    check_limit(name)


def test_the_page_lists_these_networks_and_no_others():
    text = (ROOT / "docs" / "reference" / "operations.md").read_text()
    listed = re.findall(r"^\| ([\w./]+) \| \d+ \| \de[+-]\d+ \|", text, flags=re.MULTILINE)
    assert listed == [*NETWORKS, *FUNCTION_NETWORKS, *(f"timm/{name}" for name in TIMM_NETWORKS)]


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("vit_b_16", ("MultiheadAttention", "LayerNorm", "GELU")),
        ("efficientnet_b0", ("SiLU", "Sigmoid", "mul")),
        ("convnext_tiny", ("GELU", "permute_1")),
    ],
)
def test_networks_without_relu_are_refused_with_every_node(name, kinds):
    net = getattr(torchvision.models, name)(weights=None)
    with pytest.raises(UserError) as caught:
        convert(net, torch.rand(1, 3, 224, 224), [], timesteps=4)
    refused = inspect(net).refused
    for kind in kinds:
        assert kind in str(caught.value) or kind == "permute_1"
    assert f"{len(refused)} of its nodes" in str(caught.value)
    assert all(row.node in str(caught.value) and row.way_out for row in refused)
