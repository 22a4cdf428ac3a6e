"""Networks with an answer at each pixel: encoder, decoder, skip connections."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ftbc_lightning import UserError, calibrate, convert, export, simulate
from ftbc_lightning.analysis.diagnosis import diagnose
from ftbc_lightning.analysis.operation_counts import count_operations
from ftbc_lightning.ann import OneOutput
from ftbc_lightning.graph.tracing import trace
from ftbc_lightning.snn.threshold_folding import fold_thresholds


def block(inputs, outputs, act):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), act()
    )


class UNet(nn.Module):
    """Two poolings; one way back by a transposed convolution, one by bilinear upsampling."""

    def __init__(self, act=nn.ReLU):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.third = block(2, 4, act), block(4, 8, act), block(8, 8, act)
        self.rise = nn.Sequential(nn.ConvTranspose2d(8, 6, 2, 2), nn.BatchNorm2d(6), act())
        self.join, self.end = block(14, 6, act), block(10, 4, act)
        self.head = nn.Conv2d(4, 3, 1)

    def forward(self, x):
        one = self.first(x)
        two = self.second(F.max_pool2d(one, 2))
        three = self.third(F.avg_pool2d(two, 2))
        up = self.join(torch.cat([self.rise(three), two], 1))
        up = F.interpolate(up, size=one.shape[2:], mode="bilinear", align_corners=False)
        return self.head(self.end(torch.cat([up, one], 1)))


def images(count, seed=1):
    return torch.randn(
        count, 2, 16, 16, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


def unet(act=nn.ReLU):
    net = UNet(act).double().train()
    with torch.no_grad():
        for seed in range(20):
            net(images(8, seed))
    return net.eval()


@pytest.mark.parametrize(("act", "neurons"), [(nn.ReLU, 6), (nn.LeakyReLU, 12)])
def test_many_steps_approach_a_network_of_pixels(act, neurons):
    net, inputs = unet(act), images(4)
    with torch.no_grad():
        expected = net(inputs)
        torch.testing.assert_close(trace(net)(inputs), expected, rtol=0, atol=1e-12)
    errors = []
    for steps in (64, 256):
        snn = convert(net, inputs[:1], [inputs], timesteps=steps, threshold_rule="max")
        errors.append(float((simulate(snn, inputs)[-1] - expected).abs().mean()))
    assert len(snn.shapes) == neurons
    assert errors[1] < 0.4 * errors[0]
    assert errors[1] < 0.03 * float(expected.std())


def gap(output, expected):
    """The error of each class, averaged over samples and pixels: what a bias can mend."""
    return (output - expected).mean((0, 2, 3)).abs().max()


def test_calibration_lessens_the_error_of_each_class_and_files_hold_it(tmp_path):
    net, inputs = unet(), images(16)
    with torch.no_grad():
        expected = net(inputs)
    snn = convert(net, inputs[:1], [inputs], timesteps=8, threshold_rule="max")
    before = gap(simulate(snn, inputs)[-1], expected)
    calibrate(net, snn, [inputs], method="exact")
    output = simulate(snn, inputs)
    assert output.shape == (8, 16, 3, 16, 16)
    assert gap(output[-1], expected) < 0.3 * before
    folded, _ = fold_thresholds(snn)
    torch.testing.assert_close(simulate(folded, inputs), output, rtol=0, atol=1e-6)
    assert [layer.layer for layer in count_operations(snn, inputs).layers][3] == "rise.0"
    assert set(diagnose(net, snn, [inputs]).layers) == set(snn.shapes)
    program = torch.export.load(export(snn, tmp_path / "a.pt2", format="torch_export")).module()
    torch.testing.assert_close(program(inputs), output, rtol=1e-5, atol=1e-6)
    with pytest.raises(UserError, match=r"rise\.0 \(ConvTranspose2d\): there is no such operation"):
        export(snn, tmp_path / "a.safetensors")


def test_the_networks_of_pixels_of_torchvision_convert_whole_or_for_their_answer():
    segmentation = pytest.importorskip("torchvision.models.segmentation")
    settings = {"weights": None, "weights_backbone": None, "num_classes": 3}
    net = segmentation.fcn_resnet50(**settings, aux_loss=True).eval()
    images = torch.rand(2, 3, 32, 32)
    quick = {"timesteps": 2, "threshold_rule": "max"}
    whole = convert(net, images[:1], [images], **quick)
    found = simulate(whole, images)
    assert {name: list(value.shape) for name, value in found.items()} == {
        "out": [2, 2, 3, 32, 32],
        "aux": [2, 2, 3, 32, 32],
    }
    # the neuron of the other head is left out, and the rest is the same
    alone = convert(OneOutput(net, "out"), images[:1], [images], **quick)
    assert (len(whole.shapes), len(alone.shapes)) == (51, 50)
    assert torch.equal(simulate(alone, images), found["out"])
