import pytest
import torch
from torch import nn

from ftbc_lightning import calibrate, convert, simulate
from ftbc_lightning.calibration import backpropagation
from ftbc_lightning.calibration.held_out import half_of, sorted_by_half
from ftbc_lightning.calibration.regression import Regression
from ftbc_lightning.calibration.weights import correct_weights
from ftbc_lightning.errors import UserError
from ftbc_lightning.graph.tracing import trace
from ftbc_lightning.snn.network import sibling
from ftbc_lightning.snn.neurons.integrate_and_fire import IFNeuron
from ftbc_lightning.snn.statistics import identity
from tests.networks import residual_net, samples
from tests.reference import loops
from tests.reference.ridge import held

LAYERS = {
    "wide linear": (nn.Linear(60, 4), (60,)),
    "wide linear without bias": (nn.Linear(60, 4, bias=False), (60,)),
    "wide, grouped": (nn.Conv2d(24, 6, 3, groups=2, padding=1), (24, 2, 1)),
    "linear": (nn.Linear(5, 4), (5,)),
    "linear without bias": (nn.Linear(5, 4, bias=False), (5,)),
    "conv1d": (nn.Conv1d(3, 4, 3, stride=2, padding=1), (3, 9)),
    "conv2d": (nn.Conv2d(3, 4, 3, padding=1), (3, 6, 6)),
    "strided, dilated": (nn.Conv2d(3, 4, 3, stride=2, dilation=2, padding=(2, 1)), (3, 8, 8)),
    "same": (nn.Conv2d(2, 4, (3, 2), padding="same", bias=False), (2, 5, 5)),
    "reflected": (nn.Conv2d(2, 4, 3, padding=1, padding_mode="reflect"), (2, 5, 5)),
    "grouped": (nn.Conv2d(4, 6, 3, padding=1, groups=2), (4, 5, 5)),
    "depthwise": (nn.Conv2d(4, 4, 3, padding=1, groups=4), (4, 5, 5)),
}


def regression(
    module: nn.Module, shape: tuple[int, ...], batches: int = 3, of=torch.float64
) -> Regression:
    """A layer whose output misses what is wanted by something that depends on its input."""
    torch.manual_seed(0)
    module.reset_parameters()
    module = module.to(of).requires_grad_(False)
    inputs = [torch.rand(8, *shape, dtype=of) for _ in range(batches)]
    inputs, first_half = sorted_by_half(inputs)
    currents = [module(r) for r in inputs]
    wanted = [x + 0.3 * torch.randn_like(x) + 0.2 * x.roll(1, 1) for x in currents]
    neuron = IFNeuron(currents[0].shape[1], timesteps=4).to(of)
    neuron.set_threshold(torch.rand(neuron.channels, dtype=of) + 0.2, half_threshold="initial")
    means = [lambda r=r, x=x: (r, x) for r, x in zip(inputs, currents, strict=True)]
    return Regression(module, neuron, means, wanted, first_half, 8 * batches, identity)


def halves_of(images):
    """The indices of both halves."""
    half = half_of(images)
    return [(half == which).nonzero().flatten().tolist() for which in (0, 1)]


@pytest.mark.parametrize("name", LAYERS)
def test_weights_equal_least_squares_on_unfolded_patches(name):
    module, shape = LAYERS[name]
    problem = regression(module, shape)
    together = [torch.cat(parts) for parts in zip(*problem.samples(), strict=True)]
    gap = problem.clip(together[2]) - problem.clip(together[1])
    weight, bias = held(module, together[0], gap, 0.1, halves_of(together[0]))
    before = {key: value.clone() for key, value in module.state_dict().items()}
    correct_weights(problem, shrinkage=0.1)
    torch.testing.assert_close(module.weight, before["weight"] + weight, rtol=0, atol=1e-10)
    assert weight.abs().max() > 1e-3
    if module.bias is not None:
        torch.testing.assert_close(module.bias, before["bias"] + bias, rtol=0, atol=1e-10)


@pytest.mark.parametrize("correct", [correct_weights, backpropagation.backpropagate])
def test_a_linear_layer_over_places_is_corrected_as_a_convolution_of_one_place(correct):
    torch.manual_seed(0)
    linear, conv = nn.Linear(5, 4).double(), nn.Conv1d(5, 4, 1).double()
    conv.weight.data, conv.bias.data = linear.weight.data[:, :, None].clone(), linear.bias.data
    r, lacking = torch.rand(16, 3, 5).double(), torch.rand(16, 3, 4).double()
    for module, turn in ((linear, lambda v: v), (conv, lambda v: v.mT)):
        module.requires_grad_(False)
        read, x = turn(r), module(turn(r))
        means = [lambda found=(read, x): found]
        problem = Regression(module, None, means, [x + turn(lacking)], [8], 16, identity)
        settings = {"shrinkage": 0.1} if correct is correct_weights else {"iterations": 3}
        before = module.weight.clone()
        correct(problem, **settings)
        assert not torch.equal(module.weight, before)
    torch.testing.assert_close(linear.weight, conv.weight[:, :, 0], rtol=0, atol=1e-12)


