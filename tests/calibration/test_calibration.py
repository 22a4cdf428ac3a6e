import pytest
import torch
from torch import nn

from ftbc_lightning import UserError, calibrate, convert, simulate
from ftbc_lightning.calibration import parse_method
from ftbc_lightning.calibration.exact import exact
from ftbc_lightning.calibration.layer import Layer, Step, correct_step_by_step
from ftbc_lightning.calibration.static import as_it_is
from ftbc_lightning.calibration.sweep import sweep
from ftbc_lightning.graph.operators import is_neuron
from ftbc_lightning.snn.neurons.integrate_and_fire import IFNeuron
from tests.networks import residual_net, samples
from tests.reference import loops

NAMES = ("act1", "act2", "act3")
T = 5


def converted(net, images, timesteps=T, **settings):
    return convert(net, images[:1], [images], timesteps=timesteps, **settings)


@pytest.mark.parametrize("target", ["step", "cumulative"])
def test_iterative_equals_the_slow_reference_to_1e_12(target):
    net, images = residual_net(), samples(48)
    snn = converted(net, images)
    thresholds = {name: snn.neurons()[name].threshold.clone() for name in NAMES}
    slow, neurons = loops.spiking_copy(net, thresholds, T)
    batches = images.split(16)
    cumulative = target == "cumulative"
    loops.iterative(net, slow, neurons, batches, alpha=0.5, timesteps=T, cumulative=cumulative)
    calibrate(net, snn, batches, method="iterative", alpha=0.5, target=target)
    for name in NAMES:
        assert neurons[name].bias.abs().max() > 0.01
        difference = (snn.neurons()[name].temporal_bias - neurons[name].bias).abs().max()
        assert difference < 1e-12
    slow_logits = loops.run(slow, neurons, images, T).cumsum(0)
    slow_logits /= torch.arange(1, T + 1).view(-1, 1, 1)
    assert (simulate(snn, images) - slow_logits).abs().max() < 1e-12


def count_samples(module: nn.Module, counted: list[int]) -> None:
    module.register_forward_pre_hook(lambda _, args: counted.append(args[0].shape[0]))


def test_iterative_costs_one_ann_pass_and_one_snn_pass_a_batch(monkeypatch):
    net, images = residual_net(), samples(48)
    snn = converted(net, images)
    from ftbc_lightning.graph.tracing import trace

    reference = trace(net)
    ann_passes: list[int] = []
    snn_passes: list[int] = []
    count_samples(reference.conv3, ann_passes)
    count_samples(snn.layers.conv3, snn_passes)
    calibrate(reference, snn, images.split(16), method="iterative")
    assert sum(ann_passes) == 48
    assert sum(snn_passes) == 48 * T


@pytest.mark.parametrize("half", ["initial", "per_step", "none"])
@pytest.mark.parametrize("rule", ["mse", "max"])
def test_exact_leaves_at_most_one_spike_of_error(rule, half):
    net, images = residual_net(), samples(64)
    snn = converted(net, images, threshold_rule=rule, half_threshold=half)
    calibrate(net, snn, images.split(20), method="exact")
    check_one_spike(net, snn, images)


def test_exact_leaves_at_most_one_spike_of_error_in_float32():
    net, images = residual_net(dtype=torch.float32), samples(256, dtype=torch.float32)
    snn = converted(net, images, timesteps=8)
    calibrate(net, snn, [images], method="exact")
    check_one_spike(net, snn, images)


def check_one_spike(net, snn, images):
    """|E[theta s[t]] - clipped E[a]| <= theta / N at each layer, channel and step."""
    from ftbc_lightning.graph.tracing import trace

    def look(layer):
        current = torch.cat([torch.stack([x(t) for t in range(T_)]) for x in layer.currents], 1)
        outputs, _ = layer.neuron(current)
        theta = layer.neuron.threshold
        spikes = (outputs > 0).transpose(1, 2).flatten(2).sum(2)
        n = outputs[0].numel() / outputs.shape[2]
        error = (spikes * theta.double() / n - layer.target()).abs()
        assert bool((error <= theta.double() / n * (1 + 1e-9)).all()), layer.name
        seen.append(layer.name)
        return correct_step_by_step(layer, as_it_is)

    T_ = snn.timesteps
    seen: list[str] = []
    sweep(trace(net), snn, [images], look, reduce=lambda x, kind: x, reached=lambda n: None)
    assert seen == list(NAMES)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("wanted", [0.2, 0.3, 0.6, 0.8])
def test_exact_does_not_cut_between_copies_of_one_potential_that_round_differently(dtype, wanted):
    torch.manual_seed(0)
    digit = torch.finfo(dtype).eps
    copies = torch.tensor([0.25, 0.5, 0.75, 1.0], dtype=dtype).repeat(50)[:, None]
    potentials = copies + digit * torch.randint(-2, 3, copies.shape)
    neuron = IFNeuron(1, timesteps=1).to(dtype)
    neuron.threshold.fill_(1.0)
    activations = torch.full_like(potentials, wanted)
    layer = Layer.of(
        "act", neuron, [lambda t: potentials], [activations], len(activations), lambda x, kind: x
    )
    target = layer.target()
    step = Step(layer, [potentials], [None], target, target, torch.zeros(1, dtype=dtype))
    bias = exact()(step)
    assert ((potentials + bias - 1).abs() > 0.1).all()


