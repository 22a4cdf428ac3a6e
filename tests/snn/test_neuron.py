import pytest
import torch

from ftbc_lightning.snn.neurons.integrate_and_fire import IFNeuron
from tests.reference.loops import StepNeuron


def make(channels: int = 3, timesteps: int = 6, half: str = "initial") -> IFNeuron:
    neuron = IFNeuron(channels, timesteps=timesteps).double()
    neuron.set_threshold(torch.tensor([0.5, 1.0, 2.0]).double(), half_threshold=half)
    return neuron


def test_neuron_equals_the_loop_with_one_call_a_step():
    neuron, current = make(), torch.randn(6, 5, 3, 4, 4, dtype=torch.float64)
    neuron.temporal_bias.copy_(torch.randn(6, 3))
    loop = StepNeuron(neuron.threshold, neuron.threshold / 2, 6)
    loop.bias = neuron.temporal_bias
    spikes, membrane = neuron(current)
    assert torch.equal(spikes, torch.stack([loop(x) for x in current]))
    assert torch.equal(membrane, loop.membrane)


def test_spikes_do_not_depend_on_how_time_is_cut():
    neuron, current = make(), torch.randn(6, 5, 3, dtype=torch.float64)
    neuron.temporal_bias.copy_(torch.randn(6, 3))
    whole, _ = neuron(current)
    first, membrane = neuron(current[:4])
    rest, _ = neuron(current[4:], membrane, 4)
    assert torch.equal(whole, torch.cat([first, rest]))


def test_a_spike_at_the_threshold_exactly():
    neuron = IFNeuron(1, timesteps=1)
    neuron.set_threshold(torch.tensor([1.0]), half_threshold="none")
    assert neuron(torch.ones(1, 1, 1))[0].item() == 1.0


def test_soft_reset_keeps_what_is_above_the_threshold():
    neuron = IFNeuron(1, timesteps=3)
    neuron.set_threshold(torch.tensor([1.0]), half_threshold="none")
    spikes, membrane = neuron(torch.tensor([2.5, 0.0, 0.0]).view(3, 1, 1))
    assert spikes.flatten().tolist() == [1.0, 1.0, 0.0]
    assert membrane.item() == 0.5


def test_per_step_half_threshold_adds_theta_over_two_t():
    neuron = make(half="per_step")
    assert torch.equal(neuron.initial_membrane, torch.zeros(3).double())
    torch.testing.assert_close(neuron.step_charge * 12, neuron.threshold)
    spikes, _ = neuron(torch.zeros(6, 1, 3, dtype=torch.float64) + 1e-9)
    assert spikes.sum() == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_membrane_stays_float32_when_currents_are_half_precision(dtype):
    neuron = IFNeuron(2, timesteps=3)
    neuron.set_threshold(torch.ones(2), half_threshold="initial")
    spikes, membrane = neuron(torch.rand(3, 4, 2).to(dtype))
    assert spikes.dtype == dtype
    assert membrane.dtype == torch.float32


def test_all_state_is_in_the_state_dict():
    neuron = make()
    neuron.temporal_bias.copy_(torch.randn(6, 3))
    twin = IFNeuron(3, timesteps=6).double()
    twin.load_state_dict(neuron.state_dict())
    current = torch.randn(6, 5, 3, dtype=torch.float64)
    assert torch.equal(twin(current)[0], neuron(current)[0])
