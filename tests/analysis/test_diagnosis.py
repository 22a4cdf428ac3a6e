from itertools import product

import pytest
import torch

from ftbc_lightning import calibrate, convert, simulate
from ftbc_lightning.analysis.diagnosis import LayerDiagnosis, diagnose
from ftbc_lightning.analysis.observation import neurons_before, watch
from ftbc_lightning.graph.propagation import Plan
from ftbc_lightning.graph.tracing import trace
from tests.networks import residual_net, samples


def network(timesteps=8):
    ann, images = residual_net(), samples(32)
    return ann, convert(ann, images[:1], [images], timesteps=timesteps), images


def shrink(neuron):
    """Break a layer by clipping: thresholds ten times too low."""
    neuron.set_threshold(neuron.threshold / 10, half_threshold="initial")


def flood(neuron):
    """Break a layer by a bias that makes everything fire."""
    neuron.temporal_bias.fill_(10 * float(neuron.threshold.max()))


def coarsen(neuron):
    """Break a layer by thresholds ten times too high: almost nothing fires."""
    neuron.set_threshold(neuron.threshold * 10, half_threshold="initial")


@pytest.mark.parametrize(
    ("spoil", "cause"), [(shrink, "clipping"), (flood, "offset"), (coarsen, "quantisation")]
)
@pytest.mark.parametrize("broken", ["act1", "act2", "act3"])
def test_the_layer_that_was_broken_on_purpose_is_named_first(broken, spoil, cause):
    ann, snn, images = network()
    spoil(snn.neurons()[broken])
    found = diagnose(ann, snn, [images])
    assert found.worst()[0] == broken
    assert found.layers[broken].cause == cause
    assert found.advice(broken) != found.advice(found.worst()[-1])


def test_a_layer_whose_weights_were_broken_is_named_first():
    ann, snn, images = network()
    with torch.no_grad():
        snn.layers.conv2.weight *= -3
    assert diagnose(ann, snn, [images]).worst()[0] == "act2"


def test_calibration_lowers_the_error_that_is_reported():
    ann, snn, images = network(timesteps=4)
    before = diagnose(ann, snn, [images])
    calibrate(ann, snn, [images])
    after = diagnose(ann, snn, [images])
    for name in snn.shapes:
        assert after.layers[name].offset[-1] < 0.5 * before.layers[name].offset[-1]
    assert after.layers["act3"].clipping == pytest.approx(before.layers["act3"].clipping)


def test_the_three_causes_add_up_to_the_error():
    ann, snn, images = network(timesteps=5)
    view = next(iter(watch(trace(ann), snn, images)))
    found = diagnose(ann, snn, [images]).layers["act1"]
    error = view.output.mean(0) - view.activations
    expected = float(error.norm() / view.activations.norm())
    assert found.total[-1] == pytest.approx(expected)
    parts = found.clipping[-1] + found.quantisation[-1] + found.unevenness[-1]
    assert parts >= found.total[-1] - 1e-9


def test_unevenness_that_a_bias_brings_into_the_first_layer_is_told_apart():
    parts = {"total": (0.2,), "clipping": (0.05,), "quantisation": (0.1,), "unevenness": (0.15,)}
    common = {**parts, "offset": (0.01,), "added": 0.2, "firing_rate": (0.1,)}
    assert LayerDiagnosis(**common, reads_samples=True).cause == "bias"
    assert LayerDiagnosis(**common).cause == "scatter"


def test_a_constant_current_has_no_unevenness_in_the_first_layer():
    ann, snn, images = network(timesteps=6)
    found = diagnose(ann, snn, [images]).layers["act1"]
    assert found.unevenness[-1] == pytest.approx(0, abs=1e-6)
    assert found.total[-1] > 0


def test_sums_over_batches_are_those_of_one_batch():
    ann, snn, images = network()
    whole = diagnose(ann, snn, [images])
    parts = diagnose(ann, snn, list(images.split(8)))
    assert parts.samples == whole.samples == 32
    for name, layer in whole.layers.items():
        assert parts.layers[name].total == pytest.approx(layer.total)


