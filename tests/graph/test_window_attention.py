"""Attention of torchvision's Swin transformer: its layers are seen, and the ANN stays the same."""

import pytest
import torch
from torchvision.models.swin_transformer import SwinTransformer

from ftbc_lightning import calibrate, convert, export, load, simulate
from ftbc_lightning.calibration.places import correctable
from ftbc_lightning.graph.tracing import trace

SIZES = [(16, 16), (20, 28)]  # windows that fit; windows that hang over, and odd numbers to merge


def swin(size):
    torch.manual_seed(0)
    net = SwinTransformer(
        *([2, 2], 8, [2, 1], [2, 2], [4, 4]), stochastic_depth_prob=0.0, num_classes=3
    )
    return net.double().eval(), torch.randn(4, 3, *size, dtype=torch.float64)


@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_the_graph_is_the_ann(size):
    net, x = swin(size)
    graph = trace(net, x[:1], functions="encoded")
    torch.testing.assert_close(graph(x), net(x), rtol=0, atol=1e-12)


def test_its_layers_read_spikes_and_are_corrected_and_files_hold_it(tmp_path):
    net, x = swin((16, 16))
    snn = convert(net, x[:1], [x], timesteps=2, functions="encoded")
    places = [str(p.node.target) for several in correctable(snn).values() for p in several]
    assert sum(name.endswith("attn.qkv") for name in places) == 3
    assert sum(name.endswith("attn.proj") for name in places) == 3
    calibrate(net, snn, [x], method="weights+exact")
    twin = load(export(snn, tmp_path / "a.safetensors"))
    torch.testing.assert_close(simulate(twin, x), simulate(snn, x), rtol=0, atol=1e-9)