def test_exact_cumulative_matches_the_running_mean():
    net, images = residual_net(), samples(64)
    snn = converted(net, images)
    calibrate(net, snn, [images], method="exact", target="cumulative")
    first = snn.neurons()["act1"]
    current = nn.functional.conv2d(
        images, snn.layers.conv1.weight, snn.layers.conv1.bias, padding=1
    )
    outputs, _ = first(current.expand(T, *current.shape))
    running = outputs.cumsum(0).mean((1, 3, 4)) / torch.arange(1, T + 1).view(-1, 1)
    target = loops.mean_activations(net, ["act1"], images)["act1"]
    target = torch.minimum(target, first.threshold)
    n = images.numel() / 2
    assert ((running - target).abs() <= first.threshold / n).all()


def one_layer(weight: float, bias: float) -> nn.Sequential:
    net = nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 2))
    with torch.no_grad():
        net[0].weight.fill_(weight)
        net[0].bias.fill_(bias)
    return net


def test_a_dead_channel_gets_no_bias_and_no_spike():
    net, images = one_layer(0.0, -0.3), torch.rand(10, 1)
    snn = converted(net, images, timesteps=4)
    calibrate(net, snn, [images], method="exact")
    neuron = snn.neurons()["_1"]
    assert torch.equal(neuron.temporal_bias, torch.zeros(4, 1))
    assert neuron(torch.full((4, 1, 1), -0.3))[0].sum() == 0


@pytest.mark.parametrize(("value", "expected"), [(0.7, 1.0), (0.2, 0.0)])
def test_tied_potentials_fire_together_to_the_nearer_side(value, expected):
    net, images = one_layer(0.0, value), torch.rand(10, 1)
    snn = converted(net, images, timesteps=1, threshold_rule="max")
    snn.neurons()["_1"].set_threshold(torch.ones(1), half_threshold="initial")
    calibrate(net, snn, [images], method="exact")
    spikes = snn.neurons()["_1"](torch.full((1, 10, 1), value))[0]
    assert spikes.mean() == expected


def test_a_channel_above_its_threshold_saturates_with_a_bounded_bias():
    net, images = one_layer(0.0, 3.0), torch.rand(10, 1)
    for method in ("exact", "iterative", "static"):
        snn = converted(net, images, timesteps=4)
        snn.neurons()["_1"].set_threshold(torch.ones(1), half_threshold="initial")
        calibrate(net, snn, [images] * 30, method=method)
        bias = snn.neurons()["_1"].temporal_bias
        assert bias.abs().max() <= 1.0
        assert snn.neurons()["_1"](torch.full((4, 10, 1), 3.0))[0].mean() == 1.0


def test_static_bias_is_the_difference_of_the_means_at_every_step():
    net, images = residual_net(), samples(64)
    snn = converted(net, images)
    calibrate(net, snn, [images], method="static")
    thresholds = {name: snn.neurons()[name].threshold for name in NAMES}
    slow, neurons = loops.spiking_copy(net, thresholds, T)
    targets = loops.mean_activations(net, NAMES, images)
    for name in NAMES:  # each layer with those before it corrected
        outputs: list[torch.Tensor] = []
        handle = neurons[name].register_forward_hook(lambda m, a, o, seen=outputs: seen.append(o))
        loops.run(slow, neurons, images, T)
        handle.remove()
        mean = torch.stack(outputs).mean((0, 1, 3, 4))
        target = torch.minimum(targets[name], thresholds[name])
        neurons[name].bias += target - mean
        found = snn.neurons()[name].temporal_bias
        torch.testing.assert_close(found, neurons[name].bias, rtol=0, atol=1e-12)


def test_potential_is_the_gap_of_each_neuron_times_the_steps():
    net, images = residual_net(), samples(48)
    snn = converted(net, images)
    calibrate(net, snn, images.split(20), method="potential")
    thresholds = {name: snn.neurons()[name].threshold for name in NAMES}
    slow, neurons = loops.spiking_copy(net, thresholds, T)
    activations: dict[str, torch.Tensor] = {}
    for name in NAMES:
        getattr(net, name).register_forward_hook(
            lambda m, a, output, name=name: activations.__setitem__(name, output.detach())
        )
    net(images)
    for name in NAMES:  # each layer with those before it corrected
        outputs: list[torch.Tensor] = []
        handle = neurons[name].register_forward_hook(lambda m, a, o, seen=outputs: seen.append(o))
        loops.run(slow, neurons, images, T)
        handle.remove()
        theta = thresholds[name].view(-1, 1, 1)
        wanted = torch.minimum(activations[name], theta).mean(0)
        correction = T * (wanted - torch.stack(outputs).mean((0, 1)))
        found = snn.neurons()[name].membrane_correction
        torch.testing.assert_close(found, correction, rtol=0, atol=1e-12)
        neurons[name].initial = theta / 2 + correction


