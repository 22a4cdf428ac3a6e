"""einops: layers and functions that are linear are carried over, others are refused by name."""

import pytest
import torch
from torch import nn

from ftbc_lightning import UserError, calibrate, convert, export, simulate
from ftbc_lightning.graph.tracing import trace
from ftbc_lightning.snn.conversion import prepare
from ftbc_lightning.snn.stepping import SteppedNetwork
from tests.graph.test_carried_operations import Through
from tests.networks import samples

einops = pytest.importorskip("einops")
layers = pytest.importorskip("einops.layers.torch")
rearrange, repeat = einops.rearrange, einops.repeat  # names in a module, as people import them

BLOCKS = "b c (h p) (w q) -> b (c p q) h w"
CARRIED = {
    "Rearrange": lambda: Through(lambda x, n: n.layer(x), layers.Rearrange(BLOCKS, p=2, q=2)),
    "Reduce mean": lambda: Through(
        lambda x, n: n.layer(x), layers.Reduce("b c (h 2) w -> b c w", "mean")
    ),
    "EinMix": lambda: Through(
        lambda x, n: n.layer(x),
        layers.EinMix("b c h w -> b h w d", weight_shape="c d", bias_shape="d", c=4, d=5),
    ),
    "rearrange": lambda: Through(lambda x, n: rearrange(x, BLOCKS, p=2, q=2)),
    "rearrange of a module": lambda: Through(
        lambda x, n: einops.rearrange(x, "b c h w -> b w h c")
    ),
    "repeat": lambda: Through(lambda x, n: repeat(x, "b c h w -> b (c two) h w", two=2)),
    "reduce sum": lambda: Through(lambda x, n: einops.reduce(x, "b c h w -> b c", "sum") / 36),
    "reduce mean by name": lambda: Through(
        lambda x, n: einops.reduce(x, "b c h w -> b h w", reduction="mean")
    ),
    "einsum": lambda: Through(lambda x, n: einops.einsum(x, n.square, "b c h w, w v -> b c h v")),
}


@pytest.mark.parametrize("name", CARRIED)
def test_what_is_linear_is_carried_over_and_the_limit_is_the_network(name):
    torch.manual_seed(0)
    net, images = CARRIED[name]().double(), samples(8)
    with torch.no_grad():
        expected = net(images)
        net.eval()
        torch.testing.assert_close(trace(net, images[:1])(images), expected, rtol=0, atol=1e-12)
    errors = []
    for steps in (64, 256):
        snn = convert(net, images[:1], [images], timesteps=steps, threshold_rule="max")
        errors.append(float((simulate(snn, images)[-1] - expected).abs().mean()))
    assert len(snn.shapes) == 3
    assert errors[1] < 0.4 * errors[0]
    snn = convert(net, images[:1], [images], timesteps=5)
    calibrate(net, snn, [images], method="weights+exact")
    stepped = SteppedNetwork(snn)(images)
    torch.testing.assert_close(stepped, simulate(snn, images), rtol=0, atol=1e-9)
    assert rearrange is einops.einops.rearrange  # what was replaced while it was traced is back


@pytest.mark.parametrize("name", ["EinMix", "repeat"])  # a layer and a function
def test_a_program_of_it_is_written(name, tmp_path):
    torch.manual_seed(0)
    net, images = CARRIED[name]().double(), samples(8)
    with torch.no_grad():
        net(images)  # its layers find their sizes
    snn = convert(net, images[:1], [images], timesteps=2)
    program = torch.export.load(export(snn, tmp_path / "a.pt2", format="torch_export")).module()
    torch.testing.assert_close(program(images), simulate(snn, images), rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (
            lambda: Through(lambda x, n: einops.reduce(x, "b c h w -> b c", "max")),
            r"reduce \(reduce, in forward\)",
        ),
        (
            lambda: Through(lambda x, n: n.layer(x), layers.Reduce("b c h w -> b c", "prod")),
            r"layer \(Reduce\)",
        ),
        (
            lambda: Through(lambda x, n: einops.einsum(x, x, "b c h w, b d h w -> b c d")),
            r"einsum \(einsum, in forward\)",
        ),
        (
            lambda: Through(lambda x, n: rearrange(x, "b c h w -> (b c) h w")),
            r"rearrange \(rearrange, in forward\) mixes the samples",
        ),
    ],
)
def test_what_is_not_is_refused_by_name(net, message):
    network = net().double()
    nn.Module.eval(network)
    with pytest.raises(UserError, match=message):
        prepare(network, samples(1), timesteps=2)


def test_a_product_with_weights_is_a_layer_that_an_encoder_stands_before():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.weight = nn.Linear(5, 6), nn.Parameter(torch.randn(6, 3))

        def forward(self, x):
            h = nn.functional.gelu(self.first(x))
            return einops.einsum(h, self.weight, "b i, i o -> b o")

    snn = prepare(Net().eval(), torch.zeros(1, 5), timesteps=2, functions="encoded")
    assert list(snn.shapes) == ["gelu_encoded"]
