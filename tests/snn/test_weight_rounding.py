"""Weights on the grid of a chip: the grid itself, what shares one, and what is left alone."""

import pytest
import torch
from torch import nn

from ftbc_lightning import UserError, convert, simulate
from ftbc_lightning.ann.resnet import ResNet20
from ftbc_lightning.snn.conversion import prepare
from ftbc_lightning.snn.threshold_folding import fold_thresholds
from ftbc_lightning.snn.weight_rounding import layers_by_sum, quantize_weights
from tests.networks import residual_net, samples


def converted(ann=None):
    ann, images = residual_net() if ann is None else ann, samples(12)
    return convert(ann, images[:1], [images], timesteps=3)


def weights_of(snn):
    return {name: p.clone() for name, p in snn.layers.named_parameters() if p.ndim > 1}


def rounded_in_a_loop(weight, theta, bits):
    """One weight at a time; `theta` of each input channel, or None."""
    most, result = 2 ** (bits - 1) - 1, torch.empty_like(weight)
    for o in range(weight.shape[0]):
        folded = [w * (1 if theta is None else theta[i]) for i, w in enumerate(weight[o])]
        unit = max(float(value.abs().max()) for value in folded) / most
        for i, values in enumerate(folded):
            steps = [round(float(v) / unit) * unit for v in values.flatten()]
            factor = 1 if theta is None else float(theta[i])
            result[o, i] = torch.tensor(steps).view_as(values) / factor
    return result


@pytest.mark.parametrize("bits", [2, 4, 8, 16])
def test_rounding_equals_a_plain_loop(bits):
    snn = converted()
    before, found = weights_of(snn), weights_of(quantize_weights(snn, bits))
    neurons = snn.neurons()
    read = {"conv1": None, "conv2": "act1", "conv3": "act2", "linear": "act3"}
    for layer, neuron in read.items():
        theta = None if neuron is None else neurons[neuron].threshold
        expected = rounded_in_a_loop(before[f"{layer}.weight"], theta, bits)
        torch.testing.assert_close(found[f"{layer}.weight"], expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_folded_weights_are_whole_steps_and_rounding_again_changes_nothing(bits):
    rounded = quantize_weights(converted(), bits)
    folded, _ = fold_thresholds(rounded)
    for weight in weights_of(folded).values():
        rows = weight.flatten(1)
        steps = rows / rows.abs().amax(1, keepdim=True) * (2 ** (bits - 1) - 1)
        torch.testing.assert_close(steps, steps.round(), rtol=0, atol=1e-9)
    again = weights_of(quantize_weights(rounded, bits))
    for name, weight in weights_of(rounded).items():
        torch.testing.assert_close(again[name], weight, rtol=1e-12, atol=0)


def test_more_bits_are_nearer():
    snn, images = converted(), samples(12)
    expected = simulate(snn, images)
    errors = [
        (simulate(quantize_weights(snn, bits), images) - expected).square().mean()
        for bits in (2, 4, 8)
    ]
    assert errors[0] > errors[1] > errors[2]


def test_the_network_that_is_rounded_stays_as_it_is():
    snn = converted()
    before = {name: value.clone() for name, value in snn.state_dict().items()}
    rounded = quantize_weights(snn, 4)
    assert all(torch.equal(before[name], value) for name, value in snn.state_dict().items())
    own, other = snn.state_dict(), rounded.state_dict()
    changed = {name for name in own if not torch.equal(own[name], other[name])}
    assert changed == {f"layers.{name}.weight" for name in ("conv1", "conv2", "conv3", "linear")}


def test_a_shortcut_with_weights_shares_the_units_of_its_sum():
    torch.manual_seed(0)
    snn = converted(ResNet20(in_channels=2, shortcut="conv").double().eval())
    together = [layers for layers in layers_by_sum(snn) if len(layers) > 1]
    assert len(together) == 2
    folded, _ = fold_thresholds(quantize_weights(snn, 4))
    main, shortcut = (next(iter(layers)) for layers in zip(*together, strict=True))
    names = {id(m): name for name, m in snn.layers.named_modules()}
    rows = [
        folded.layers.get_submodule(names[id(module)]).weight.flatten(1)
        for module, _ in (main, shortcut)
    ]
    top = torch.cat(rows, 1).abs().amax(1, keepdim=True)
    for weight in rows:
        steps = weight / top * 7
        torch.testing.assert_close(steps, steps.round(), rtol=0, atol=1e-9)


@pytest.mark.parametrize("groups", [1, 2])
def test_transposed_and_grouped_layers_have_a_grid_for_each_output(groups):
    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Conv2d(2, 4, 3, groups=groups), nn.ReLU()),
        *(nn.ConvTranspose2d(4, 6, 2, groups=groups), nn.ReLU(), nn.Flatten(), nn.Linear(150, 2)),
    )
    folded, _ = fold_thresholds(quantize_weights(converted(net.double().eval()), 4))
    weight = folded.layers.get_submodule("2").weight
    for group, part in enumerate(weight.chunk(groups)):
        for o in range(6 // groups):
            steps = part[:, o] / part[:, o].abs().max() * 7
            torch.testing.assert_close(steps, steps.round(), rtol=0, atol=1e-9, msg=f"{group} {o}")


def test_a_channel_without_weights_stays_at_zero():
    ann = residual_net()
    nn.init.zeros_(ann.conv2.weight[1])
    snn = quantize_weights(converted(ann), 4)
    assert not snn.layers.get_submodule("conv2").weight[1].any()
    assert simulate(snn, samples(2)).isfinite().all()


@pytest.mark.parametrize("bits", [1, 0, 17])
def test_bits_out_of_range_are_refused(bits):
    with pytest.raises(UserError, match=f"Weights of {bits} bits cannot be had; choose 2 to 16"):
        quantize_weights(converted(), bits)


def test_thresholds_must_be_set():
    snn = prepare(residual_net(), samples(1), timesteps=2)
    with pytest.raises(UserError, match="not set"):
        quantize_weights(snn, 8)


class Broadcasting(nn.Module):
    """A sum of four channels and one."""

    def __init__(self):
        super().__init__()
        self.four, self.one = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(2, 1, 1)
        self.last = nn.Linear(4 * 36, 3)

    def forward(self, x):
        return self.last(torch.relu(self.four(x) + self.one(x)).flatten(1))


def test_a_sum_that_broadcasts_has_one_unit():
    snn = quantize_weights(converted(Broadcasting().double()), 4)
    weights = weights_of(snn)
    top = max(weights["four.weight"].abs().max(), weights["one.weight"].abs().max())
    for name in ("four.weight", "one.weight"):
        steps = weights[name] / (top / 7)
        torch.testing.assert_close(steps, steps.round(), rtol=0, atol=1e-9)
    again = weights_of(quantize_weights(snn, 4))
    assert all(torch.allclose(again[name], weights[name], atol=1e-12) for name in weights)
