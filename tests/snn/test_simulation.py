import pytest
import torch
from torch import Tensor, nn

from ftbc_lightning import calibrate, convert, simulate
from ftbc_lightning.ann.resnet import ResNet20
from ftbc_lightning.ann.vgg import VGG16
from ftbc_lightning.graph.propagation import Plan
from ftbc_lightning.snn import simulation
from ftbc_lightning.snn.conversion import prepare
from tests.networks import residual_net, samples, transformer
from tests.reference import loops

NAMES = ("act1", "act2", "act3")
T = 6


def reference_logits(net, snn, images):
    """The plain loop: one neuron call a step, whole passes, the whole batch at once."""
    neurons = snn.neurons()
    thresholds = {name: neurons[name].threshold for name in NAMES}
    slow, slow_neurons = loops.spiking_copy(net, thresholds, T)
    for name in NAMES:
        slow_neurons[name].bias.copy_(neurons[name].temporal_bias)
    logits = loops.run(slow, slow_neurons, images, T).cumsum(0)
    return logits / torch.arange(1, T + 1).view(-1, 1, 1)


def calibrated(net, images):
    snn = convert(net, images[:1], [images], timesteps=T)
    calibrate(net, snn, [images], method="exact")
    return snn


def spikes_of(snn, images) -> list[Tensor]:
    """What each neuron passes on in one call of `simulate`, in the order of the calls."""
    seen: list[Tensor] = []
    handles = [
        neuron.register_forward_hook(lambda module, args, result: seen.append(result[0].clone()))
        for neuron in snn.neurons().values()
    ]
    simulate(snn, images)
    for handle in handles:
        handle.remove()
    return seen


@pytest.mark.parametrize("chunks", [(1, 1), (3, 2), (7, 4), (64, T), None])
@pytest.mark.parametrize("batch", [1, 7, 64])
def test_simulation_equals_the_plain_loop_whatever_the_chunks(batch, chunks, monkeypatch):
    net, images = residual_net(), samples(64)
    snn = calibrated(net, images)
    if chunks is not None:
        monkeypatch.setattr(simulation, "chunk_sizes", lambda *_: chunks)
    slow = reference_logits(net, snn, images[:batch])
    assert (simulate(snn, images[:batch]) - slow).abs().max() < 1e-12


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_float32_logits_equal_the_plain_loop_to_1e_5(batch):
    net = residual_net(dtype=torch.float32)
    images = samples(64, dtype=torch.float32)
    snn = calibrated(net, images)
    slow = reference_logits(net, snn, images[:batch])
    assert (simulate(snn, images[:batch]) - slow).abs().max() < 1e-5


def test_spikes_in_float64_are_identical_in_both_memory_layouts(monkeypatch):
    net, images = residual_net(), samples(16)
    snn = calibrated(net, images)
    contiguous = spikes_of(snn, images)
    monkeypatch.setattr(
        simulation, "fastest_layout", lambda x: x.contiguous(memory_format=torch.channels_last)
    )
    channels_last = spikes_of(snn, images)
    assert len(contiguous) == len(channels_last) == len(NAMES)
    for one, other in zip(contiguous, channels_last, strict=True):
        assert one.any()
        assert torch.equal(one, other)


def test_spikes_in_float64_are_those_of_the_plain_loop():
    net, images = residual_net(), samples(16)
    snn = calibrated(net, images)
    slow, neurons = loops.spiking_copy(net, {n: snn.neurons()[n].threshold for n in NAMES}, T)
    seen: dict[str, list[Tensor]] = {name: [] for name in NAMES}
    for name, neuron in neurons.items():
        neuron.bias.copy_(snn.neurons()[name].temporal_bias)
        neuron.register_forward_hook(lambda m, args, out, name=name: seen[name].append(out))
    loops.run(slow, neurons, images, T)
    for fast, name in zip(spikes_of(snn, images), NAMES, strict=True):
        assert torch.equal(fast, torch.stack(seen[name]))


def test_a_sample_does_not_depend_on_those_beside_it():
    torch.manual_seed(0)
    net, images = ResNet20().eval(), torch.rand(64, 3, 32, 32)
    snn = convert(net, images[:1], [images[:8]], timesteps=2)
    together = simulate(snn, images)
    for size in (1, 7):
        alone = torch.cat([simulate(snn, part) for part in images[:14].split(size)], dim=1)
        assert (alone - together[:, :14]).abs().max() < 1e-5


class ReadTwice(nn.Module):
    """Currents that several nodes read, through views, sums and reshapes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 4, 3, padding=1)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.conv3 = nn.Conv2d(4, 4, 3, padding=1)
        self.act1, self.act2, self.act3 = nn.ReLU(), nn.ReLU(), nn.ReLU()
        self.same = nn.Identity()
        self.linear = nn.Linear(4 * 36, 3)

    def forward(self, images: Tensor) -> Tensor:
        x = self.act1(self.conv1(images))
        z = self.conv2(x)  # read by two nodes
        kept = self.same(z)  # the same memory as z
        y = self.act2(z) + kept
        y = self.act3(self.conv3(y + y))
        return self.linear(y.view(y.size(0), -1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nothing_is_overwritten_that_is_read_later(dtype):
    torch.manual_seed(0)
    net, images = ReadTwice().to(dtype).eval(), samples(16, dtype=dtype)
    snn = convert(net, images[:1], [images], timesteps=T)
    slow = reference_logits(net, snn, images)
    assert (simulate(snn, images) - slow).abs().max() < (1e-12 if dtype == torch.float64 else 1e-5)


def test_only_a_tensor_with_one_reader_is_overwritten():
    net, images = ReadTwice().double().eval(), samples(4)
    snn = convert(net, images[:1], [images], timesteps=1)
    spent = {node.name for node in Plan(snn.layers).spent}
    assert spent == {"add", "add_1", "conv3", "linear"}


def test_the_samples_stay_as_they_are():
    net, images = residual_net(dtype=torch.float32), samples(5, dtype=torch.float32)
    snn = calibrated(net, images)
    before = images.clone()
    simulate(snn, images)
    assert torch.equal(images, before)
    assert images.is_contiguous()


@pytest.mark.parametrize(
    ("given", "functions"),
    [((residual_net(), samples(64)), "refuse"), (transformer(64), "encoded")],
)
def test_what_is_carried_at_once_does_not_grow_with_time(given, functions):
    net, images = given
    sizes = {}
    for timesteps in (8, 64, 512):
        snn = convert(net, images[:1], [images[:4]], timesteps=timesteps, functions=functions)
        count, steps = simulation.chunk_sizes(snn, images, timesteps)
        assert steps <= timesteps
        sizes[timesteps] = count * steps
    assert max(sizes.values()) <= 2**20 // (6 * 36)


def test_networks_with_many_weights_and_few_places_carry_more_at_once():
    images = torch.rand(4, 3, 32, 32)
    sizes = []
    for net in (VGG16(), ResNet20()):
        samples, steps = simulation.chunk_sizes(prepare(net, images, timesteps=32), images, 32)
        sizes.append(samples * steps)
    widest = 64 * 32 * 32
    assert sizes[0] * widest > 2**21
    assert sizes[1] * widest // 4 <= 2**20
