"""Gradients against finite differences of the relaxed neuron, spikes against `simulate`."""

from itertools import product

import pytest
import torch
from torch import nn

from ftbc_lightning import UserError, calibrate, convert, simulate
from ftbc_lightning.snn.conversion import prepare
from ftbc_lightning.snn.network import conversion_map
from ftbc_lightning.snn.surrogates import SHAPES, Surrogate
from ftbc_lightning.snn.threshold_folding import fold_thresholds
from ftbc_lightning.snn.trainable import TrainableNetwork
from tests.networks import residual_net, samples

T = 3
MODELS = [
    {"neuron": neuron, "levels": levels, "leak": leak}
    for neuron, levels, leak in product(("if", "signed"), (1, 2), (1.0, 0.8))
]


def made(dtype=torch.float64, **model):
    net, images = residual_net(dtype=dtype), samples(6, dtype=dtype)
    snn = convert(net, images[:1], [images], timesteps=T, **model)
    calibrate(net, snn, [images], method="weights+exact")
    return snn, images


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_forwards_it_is_the_simulation_to_the_bit(model, dtype, checkpointing):
    snn, images = made(dtype, **model)
    trained = TrainableNetwork(snn, thresholds=True, checkpointing=checkpointing)
    assert torch.equal(trained(images), simulate(snn, images))
    assert torch.equal(simulate(trained.network(), images), simulate(snn, images))


def relaxed_steps(neuron, current, surrogate):
    """The neuron's steps with smooth levels in place of jumps, for autograd to differentiate."""
    theta = neuron.per_channel(neuron.threshold, current)
    v = neuron.rest(current)
    owed = torch.zeros_like(v) if neuron.remembers else None
    bias = neuron.per_channel(neuron.temporal_bias, current)
    outputs = []
    for x, b in zip(current, bias, strict=True):
        u = v + x + b
        levels = neuron.crossings(u, owed)
        certain = [level.isinf() for level in levels]  # it cannot be taken back
        near = [theta.where(sure, level) for level, sure in zip(levels, certain, strict=True)]
        risen = [surrogate.relaxed((level - theta) / theta) for level in near]
        spikes = sum(r.masked_fill(sure, 1) for r, sure in zip(risen, certain, strict=True))
        spikes = spikes - neuron.levels * neuron.below
        v = neuron.leak * (u - theta * spikes)
        if owed is not None:  # what may be taken back is a matter of whole spikes
            owed = owed - neuron.fire(u.detach(), theta.detach(), owed)
        outputs.append(theta * spikes)
    return torch.stack(outputs)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_relaxed_neuron_has_the_gradients_of_finite_differences(model, shape):
    """So the test below compares with something that is true."""
    snn, _ = made(**model)
    neuron, surrogate = snn.neurons()["act2"], Surrogate(shape, 0.7)
    current = torch.rand(T, 2, 6, 1, 1, dtype=torch.float64).requires_grad_()
    neuron.temporal_bias.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x, b: relaxed_steps(neuron, x, surrogate), (current, neuron.temporal_bias)
    )


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_are_those_of_the_relaxed_neuron_at_the_spikes_that_were_fired(
    model, shape, monkeypatch
):
    """With relaxed spikes in the forward pass too, both are one function and have one gradient."""
    from ftbc_lightning.snn import trainable

    torch.manual_seed(0)
    snn, _ = made(**model)
    surrogate = Surrogate(shape, 0.7)
    neuron = TrainableNetwork(snn, thresholds=True).snn.neurons()["act2"]
    own = neuron.threshold, neuron.temporal_bias
    theta = neuron.per_channel(neuron.threshold, torch.empty(1, 1, 6, 1, 1)).detach()

    def fire(charged, threshold, owed, out=None):
        levels = neuron.crossings(charged, owed)
        spikes = sum(surrogate.relaxed((level - theta) / theta) for level in levels)
        return spikes - neuron.levels * neuron.below

    whole = type(neuron).fire

    def settle(charged, threshold, owed, fired):
        before = None if owed is None else owed.clone()
        spikes = whole(neuron, charged, threshold, before)
        charged.addcmul_(fired, threshold, value=-1)
        charged.mul_(neuron.leak)
        if owed is not None:
            owed.sub_(spikes)

    current = torch.randn(T, 2, 6, 2, 2, dtype=torch.float64).requires_grad_()
    weight = torch.randn(T, 2, 6, 2, 2, dtype=torch.float64)
    expected = torch.autograd.grad(
        (relaxed_steps(neuron, current, surrogate) * weight).sum(), (current, *own)
    )
    monkeypatch.setattr(neuron, "fire", fire)
    monkeypatch.setattr(neuron, "settle", settle)
    output = trainable.fire(neuron, current, surrogate)
    found = torch.autograd.grad((output * weight).sum(), (current, *own))
    for mine, theirs in zip(found, expected, strict=True):
        assert theirs.abs().max() > 0
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-10)


@pytest.mark.parametrize("model", MODELS)
def test_checkpointing_gives_the_same_gradients(model):
    snn, images = made(**model)
    gradients = []
    for checkpointing in (False, True):
        trained = TrainableNetwork(snn, thresholds=True, checkpointing=checkpointing)
        trained(images)[-1].square().mean().backward()
        gradients.append({name: p.grad for name, p in trained.named_parameters()})
    assert gradients[0].keys() == gradients[1].keys()
    for name, value in gradients[0].items():
        assert torch.equal(value, gradients[1][name]), name


