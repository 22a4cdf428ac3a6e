from itertools import product

import pytest
import torch
from torch import nn

from ftbc_lightning import convert
from ftbc_lightning.analysis.quantized_ann import bits, corrected_ann, on_grid, quantized_logits
from ftbc_lightning.calibration.held_out import half_of
from ftbc_lightning.calibration.places import correctable
from ftbc_lightning.graph.tracing import trace
from tests.networks import residual_net, samples
from tests.reference.ridge import held

MODELS = [
    {"neuron": neuron, "levels": levels, "leak": leak}
    for neuron, levels, leak in product(("if", "signed"), (1, 2), (1.0, 0.8))
]


def made(timesteps=2, **model):
    ann, images = residual_net().requires_grad_(False), samples(64)
    return ann, convert(ann, images[:1], [images], timesteps=timesteps, **model), images


@pytest.mark.parametrize("model", MODELS)
def test_corrected_weights_bring_the_quantised_ann_nearer_to_the_ann_on_their_samples(model):
    ann, snn, images = made(**model)
    plain = quantized_logits(ann, snn, images) - ann(images)
    corrected = corrected_ann(ann, snn, [images])
    better = quantized_logits(corrected, snn, images) - ann(images)
    assert float(better.norm()) < float(plain.norm())


def test_correcting_leaves_the_ann_and_changes_the_layers_that_the_spiking_one_changes():
    ann, snn, images = made()
    before = {name: value.clone() for name, value in ann.state_dict().items()}
    corrected = corrected_ann(ann, snn, [images])
    assert all(torch.equal(value, before[name]) for name, value in ann.state_dict().items())
    original = dict(trace(ann).named_parameters())
    changed = {n for n, v in corrected.named_parameters() if not torch.equal(v, original[n])}
    paths = {str(place.node.target) for (place,) in correctable(snn).values()}
    assert {name.rpartition(".")[0] for name in changed} == paths == {"conv2", "conv3"}


def test_batches_of_samples_correct_as_one():
    ann, snn, images = made()
    whole, parts = (corrected_ann(ann, snn, b) for b in ([images], list(images.split(20))))
    for name, value in whole.named_parameters():
        torch.testing.assert_close(value, parts.get_parameter(name), rtol=0, atol=1e-12)


def test_the_first_correction_is_a_ridge_regression_on_rounded_activations():
    ann, snn, images = made()
    neurons, graph = snn.neurons(), trace(ann)
    first = torch.relu(graph.conv1(images))
    r, z = on_grid(first, neurons["act1"], 2), graph.conv2(first)
    x, top = graph.conv2(r), neurons["act2"].top.view(-1, 1, 1)
    z, x = z.minimum(top).maximum(-top / 2), x.minimum(top).maximum(-top / 2)
    half = half_of(images)
    halves = [(half == which).nonzero().flatten().tolist() for which in (0, 1)]
    weight, bias = held(graph.conv2, r, z - x, 0.03, halves)
    conv = corrected_ann(ann, snn, [images]).conv2
    expected = graph.conv2.weight + weight
    torch.testing.assert_close(conv.weight.data, expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(conv.bias.data, graph.conv2.bias + bias, rtol=0, atol=1e-10)


def test_a_layer_before_max_pooling_is_corrected_and_one_used_twice_is_left():
    torch.manual_seed(0)
    twice = nn.Conv2d(3, 3, 1)
    net = nn.Sequential(
        *(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Conv2d(3, 3, 1), nn.MaxPool2d(2), nn.ReLU()),
        *(twice, nn.ReLU(), twice, nn.ReLU(), nn.Flatten(), nn.Linear(12, 4)),
    ).double()
    images = samples(64)
    snn = convert(net, images[:1], [images], timesteps=2)
    corrected = corrected_ann(net, snn, [images])
    before = net.requires_grad_(False).state_dict()
    after = corrected.state_dict()
    changed = {n for n in after if not torch.equal(before[n], after[n])}
    assert changed == {"2.weight", "2.bias"}


@pytest.mark.parametrize(("levels", "expected"), [(1, [0, 0.5, 1, 1]), (3, [0, 0.5, 1, 3])])
def test_the_grid_has_the_levels_of_all_spikes(levels, expected):
    _, snn, _ = made(levels=levels)
    neuron = snn.neurons()["act1"]
    neuron.set_threshold(torch.ones(6, dtype=torch.float64), half_threshold="initial")
    found = on_grid(torch.tensor([-1.0, 0.3, 1.1, 9.0]).expand(6, 4).T, neuron, 2)
    assert found[:, 0].tolist() == expected
    assert bits(2 * levels) == {1: 2, 3: 3}[levels]