def test_back_propagated_weights_bring_the_mean_output_nearer(monkeypatch):
    monkeypatch.setattr(backpropagation, "LEARNING_RATE", 1e-2)
    module = nn.Conv2d(3, 4, 3, padding=1)
    problem = regression(module, (3, 6, 6), batches=1)

    def error() -> float:
        total = 0.0
        for r, _, z in problem.samples():
            x = module(r)
            outputs, _ = problem.neuron(x.expand(4, *x.shape))
            total += float((outputs.mean(0) - z.relu()).square().mean())
        return total

    first, bias = error(), module.bias.clone()
    backpropagation.backpropagate(problem, iterations=200)
    assert error() < 0.9 * first
    assert torch.equal(module.bias, bias)


T = 4
NAMES = ("act1", "act2", "act3")


def test_weights_equal_a_slow_walk_through_the_layers():
    net, images = residual_net(), samples(32)
    snn = convert(net, images[:1], [images], timesteps=T)
    outcome = calibrate(net, snn, images.split(10), method="weights", shrinkage=0.1)
    assert outcome.left_alone == ["conv1", "linear"]
    ann = trace(net)
    thresholds = {name: snn.neurons()[name].threshold for name in NAMES}
    slow, neurons = loops.spiking_copy(ann, thresholds, T)
    for name, layer in (("act2", "conv2"), ("act3", "conv3")):
        z = mean_input(ann, name, lambda: ann(images))
        run = lambda: loops.run(slow, neurons, images, T)  # noqa: E731
        r, x = mean_input(slow, layer, run), mean_input(slow, name, run)
        theta = thresholds[name].view(-1, 1, 1)
        clip = lambda v, theta=theta: torch.minimum(torch.maximum(v, -theta / 2), theta)  # noqa: E731
        module = getattr(slow, layer)
        weight, bias = held(module, r, clip(z) - clip(x), 0.1, halves_of(images))
        with torch.no_grad():
            module.weight += weight
            module.bias += bias
        found = getattr(snn.layers, layer)
        torch.testing.assert_close(found.weight, module.weight.data, rtol=0, atol=1e-9)
        torch.testing.assert_close(found.bias, module.bias.data, rtol=0, atol=1e-9)


@torch.no_grad()
def mean_input(net, name, run):
    """The mean over all calls of what a submodule reads."""
    seen = []
    handle = getattr(net, name).register_forward_pre_hook(lambda m, args: seen.append(args[0]))
    run()
    handle.remove()
    return torch.stack(seen).mean(0)


def test_a_network_with_layers_of_its_own_leaves_the_others_as_they_are():
    net, images = residual_net(), samples(16)
    first = convert(net, images[:1], [images], timesteps=T)
    own = sibling(first, timesteps=T, own_layers=True)
    for name, neuron in own.neurons().items():
        neuron.load_state_dict(first.neurons()[name].state_dict())
    before, ann = simulate(first, images), net(images)
    calibrate(net, own, [images], method="weights+exact")
    assert not torch.equal(own.layers.conv2.weight, first.layers.conv2.weight)
    assert torch.equal(simulate(first, images), before)
    assert torch.equal(net(images), ann)


@pytest.mark.parametrize("method", ["weights+exact", "potential+static", "weights+iterative"])
def test_a_calibration_does_not_build_on_the_one_before(method):
    net, images = residual_net(), samples(24)
    once, twice = (convert(net, images[:1], [images], timesteps=T) for _ in range(2))
    calibrate(net, twice, [images], method="weights+potential+exact")
    for snn in (once, twice):
        calibrate(net, snn, [images], method=method)
    assert torch.equal(simulate(once, images), simulate(twice, images))


def test_autocast_does_not_round_the_regression():
    found = []
    for mixed in (False, True):
        problem = regression(nn.Conv2d(3, 4, 3, padding=1), (3, 6, 6), of=torch.float32)
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            correct_weights(problem, shrinkage=0.03)
        found.append(problem.module.weight)
    assert torch.equal(*found)


def test_a_shrinkage_that_rounding_hides_is_refused():
    with pytest.raises(UserError, match=r"1e-30.*give more"):
        correct_weights(regression(nn.Linear(40, 4), (40,)), shrinkage=1e-30)