def test_weights_biases_and_if_asked_thresholds_are_parameters():
    snn, images = made()
    plain, more = TrainableNetwork(snn), TrainableNetwork(snn, thresholds=True)
    names = {name.rpartition(".")[2] for name, _ in plain.named_parameters()}
    assert names == {"weight", "bias", "temporal_bias"}
    added = {n for n, _ in more.named_parameters()} - {n for n, _ in plain.named_parameters()}
    assert {name.rpartition(".")[2] for name in added} == {"threshold"}
    more(images)[-1].square().mean().backward()
    assert all(p.grad is not None for p in more.parameters())


def test_training_lowers_the_loss_and_leaves_the_first_network_as_it_is():
    snn, images = made()
    before = simulate(snn, images)
    trained = TrainableNetwork(snn, thresholds=True)
    wanted = torch.randn(len(images), before.shape[-1], dtype=before.dtype)
    optimizer = torch.optim.Adam(trained.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        loss = (trained(images)[-1] - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert losses[-1] < 0.5 * losses[0]
    assert torch.equal(simulate(snn, images), before)
    network = trained.network()
    assert torch.equal(simulate(network, images), trained(images))
    assert conversion_map(network) == conversion_map(snn)
    assert not [name for name, _ in network.named_parameters() if "temporal_bias" in name]
    assert not any(p.requires_grad for p in network.parameters())


@pytest.mark.parametrize("model", [{}, {"neuron": "signed", "leak": 0.8}])
def test_in_mixed_precision_gradients_are_near_those_in_float32(model):
    snn, images = made(torch.float32, **model)
    gradients = []
    for mixed in (False, True):
        trained = TrainableNetwork(snn, thresholds=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            outputs = trained(images)
        outputs.float().square().mean().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in trained.parameters()]))
    assert gradients[1].dtype == torch.float32
    assert torch.cosine_similarity(*gradients, dim=0) > 0.9


def test_two_passes_may_come_before_one_backward():
    snn, images = made()
    trained = TrainableNetwork(snn, thresholds=True)
    (trained(images)[-1].mean() + trained(images.flip(-1))[-1].mean()).backward()
    assert all(p.grad is not None for p in trained.parameters())


class Sized(nn.Module):
    """Reads its batch size early, and needs it late."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(*(m for _ in range(4) for m in (nn.Linear(8, 8), nn.ReLU())))
        self.last = nn.Linear(8, 3)

    def forward(self, x):
        doubled, number = x * 2, x.size(0)
        return self.last(self.layers(x) + doubled.view(number, 8))


def test_checkpointing_keeps_sizes_that_were_read_early():
    torch.manual_seed(0)
    net, images = Sized(), torch.rand(5, 8)
    snn = convert(net, images[:1], [images], timesteps=3)
    trained = TrainableNetwork(snn, checkpointing=True)
    outputs = trained(images)
    assert torch.equal(outputs, simulate(snn, images))
    outputs[-1].sum().backward()


def test_thresholds_stay_above_zero():
    snn, images = made()
    trained = TrainableNetwork(snn, thresholds=True)
    with torch.no_grad():
        trained.snn.neurons()["act2"].threshold.fill_(-1.0)
    assert trained(images).isfinite().all()
    assert (trained.network().neurons()["act2"].threshold > 0).all()


def test_max_pooling_over_sums_and_a_softmax_are_trained_through():
    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.MaxPool2d(2), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(16, 3), nn.Softmax(1)),
    )
    images = torch.rand(5, 2, 6, 6)
    snn = convert(net, images[:1], [images], timesteps=4)
    trained = TrainableNetwork(snn)
    logits = trained(images)
    assert torch.equal(logits, simulate(snn, images))
    logits[-1][:, 0].sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained.parameters())


@pytest.mark.parametrize(("name", "width"), [("square", 1.0), ("triangle", 0.0)])
def test_a_surrogate_out_of_range_is_refused(name, width):
    with pytest.raises(UserError, match="surrogate"):
        Surrogate(name, width)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_level_rises_by_one_and_its_slope_is_the_derivative(shape):
    surrogate = Surrogate(shape, 0.6)
    z = torch.linspace(-300, 300, 600_001, dtype=torch.float64)
    assert surrogate.slope(torch.zeros(())) == pytest.approx(1 / 0.6)
    assert surrogate.slope(z).sum() * 1e-3 == pytest.approx(1, abs=1e-3)
    rise = (surrogate.relaxed(z + 1e-6) - surrogate.relaxed(z - 1e-6)) / 2e-6
    torch.testing.assert_close(rise, surrogate.slope(z), rtol=0, atol=1e-4)


def test_folded_thresholds_are_refused():
    folded, _ = fold_thresholds(made()[0])
    with pytest.raises(UserError, match="folded"):
        TrainableNetwork(folded)


def test_an_unset_threshold_is_refused():
    net, images = residual_net(), samples(2)
    snn = prepare(net, images[:1], timesteps=2)
    with pytest.raises(UserError, match="thresholds"):
        TrainableNetwork(snn)
