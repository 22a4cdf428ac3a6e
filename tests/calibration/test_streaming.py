"""The calibration of many samples: same biases, whatever waits as bits and what is kept."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ftbc_lightning import calibrate, convert
from ftbc_lightning.calibration.spike_train import SpikeTrain
from ftbc_lightning.graph.tracing import trace
from ftbc_lightning.snn import device_bounds
from tests.networks import residual_net, samples

T = 9


class Trunk(nn.Module):
    """Two blocks on a trunk without activations, a pooled shortcut, and a reshape."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1)
        self.shrink = nn.Conv2d(4, 3, 1)
        self.wide1, self.narrow1 = nn.Conv2d(3, 5, 1), nn.Conv2d(5, 3, 3, padding=1, groups=1)
        self.wide2, self.narrow2 = nn.Conv2d(3, 5, 1), nn.Conv2d(5, 3, 1)
        self.last, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4 * 9, 3)

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        x = self.shrink(F.relu(self.stem(images)))
        x = x + self.narrow1(F.relu(self.wide1(x)))
        x = x + self.narrow2(F.relu(self.wide2(x)))
        x = F.relu(F.max_pool2d(self.last(x), 2))
        return self.head(x.view(x.size(0), -1))


def trunk() -> nn.Module:
    torch.manual_seed(3)
    return Trunk().double().eval()


NETS = {"residual": residual_net, "trunk": trunk}


def converted(net, images, timesteps=T):
    return convert(net, images[:1], [images], timesteps=timesteps)


@torch.no_grad()
def activations(net: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """The value of every node of the traced network."""

    class Watching(torch.fx.Interpreter):
        def run_node(self, node: torch.fx.Node) -> Tensor:
            seen[node.name] = super().run_node(node)
            return seen[node.name]

    seen: dict[str, Tensor] = {}
    Watching(trace(net)).run(images)
    return seen


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("method", ["exact", "weights+exact", "potential+exact", "weights"])
def test_the_mean_that_a_simulation_emits_is_the_target(net, method):
    net, images = NETS[net](), samples(40)
    snn = converted(net, images)
    outcome = calibrate(net, snn, images.split(16), method=method)
    means: dict[str, Tensor] = {}
    for name, neuron in snn.neurons().items():
        neuron.register_forward_hook(
            lambda module, args, output, name=name: means.__setitem__(
                name, output[0].transpose(1, 2).flatten(2).mean(2)
            )
        )
    snn(images)
    found = activations(net, images)
    for name, neuron in snn.neurons().items():
        target = torch.minimum(found[name].transpose(0, 1).flatten(1).mean(1), neuron.threshold)
        error = (means[name] - target).abs()
        torch.testing.assert_close(
            error.mean(1).float(), outcome.errors[name][-1].after, rtol=0, atol=1e-6
        )
        if "exact" in method and "conv1" in dict(net.named_children()):  # no equal potentials
            places = images.shape[0] * found[name][0, 0].numel()
            assert (error <= neuron.threshold / places * (1 + 1e-6)).all()


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("method", ["exact", "static", "weights+potential+exact", "iterative"])
def test_what_is_computed_again_has_the_same_bits(net, method, monkeypatch):
    net, images = NETS[net](), samples(24)
    kept, again = converted(net, images), converted(net, images)
    calibrate(net, kept, images.split(12), method=method)
    monkeypatch.setattr(device_bounds, "WAITING_BYTES", 0)
    calibrate(net, again, images.split(12), method=method)
    if "weights" in method:  # the mean of kept values rounds otherwise than the value of the mean
        assert (kept(images) - again(images)).abs().max() < 1e-10
        return
    for (key, first), second in zip(
        kept.state_dict().items(), again.state_dict().values(), strict=True
    ):
        assert torch.equal(first, second), key


def test_biases_do_not_depend_on_the_size_of_a_micro_batch(monkeypatch):
    net, images = trunk(), samples(24)
    first, second = converted(net, images), converted(net, images)
    calibrate(net, first, [images], method="exact")
    monkeypatch.setattr(device_bounds, "CACHED_ELEMENTS", 5 * 36 * 4)
    calibrate(net, second, [images], method="exact")
    for name, neuron in first.neurons().items():
        twin = second.neurons()[name].temporal_bias
        torch.testing.assert_close(neuron.temporal_bias, twin, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("method", "room", "passes"), [("exact", 0, 1), ("static", None, 1), ("static", 0, 2)]
)
def test_currents_are_computed_once_where_they_fit(method, room, passes, monkeypatch):
    net, images = residual_net(), samples(24)
    snn = converted(net, images)
    if room is not None:
        monkeypatch.setattr(device_bounds, "WAITING_BYTES", room)
    counted = []
    snn.layers.conv3.register_forward_pre_hook(lambda m, args: counted.append(len(args[0])))
    calibrate(net, snn, images.split(12), method=method)
    assert sum(counted) == passes * T * len(images)


def test_a_spike_waits_in_one_bit():
    assert sum(b.numel() for b in SpikeTrain(torch.zeros(2, 3), 32).bytes) == 2 * 3 * 32 // 8
