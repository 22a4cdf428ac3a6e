"""The loop over all steps equals the plain one to the bit, compiled and as Python runs it."""

import pytest
import torch

from ftbc_lightning import calibrate, convert, simulate
from ftbc_lightning.snn import fused_neuron_cpu
from ftbc_lightning.snn.neurons import IFNeuron, SignedNeuron, TwoSidedNeuron
from ftbc_lightning.snn.surrogates import Surrogate
from ftbc_lightning.snn.trainable import fire
from tests.networks import residual_net, samples

T = 5
MODELS = [
    (IFNeuron, 1, 1.0),
    (IFNeuron, 1, 0.7),
    (IFNeuron, 2, 1.0),
    (SignedNeuron, 1, 1.0),
    (SignedNeuron, 2, 0.85),
    (TwoSidedNeuron, 1, 1.0),
]
SHAPES = [(3, 7), (7, 1), (2, 6, 5, 7), (4, 3, 8, 8), (1, 80, 2, 2), (2, 3, 5)]


@pytest.fixture(autouse=True)
def _however_few(monkeypatch):
    monkeypatch.setattr(fused_neuron_cpu, "LEAST_VALUES", 0)


def made(model, channels, dtype=torch.float32, half="initial"):
    kind, levels, leak = model
    neuron = kind(channels, timesteps=T, levels=levels, leak=leak).to(dtype)
    neuron.set_threshold(torch.rand(channels).to(dtype) + 0.3, half_threshold=half)
    neuron.temporal_bias.copy_(torch.randn(T, channels) / 5)
    return neuron


def currents(shape, dtype=torch.float32):
    values = torch.randn(T, *shape, dtype=dtype) * 0.7
    return values.movedim(2, -1).contiguous().movedim(-1, 2)


def own(neuron, start=0, steps=T):
    return {
        **neuron._values(start, steps),
        "levels": neuron.levels,
        "leak": neuron.leak,
        "lowest": -neuron.below * neuron.levels,
        "remembers": neuron.remembers,
    }


def fused(neuron, current, membrane=None, start=0, out=None, kernel=None):
    values = own(neuron, start, len(current))
    assert fused_neuron_cpu.fits(current, membrane, out, **values)
    kernel = fused_neuron_cpu._compiled() if kernel is None else kernel
    return fused_neuron_cpu.launch(kernel, current, membrane, out, **values)


def plain(neuron, current, start=0, membrane=None):
    return neuron._step_by_step(current, membrane, start, None)


def parts(carried):
    return list(carried) if isinstance(carried, tuple) else [carried]


def assert_same(found, expected):
    for one, other in zip(
        (found[0], *parts(found[1])), (expected[0], *parts(expected[1])), strict=True
    ):
        assert one.dtype == other.dtype
        assert torch.equal(one.isnan(), other.isnan())
        kind = torch.int32 if one.dtype == torch.float32 else torch.int64
        one, other = (x.nan_to_num(7, torch.inf, -torch.inf).contiguous() for x in (one, other))
        assert torch.equal(one.view(kind), other.view(kind))
    assert 0 < (expected[0] != 0).float().mean() < 1


