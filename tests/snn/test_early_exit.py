import pytest
import torch
from torch import nn

from ftbc_lightning import calibrate, convert, simulate
from ftbc_lightning.snn.early_exit import exit_curve, exit_step, simulate_until_sure
from ftbc_lightning.snn.stepping import SteppedNetwork
from tests.networks import residual_net, samples


@pytest.mark.parametrize("neuron", ["if", "signed"])
def test_membranes_that_were_corrected_are_where_a_stepped_network_begins(neuron):
    net, images = residual_net(), samples(20)
    snn = convert(net, images[:1], [images], timesteps=4, neuron=neuron)
    calibrate(net, snn, [images], method="potential+exact")
    expected = simulate(snn, images)
    torch.testing.assert_close(SteppedNetwork(snn)(images), expected, rtol=0, atol=1e-12)
    exited, _ = simulate_until_sure(snn, images, confidence=1.0)
    torch.testing.assert_close(exited, expected, rtol=0, atol=1e-12)


def test_at_a_confidence_of_1_no_sample_stops():
    logits = torch.tensor([[[200.0, 0.0]], [[0.0, 200.0]]])
    assert exit_step(logits.softmax(-1).amax(-1), 1.0).tolist() == [1]
    curve = exit_curve(logits, torch.tensor([1]), confidences=[1.0])
    assert [point.mean_steps for point in curve] == [2, 2]
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    with torch.no_grad():
        net[2].weight.mul_(1e4)
    images = torch.rand(8, 2)
    snn = convert(net, images[:1], [images], timesteps=4)
    assert simulate_until_sure(snn, images, confidence=1.0)[1].tolist() == [4] * 8
