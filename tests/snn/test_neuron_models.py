"""Neurons with a sign, several levels and a leak: what they fire, alone and in a network."""

from itertools import product

import pytest
import torch
from torch import nn

from ftbc_lightning import (
    UserError,
    calibrate,
    conversion_map,
    convert,
    reconvert,
    simulate,
)
from ftbc_lightning.calibration.exact import exact
from ftbc_lightning.calibration.layer import Layer, correct_step_by_step
from ftbc_lightning.calibration.targets import aim_of
from ftbc_lightning.snn.early_exit import simulate_until_sure
from ftbc_lightning.snn.network import shortened
from ftbc_lightning.snn.neurons import NEURON_MODELS, TwoSidedNeuron
from ftbc_lightning.snn.statistics import identity
from ftbc_lightning.snn.stepping import SteppedNetwork
from tests.networks import residual_net, samples
from tests.reference import loops

MODELS = [
    {"neuron": neuron, "levels": levels, "leak": leak}
    for neuron, levels, leak in product(("if", "signed"), (1, 2, 3), (1.0, 0.8))
]
T = 5


class Pooled(nn.Sequential):
    """Max pooling that spikes reach, and a softmax behind the last layer."""

    def __init__(self):
        torch.manual_seed(0)
        first = nn.Conv2d(2, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(3, 3, 1), nn.ReLU()
        super().__init__(*first, nn.Flatten(), nn.Linear(12, 4), nn.Softmax(-1))


def made(model, net=None):
    net, images = residual_net() if net is None else net, samples(20)
    return net, images, convert(net, images[:1], [images], timesteps=T, **model)


def slow(net, snn, model):
    thresholds = {name: neuron.threshold for name, neuron in snn.neurons().items()}
    network, neurons = loops.spiking_copy(net, thresholds, T)
    for name, neuron in neurons.items():
        neuron.signed, neuron.levels = model["neuron"] == "signed", model["levels"]
        neuron.leak = model["leak"]
        neuron.bias.copy_(snn.neurons()[name].temporal_bias)
    return network, neurons


@pytest.mark.parametrize("model", MODELS)
def test_spikes_and_logits_are_those_of_the_loop(model):
    net, images, snn = made(model)
    generator = torch.Generator().manual_seed(3)
    for neuron in snn.neurons().values():
        noise = torch.randn(T, neuron.channels, generator=generator, dtype=torch.float64)
        neuron.temporal_bias.copy_(0.5 * noise * neuron.threshold)
    network, neurons = slow(net, snn, model)
    expected = loops.read_out(loops.run(network, neurons, images, T), model["leak"])
    torch.testing.assert_close(simulate(snn, images), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("network", [residual_net, lambda: Pooled().double()])
def test_every_way_to_run_it_gives_the_same(model, network, monkeypatch):
    net, images, snn = made(model, network())
    calibrate(net, snn, [images])
    expected = simulate(snn, images)
    for sizes in ((1, T), (20, 1), (7, 2)):
        monkeypatch.setattr("ftbc_lightning.snn.simulation.chunk_sizes", lambda *a, s=sizes: s)
        assert torch.equal(simulate(snn, images).isnan(), expected.isnan())
        torch.testing.assert_close(simulate(snn, images), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(SteppedNetwork(snn)(images), expected, rtol=0, atol=1e-12)
    exited, _ = simulate_until_sure(snn, images, confidence=1.0)
    torch.testing.assert_close(exited, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(shortened(snn, 3)(images), expected[:3], rtol=0, atol=1e-12)


@pytest.mark.parametrize("model", MODELS)
def test_many_steps_approach_the_ann(model):
    net, images = residual_net(), samples(20)
    if model["leak"] < 1:
        model = {**model, "leak": 0.999}
    snn = convert(net, images[:1], [images], timesteps=256, threshold_rule="max", **model)
    logits = net(images).detach()
    assert float((snn(images)[-1] - logits).abs().mean() / logits.std()) < 0.02


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("target", ["step", "cumulative", "ramp", "ideal"])
def test_each_step_meets_its_target_up_to_one_spike(model, target):
    net, images, snn = made(model)
    trace = calibrate(net, snn, [images], target=target)
    for name, errors in trace.last().items():
        shape = snn.shapes[name]
        one = float(snn.neurons()[name].threshold.max()) / (20 * shape[1] * shape[2])
        if target != "cumulative":
            assert float(errors.max()) <= one


@pytest.mark.parametrize("model", MODELS[6:])
def test_the_ideal_target_is_the_train_of_the_constant_activation(model):
    net, images, snn = made(model)
    calibrate(net, snn, [images], target="ideal")
    name, neuron = next(iter(snn.neurons().items()))
    activation = torch.relu(net.bn1(net.conv1(images)))
    top = neuron.top.view(-1, 1, 1)
    single = loops.StepNeuron(neuron.threshold, neuron.threshold / 2, T)
    single.signed, single.levels, single.leak = True, model["levels"], model["leak"]
    wanted = [single(activation.minimum(top)).mean((0, 2, 3)) for _ in range(T)]
    network, neurons = slow(net, snn, model)
    found = []
    neurons[name].register_forward_hook(lambda *a: found.append(a[2].mean((0, 2, 3))))
    loops.run(network, neurons, images, T)
    one = neuron.threshold / (20 * 36)
    assert bool(((torch.stack(found) - torch.stack(wanted)).abs() <= one + 1e-9).all())


@pytest.mark.parametrize("neuron", NEURON_MODELS)
def test_iterative_is_the_loop(neuron):
    model = {"neuron": neuron, "levels": 1, "leak": 1.0}
    net, images, snn = made(model)
    network, neurons = slow(net, snn, model)
    calibrate(net, snn, [images], method="iterative", target="step")
    loops.iterative(net, network, neurons, [images], alpha=0.5, timesteps=T)
    for name, own in snn.neurons().items():
        torch.testing.assert_close(own.temporal_bias, neurons[name].bias, rtol=0, atol=1e-12)


def test_a_signed_neuron_takes_back_no_more_than_it_has_sent():
    neuron = NEURON_MODELS["signed"](3, timesteps=40, levels=2)
    neuron.set_threshold(torch.tensor([0.5, 1.0, 2.0]), half_threshold="initial")
    current = 2 * torch.randn(40, 50, 3, generator=torch.Generator().manual_seed(0))
    spikes = neuron(current)[0] / neuron.threshold
    assert bool((spikes.cumsum(0) >= 0).all())
    assert set(spikes.unique().tolist()) == {-2, -1, 0, 1, 2}


@pytest.mark.parametrize(("levels", "leak"), list(product((1, 2, 3), (1.0, 0.8))))
def test_a_two_sided_neuron_is_the_loop_and_meets_the_target_of_each_step(levels, leak):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(T, 200, 3, dtype=torch.float64, generator=generator)
    neuron = TwoSidedNeuron(3, timesteps=T, levels=levels, leak=leak).double()
    neuron.set_threshold(torch.tensor([0.5, 1.0, 0.3]).double(), half_threshold="initial")
    means = torch.tensor([0.2, -0.4, -0.1]).double()
    activations = means + 0.3 * torch.randn(200, 3, dtype=torch.float64, generator=generator)
    layer = Layer.of("encoder", neuron, [lambda t: x[t].clone()], [activations], 200, identity)
    for target in ("step", "ideal"):
        _, errors = correct_step_by_step(layer, exact(), aim_of(layer, target))
        assert float(errors.after.max()) <= float(neuron.threshold.max()) / 200 + 1e-12
    slowly = loops.StepNeuron(neuron.threshold, neuron.threshold / 2, T)
    slowly.two_sided, slowly.levels, slowly.leak = True, levels, leak
    slowly.bias = neuron.temporal_bias
    expected = torch.stack([slowly(current) for current in x])
    torch.testing.assert_close(neuron(x)[0], expected, rtol=0, atol=1e-12)
    assert (expected / neuron.threshold).round().amin() == -levels


@pytest.mark.parametrize("model", MODELS)
def test_the_map_rebuilds_the_neurons(model):
    net, images, snn = made(model)
    calibrate(net, snn, [images])
    twin = reconvert(net, conversion_map(snn))
    twin.load_state_dict(snn.state_dict())
    assert torch.equal(twin(images), snn(images))


def test_a_network_without_a_sign_or_levels_has_the_map_of_before():
    _, _, snn = made({"neuron": "if", "levels": 1, "leak": 1.0})
    assert not {"neuron", "levels", "leak"} & conversion_map(snn).keys()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"levels": 0}, "levels is 0"),
        ({"levels": 128}, "levels is 128"),
        ({"leak": 0.0}, "leak is 0.0"),
        ({"leak": 1.5}, "leak is 1.5"),
        ({"leak": float("nan")}, "leak is nan"),
        ({"neuron": "spiking"}, "Neuron 'spiking' is unknown"),
    ],
)
def test_what_no_neuron_can_be_is_refused(settings, said):
    with pytest.raises(UserError, match=said):
        made(settings)
