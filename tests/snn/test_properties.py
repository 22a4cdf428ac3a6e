"""Properties that hold for any input: neuron, thresholds, folding, exact solver, map."""

import json

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ftbc_lightning import calibrate, convert, simulate
from ftbc_lightning.calibration.exact import exact
from ftbc_lightning.calibration.layer import Layer, Step
from ftbc_lightning.calibration.order_statistic import kth_smallest
from ftbc_lightning.snn.conversion import reconvert
from ftbc_lightning.snn.network import conversion_map
from ftbc_lightning.snn.neurons.integrate_and_fire import IFNeuron
from ftbc_lightning.snn.statistics import ActivationStatistics, identity
from ftbc_lightning.snn.threshold_folding import fold_thresholds
from ftbc_lightning.snn.thresholds import ThresholdSettings, choose

few = settings(derandomize=True, max_examples=12, deadline=None)
seeds = st.integers(0, 10**6)
halves = st.sampled_from(["initial", "per_step", "none"])
rules = st.sampled_from(["mse", "max", "percentile"])
scopes = st.sampled_from(["channel", "layer"])


def draw(seed: int, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@few
@given(seeds, st.integers(1, 9), st.integers(1, 4), halves, st.floats(0.01, 100), st.data())
def test_the_neuron_keeps_its_charge_and_does_not_see_chunks(
    seed, steps, channels, half, scale, data
):
    neuron = IFNeuron(channels, timesteps=steps).double()
    threshold = (draw(seed, channels).abs() + 0.1) * scale
    neuron.set_threshold(threshold, half_threshold=half)
    neuron.temporal_bias.copy_(draw(seed + 1, steps, channels) * scale)
    current = draw(seed + 2, steps, 3, channels, 2) * scale
    spikes, membrane = neuron(current)
    shaped = threshold.view(-1, 1)
    assert bool(((spikes == 0) | (spikes == shaped)).all())
    added = current.sum(0) + (neuron.temporal_bias + neuron.step_charge).sum(0).view(-1, 1)
    start = neuron.initial_membrane.view(-1, 1)
    torch.testing.assert_close(spikes.sum(0) + membrane, start + added, rtol=0, atol=1e-9 * scale)
    cut = data.draw(st.integers(0, steps))
    first, carried = neuron(current[:cut]) if cut else (current[:0], None)
    second, last = neuron(current[cut:], carried, cut)
    assert torch.equal(torch.cat([first, second]), spikes)
    assert torch.equal(last, membrane)


def statistics(activations: torch.Tensor, pieces: int) -> ActivationStatistics:
    found = ActivationStatistics(activations.shape[1], torch.device("cpu"))
    for piece in activations.chunk(pieces):
        found.update(piece)
    return found


@few
@given(seeds, rules, scopes, st.integers(1, 16), st.integers(1, 6), st.integers(-8, 8))
def test_thresholds_scale_with_the_activations_and_do_not_see_the_order(
    seed, rule, scope, steps, pieces, power
):
    activations = draw(seed, 40, 3, 4).float().relu()
    activations[:, 2] *= seed % 2  # a dead channel every other time

    def theta(values, pieces=1):
        found = statistics(values, pieces)
        return choose(
            rule, found, name="act", timesteps=steps, settings=ThresholdSettings(scope=scope)
        )

    expected = theta(activations)
    assert bool((expected > 0).all())
    assert bool((expected <= activations.max() + 1e-6).all())
    shuffled = activations[torch.randperm(40, generator=torch.Generator().manual_seed(seed))]
    assert torch.equal(theta(shuffled, pieces), expected)
    assert torch.equal(theta(activations * 2.0**power), expected * 2.0**power)


def network(seed: int, blocks: int, pooling: str) -> nn.Sequential:
    torch.manual_seed(seed)
    pools = {"none": nn.Identity(), "average": nn.AvgPool2d(2), "max": nn.MaxPool2d(2)}
    layers: list[nn.Module] = [nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU()]
    for _ in range(blocks):
        layers += [nn.Conv2d(3, 3, 3, padding=1), nn.ReLU()]
    layers += [pools[pooling], nn.Flatten(), nn.Linear(12 if pooling != "none" else 48, 4)]
    return nn.Sequential(*layers).double().eval()


networks = st.builds(network, seeds, st.integers(0, 2), st.sampled_from(["none", "average", "max"]))


@few
@given(networks, seeds, rules, halves, st.integers(1, 6))
def test_folding_changes_no_logit_and_makes_spikes_binary(net, seed, rule, half, steps):
    images = draw(seed, 6, 1, 4, 4)
    snn = convert(
        net, images[:1], [images], timesteps=steps, threshold_rule=rule, half_threshold=half
    )
    folded, _ = fold_thresholds(snn)
    torch.testing.assert_close(simulate(folded, images), simulate(snn, images), rtol=0, atol=1e-9)
    assert all(bool((neuron.amplitude == 1).all()) for neuron in folded.neurons().values())


@few
@given(
    st.lists(st.integers(-8, 16), min_size=1, max_size=25),
    st.floats(0, 1),
    st.integers(1, 25),
    st.floats(0.5, 4),
)
def test_exact_comes_as_near_to_the_wanted_mean_as_ties_allow(values, share, cut, threshold):
    neuron = IFNeuron(1, timesteps=1).double()
    neuron.set_threshold(torch.tensor([threshold]), half_threshold="none")
    potentials = torch.tensor(values, dtype=torch.float64).view(-1, 1) / 8
    layer = Layer.of("act", neuron, [potentials[None]], [potentials], len(potentials), identity)
    wanted = share * neuron.threshold
    pieces = list(potentials.split(cut))
    none = [None] * len(pieces)
    bias = exact()(Step(layer, pieces, none, wanted, wanted, torch.zeros(1, dtype=torch.float64)))
    spikes = int((potentials + bias >= neuron.threshold).sum())
    reachable = {sum(v >= x for v in values) for x in [*values, max(values) + 1]}
    nearest = min(abs(count - share * len(values)) for count in reachable)
    assert abs(spikes - share * len(values)) <= nearest + 1e-9


numbers = st.floats(width=32, allow_nan=False)


@few
@given(st.lists(numbers, min_size=1, max_size=30), st.data())
def test_the_kth_smallest_by_counting_is_the_sorted_one(values, data):
    k = data.draw(st.integers(1, len(values)))
    cut = data.draw(st.integers(0, len(values)))
    row = torch.tensor([values], dtype=torch.float32)
    pieces = [row[:, :cut], row[:, cut:]]
    found = kth_smallest(pieces, torch.tensor([k]), reduce=lambda counts, kind: counts)
    assert float(found) == float(row.sort().values[0, k - 1])
    assert float(kth_smallest(pieces, torch.tensor([k]))) == float(found)


@few
@given(networks, seeds, st.integers(1, 6))
def test_the_conversion_map_survives_json_and_rebuilds_the_network(net, seed, steps):
    images = draw(seed, 6, 1, 4, 4)
    snn = convert(net, images[:1], [images], timesteps=steps)
    calibrate(net, snn, [images], method="exact")
    rebuilt = reconvert(net, json.loads(json.dumps(conversion_map(snn))))
    rebuilt.load_state_dict(snn.state_dict())
    assert torch.equal(simulate(rebuilt, images), simulate(snn, images))