def test_what_is_watched_is_what_is_simulated():
    ann, snn, images = network(timesteps=3)
    last = list(watch(trace(ann), snn, images))[-1]
    pooled = last.output.mean((-1, -2)).mean(0)
    expected = simulate(snn, images)[-1]
    assert torch.allclose(snn.layers.linear(pooled), expected)
    spent = last.membranes()[-1] * last.neuron.threshold.view(-1, 1, 1)
    _, membrane = last.neuron(last.current)
    assert torch.allclose(spent, membrane)


MODELS = [
    {"neuron": neuron, "levels": levels, "leak": leak}
    for neuron, levels, leak in product(("if", "signed"), (1, 2), (1.0, 0.7))
]


@pytest.mark.parametrize("model", MODELS)
def test_every_neuron_is_watched_as_it_runs(model):
    ann, images = residual_net(), samples(32)
    snn = convert(ann, images[:1], [images], timesteps=5, **model)
    calibrate(ann, snn, [images])
    for view in watch(trace(ann), snn, images):
        carried = view.neuron(view.current)[1]
        membrane = carried[0] if isinstance(carried, tuple) else carried
        spent = view.membranes()[-1] * view.neuron.threshold.view(-1, 1, 1)
        torch.testing.assert_close(spent, membrane)


@pytest.mark.parametrize("model", MODELS)
def test_the_error_of_every_neuron_is_that_of_its_weighted_mean(model):
    ann, images = residual_net(), samples(32)
    snn = convert(ann, images[:1], [images], timesteps=5, **model)
    calibrate(ann, snn, [images])
    found = diagnose(ann, snn, [images])
    for view in watch(trace(ann), snn, images):
        layer, weights = found.layers[view.name], view.neuron.weights()
        weights = torch.ones(5) if weights is None else weights
        phi = (view.output * weights.view(-1, 1, 1, 1, 1)).mean(0)
        a, top = view.activations, view.neuron.top.view(-1, 1, 1)
        assert layer.total[-1] == pytest.approx(float((phi - a).norm() / a.norm()))
        clipping = float((a.minimum(top) - a).norm() / a.norm())
        assert layer.clipping[-1] == pytest.approx(clipping)
        s = view.output / view.neuron.threshold.view(-1, 1, 1)
        assert layer.firing_rate == pytest.approx(s.abs().flatten(1).mean(1).tolist())
        negative = (s.clamp_max(0).abs().flatten(1).sum(1) / s.abs().flatten(1).sum(1)).tolist()
        assert layer.negative_share == pytest.approx(negative)


def test_more_levels_lower_thresholds_without_clipping():
    ann, snn, images = network()
    several = convert(ann, images[:1], [images], timesteps=8, levels=10)
    for name, neuron in several.neurons().items():
        neuron.set_threshold(snn.neurons()[name].threshold / 10, half_threshold="initial")
    one, ten = (diagnose(ann, n, [images]).layers["act1"] for n in (snn, several))
    assert ten.clipping == pytest.approx(one.clipping)
    assert ten.quantisation[-1] < 0.2 * one.quantisation[-1]


def test_an_even_input_whose_spikes_a_leak_makes_uneven_is_told_apart():
    parts = {"total": (0.2,), "clipping": (0.05,), "quantisation": (0.1,), "unevenness": (0.15,)}
    common = {**parts, "offset": (0.01,), "added": 0.2, "firing_rate": (0.1,)}
    assert LayerDiagnosis(**common, reads_samples=True, leaky=True).cause == "leak"
    assert LayerDiagnosis(**common, leaky=True).cause == "scatter"


def test_a_shortcut_counts_as_a_source():
    _, snn, _ = network()
    assert neurons_before(Plan(snn.layers)) == {
        "act1": (),
        "act2": ("act1",),
        "act3": ("act1", "act2"),
    }
