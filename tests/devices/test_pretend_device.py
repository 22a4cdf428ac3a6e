"""The pretend device refuses and counts what a GPU would: else the other tests here say nothing."""

import copy
import io

import pytest
import torch
from torch import nn

from ftbc_lightning import convert, simulate
from tests import pretend_device
from tests.networks import residual_net, samples


@pytest.fixture
def there():
    return torch.arange(6.0, device="pretend").view(2, 3)


MIXED = {
    "a sum": lambda there: there + torch.ones(2, 3),
    "a joint": lambda there: torch.cat([there, torch.ones(2, 3)]),
    "a joint of numbers": lambda there: torch.stack([there.sum(), torch.tensor(1.0)]),
    "a layer": lambda there: nn.Linear(3, 2)(there),
    "a number that is written": lambda there: torch.zeros(()).add_(there.sum()),
    "a comparison written elsewhere": lambda there: torch.gt(there, 1, out=torch.empty(2, 3)),
    "indices of the device for the CPU": lambda there: torch.ones(9)[there[0].long()],
    "values of the CPU put in by index": lambda there: there.__setitem__([0], torch.ones(1, 3)),
}


@pytest.mark.parametrize("mix", MIXED.values(), ids=MIXED)
def test_mixing_is_refused(there, mix):
    with pytest.raises(RuntimeError, match="same device"):
        mix(there)


@pytest.mark.parametrize("ask", [lambda x: x.numpy(), lambda x: x.__array__()])
def test_numpy_is_refused(there, ask):
    with pytest.raises(TypeError, match="to numpy"):
        ask(there)


def test_what_is_turned_in_its_place_is_turned(there):
    there.transpose_(0, 1)
    assert there.shape == (3, 2)
    assert (there + 0).cpu().tolist() == [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]


def test_what_a_gpu_allows_is_allowed(there):
    assert (there + torch.tensor(1.0)).device.type == "pretend"
    assert there[torch.tensor([1])].tolist() == [[3.0, 4.0, 5.0]]
    there[torch.tensor([0])] = torch.tensor(7.0)
    assert there[0].cpu().tolist() == [7.0, 7.0, 7.0]


def test_values_gradients_and_steps_are_those_of_a_cpu(there):
    def trained(place):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1)).to(place)
        optimizer = torch.optim.Adam(net.parameters())
        for _ in range(3):
            optimizer.zero_grad()
            net(there.to(place)).square().mean().backward()
            optimizer.step()
        return net.state_dict()

    here, other = trained("cpu"), trained("pretend")
    assert all(torch.equal(value, other[name].cpu()) for name, value in here.items())


def test_modules_change_precision_and_are_copied_there():
    net = nn.Linear(2, 2).to("pretend")
    twin = copy.deepcopy(net).double()
    assert net.weight.inner.dtype == torch.float32
    assert twin.weight.inner.dtype == torch.float64
    assert isinstance(twin.weight, nn.Parameter)


def test_a_file_tells_the_device_and_is_read_elsewhere_when_told_to(there):
    file = io.BytesIO()
    torch.save({"a": there}, file)

    def read(**where):
        file.seek(0)
        return torch.load(file, weights_only=True, **where)["a"]

    assert read().device.type == "pretend"
    assert read(map_location="cpu").device.type == "cpu"
    with pretend_device.unplugged():
        assert torch.equal(read(map_location="cpu"), there.cpu())
        with pytest.raises(RuntimeError, match="deserialize object"):
            read()


def test_launches_and_reads_are_counted_within_a_block(there):
    with pretend_device.counting() as counts:
        total = (there * 2 + 1).view(3, 2).sum()
        assert counts.launches == {
            "aten.mul.Tensor": 1,
            "aten.add.Tensor": 1,
            "aten.sum.default": 1,
        }
        assert not counts.reads
        total.item()
        there.cpu()
        torch.equal(there, there)
        there[there > 1]
        assert counts.reads == {"elsewhere": 4}
        counts.reset()
        assert counts == pretend_device.Counts()
    there + 1
    assert not counts.launches


def test_reads_are_counted_by_the_line_that_asks(device):
    ann = residual_net(dtype=torch.float32).to(device)
    images = samples(8, dtype=torch.float32).to(device)
    snn = convert(ann, images[:1], [images], timesteps=2)
    with pretend_device.counting() as counts:
        simulate(snn, images)
    lines = {place.partition(":")[0]: number for place, number in counts.reads.items()}
    assert lines == {"snn/network.py": 1}
