"""Operations that are carried over, and activations of two signs, on a device: the CPU's bits."""

import copy

import torch
from torch import nn

from ftbc_lightning import calibrate, convert, simulate
from ftbc_lightning.analysis.operation_counts import count_operations
from ftbc_lightning.snn.threshold_folding import fold_thresholds
from tests.graph.test_dense_outputs import UNet, images


def made(place):
    """A decoder with trained slopes, converted and calibrated in a place."""
    torch.manual_seed(0)
    ann = copy.deepcopy(UNet(lambda: nn.PReLU()).eval()).to(place)
    batches = [images(4).float().to(place)]
    snn = convert(ann, batches[0][:1], batches, timesteps=3)
    calibrate(ann, snn, batches)
    return snn


def test_a_decoder_of_two_sided_activations(device):
    here, there, inputs = made("cpu"), made("pretend"), images(4).float()
    state, other = here.state_dict(), there.state_dict()
    assert {value.device.type for value in other.values()} == {"pretend"}
    assert all(torch.equal(value, other[name].cpu()) for name, value in state.items())
    for one, two in ((here, there), (fold_thresholds(here)[0], fold_thresholds(there)[0])):
        assert torch.equal(simulate(one, inputs), simulate(two, inputs.to("pretend")).cpu())
    counted = [count_operations(snn, inputs).layers for snn in (here, there)]
    assert counted[0] == counted[1]