@pytest.mark.parametrize("model", MODELS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_equals_the_plain_loop(model, shape, dtype):
    torch.manual_seed(0)
    neuron, current = made(model, shape[1], dtype), currents(shape, dtype)
    assert_same(fused(neuron, current), plain(neuron, current))
    out = current.clone()
    found = fused(neuron, out, out=out)
    assert found[0] is out
    assert_same(found, plain(neuron, current))


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_so_does_the_function_that_is_compiled(model):
    torch.manual_seed(0)
    neuron, current = made(model, 3, half="per_step"), currents((2, 3, 2, 2))
    found = fused(neuron, current, kernel=(fused_neuron_cpu._binary, fused_neuron_cpu._several))
    assert_same(found, plain(neuron, current))


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_steps_in_chunks_a_constant_current_and_several_threads(model, monkeypatch):
    monkeypatch.setattr(fused_neuron_cpu, "VALUES_OF_A_THREAD", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    torch.manual_seed(0)
    neuron, current = made(model, 6), currents((4, 6, 5, 7))
    expected = plain(neuron, current)
    first, carried = fused(neuron, current[:2])
    rest, after = fused(neuron, current[2:], carried, 2)
    assert after is carried
    assert_same((torch.cat([first, rest]), after), expected)
    same = current[:1].expand_as(current)
    before = current[0].clone()
    assert_same(fused(neuron, same), plain(neuron, same))
    assert torch.equal(current[0], before)


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_numbers_that_are_none_spread_as_in_the_plain_loop(model):
    torch.manual_seed(0)
    neuron, current = made(model, 4), currents((3, 4, 5, 7))
    current[1, 0, 0, 0, 0], current[1, 0, 1, 0, 0] = torch.inf, -torch.inf
    current[2, 0, 2, 0, 0], current[0, 1, 3] = torch.nan, -0.0
    assert_same(fused(neuron, current), plain(neuron, current))


def test_what_it_cannot_carry_is_left_to_the_plain_loop():
    neuron, current = made(MODELS[0], 3), currents((2, 3, 4, 4))
    values = own(neuron)
    for other in (
        torch.randn(T, 2, 3, 4, 4),
        current.bfloat16(),
        current[:, :0],
        current.clone().requires_grad_(),
    ):
        assert not fused_neuron_cpu.fits(other, None, None, **values)
    assert not fused_neuron_cpu.fits(current, None, None, **{**values, "levels": 3})
    assert not fused_neuron_cpu.fits(current, None, None, **own(neuron, 0, 2))


def test_a_model_of_ones_own_keeps_its_loop():
    class Slow(IFNeuron):
        def fire(self, charged, threshold, owed, out=None):
            return super().fire(charged, 2 * threshold, owed, out)

    assert not Slow.fuses
    assert IFNeuron.fuses
    assert SignedNeuron.fuses


def test_a_failure_of_the_compiler_is_told_once_and_costs_nothing_else(monkeypatch):
    monkeypatch.setattr(fused_neuron_cpu, "failures", [])

    def fails():
        raise ImportError("no LLVM")

    monkeypatch.setattr(fused_neuron_cpu, "_compiled", fails)
    neuron, current = made(MODELS[0], 3), currents((2, 3, 4, 4))
    with pytest.warns(UserWarning, match="no LLVM"):
        found = neuron(current)
    assert_same(found, plain(neuron, current))
    neuron(current)
    assert len(fused_neuron_cpu.failures) == 1


@pytest.mark.parametrize("neuron", ["if", "signed"])
def test_a_network_gives_the_same_with_it_and_without(neuron, monkeypatch):
    net, images = residual_net(dtype=torch.float32), samples(20, dtype=torch.float32)
    snn = convert(net, images[:1], [images], timesteps=4, neuron=neuron)
    calibrate(net, snn, [images])
    calls = []
    launch = fused_neuron_cpu.launch
    monkeypatch.setattr(
        fused_neuron_cpu, "launch", lambda *a, **k: calls.append(1) or launch(*a, **k)
    )
    found = simulate(snn, images)
    assert calls
    monkeypatch.setattr(fused_neuron_cpu, "LEAST_VALUES", 10**9)
    assert torch.equal(found, simulate(snn, images))


@pytest.mark.parametrize("width", [1.0, 0.5])
@pytest.mark.parametrize("leak", [1.0, 0.7])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_gradient_is_that_of_the_plain_way(shape, leak, width, monkeypatch):
    torch.manual_seed(0)
    neuron = made((IFNeuron, 1, leak), shape[1], torch.float64)
    current, wanted = currents(shape, torch.float64), currents(shape, torch.float64)
    found = []
    for fewest in (0, 10**9):
        monkeypatch.setattr(fused_neuron_cpu, "LEAST_VALUES", fewest)
        x, bias = current.clone().requires_grad_(), neuron.temporal_bias.clone()
        neuron.temporal_bias = bias.requires_grad_()
        fire(neuron, x, Surrogate("triangle", width)).mul(wanted).sum().backward()
        found.append((x.grad, bias.grad))
        neuron.temporal_bias = bias.detach()
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    assert found[0][0].abs().sum() > 0


def test_the_gradient_comes_from_the_loop(monkeypatch):
    calls = []
    in_threads = fused_neuron_cpu.in_threads
    watched = lambda *a: calls.append(1) or in_threads(*a)  # noqa: E731
    monkeypatch.setattr(fused_neuron_cpu, "in_threads", watched)
    neuron, current = made(MODELS[0], 3), currents((2, 3, 4, 4)).requires_grad_()
    fired = fire(neuron, current, Surrogate())
    assert len(calls) == 1
    fired.sum().backward()
    assert len(calls) == 2