def test_rounds_end_when_the_error_on_the_calibration_set_stops_falling():
    net, images = residual_net(), samples(96)
    snn = converted(net, images)
    outcome = calibrate(net, snn, images.split(32), method="iterative", rounds=50)
    assert 2 <= outcome.rounds < 20
    assert len(outcome.errors["act1"]) == 3 * outcome.rounds
    errors = [
        sum(float(e.before.mean()) for name in NAMES for e in outcome.errors[name][i : i + 3])
        for i in (0, 3 * outcome.rounds - 6)
    ]
    assert errors[1] < errors[0]


def test_the_errors_of_a_round_are_means_over_its_batches_behind_those_of_the_stages_before():
    net, images = residual_net(), samples(48)
    outcome = calibrate(
        net, converted(net, images), images.split(16), method="potential+iterative", rounds=2
    )
    first, *rounds = outcome.by_round()
    assert outcome.sweeps == [1, 3, 3]
    errors = outcome.errors["act2"]
    assert torch.equal(first["act2"].after, errors[0].after)
    assert [list(found) for found in (first, *rounds)] == [list(NAMES)] * 3
    for found, part in zip(rounds, (errors[1:4], errors[4:]), strict=True):
        mean = sum(error.before for error in part) / 3
        assert torch.allclose(found["act2"].before, mean)


@pytest.mark.parametrize("method", ["exact", "iterative"])
@pytest.mark.parametrize("target", ["step", "cumulative"])
def test_biases_for_the_largest_t_begin_with_those_for_a_smaller_one(method, target):
    net, images = residual_net(), samples(32)
    settings = {"threshold_rule": "max"}
    large, small = converted(net, images, **settings), converted(net, images, 3, **settings)
    for snn in (large, small):
        calibrate(net, snn, images.split(16), method=method, target=target)
    for name in NAMES:
        begun = large.neurons()[name].temporal_bias[:3]
        assert torch.equal(begun, small.neurons()[name].temporal_bias)
    assert torch.equal(simulate(large, images)[:3], simulate(small, images))


@pytest.mark.parametrize(
    "method", ["exact+weights", "exact+static", "weights+backpropagation", "", "weights+", "best"]
)
def test_stages_that_do_not_follow_each_other_are_refused(method):
    with pytest.raises(UserError, match="is unknown; choose one of weights, backpropagation"):
        parse_method(method)


def test_none_clears_the_biases():
    net, images = residual_net(), samples(32)
    snn = converted(net, images)
    before = simulate(snn, images)
    calibrate(net, snn, [images], method="exact")
    assert not torch.equal(simulate(snn, images), before)
    calibrate(net, snn, [images], method="none")
    assert torch.equal(simulate(snn, images), before)


def test_exact_does_not_depend_on_how_samples_are_batched():
    net, images = residual_net(), samples(40)
    first, second = converted(net, images), converted(net, images)
    calibrate(net, first, [images], method="exact")
    calibrate(net, second, images.split(7), method="exact")
    for name, neuron in first.neurons().items():
        twin = second.neurons()[name].temporal_bias
        torch.testing.assert_close(neuron.temporal_bias, twin, rtol=0, atol=1e-12)


def test_calibration_leaves_no_inference_tensor_behind():
    net, images = residual_net(), samples(16)
    snn = converted(net, images)
    with torch.inference_mode():
        calibrate(net, snn, [images.clone()], method="exact")
    assert not any(value.is_inference() for value in snn.state_dict().values())
    assert not any(value.is_inference() for value in net.state_dict().values())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "best"}, "Calibration method 'best' is unknown"),
        ({"method": "iterative", "alpha": 0.0}, "alpha is 0.0"),
        ({"method": "iterative", "alpha": 1.5}, "alpha is 1.5"),
        ({"method": "iterative", "rounds": 0}, "rounds is 0"),
        ({"method": "weights", "shrinkage": 0.0}, "shrinkage is 0.0"),
        ({"method": "backpropagation", "iterations": 0}, "iterations is 0"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    net, images = residual_net(), samples(8)
    with pytest.raises(UserError, match=message):
        calibrate(net, converted(net, images), [images], **settings)


def test_an_empty_calibration_set_is_refused():
    net, images = residual_net(), samples(8)
    with pytest.raises(UserError, match="calibration set is empty"):
        calibrate(net, converted(net, images), [], method="exact")


def test_the_graphs_walk_side_by_side():
    net, images = residual_net(), samples(8)
    snn = converted(net, images)
    from ftbc_lightning.graph.tracing import trace

    names = [node.name for node in trace(net).graph.nodes]
    assert [node.name for node in snn.layers.graph.nodes] == names
    assert [n.name for n in snn.layers.graph.nodes if is_neuron(n)] == list(NAMES)


def test_start_membranes_of_single_neurons_are_not_exported_in_silence(tmp_path):
    from ftbc_lightning.interchange import export

    net, images = residual_net(), samples(8)
    snn = converted(net, images, timesteps=1)
    calibrate(net, snn, [images], method="potential")
    with pytest.raises(UserError, match="start membrane of every single neuron"):
        export(snn, tmp_path / "snn.safetensors")
