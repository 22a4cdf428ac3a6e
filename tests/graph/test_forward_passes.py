"""Forward passes as people write them: each network converts, and its limit is the ANN."""

import math
import operator
import random
import sys

import numpy
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ftbc_lightning import (
    UserError,
    calibrate,
    conversion_map,
    convert,
    export,
    load,
    reconvert,
    simulate,
)
from ftbc_lightning.analysis.diagnosis import diagnose
from ftbc_lightning.analysis.inspection import inspect
from ftbc_lightning.analysis.operation_counts import count_operations
from ftbc_lightning.graph.tracing import trace
from ftbc_lightning.snn.conversion import prepare
from ftbc_lightning.snn.early_exit import simulate_until_sure
from ftbc_lightning.snn.stepping import SteppedNetwork
from ftbc_lightning.snn.threshold_folding import fold_thresholds
from tests.networks import samples


class Base(nn.Module):
    """Two convolutions with activations and a classifier; a subclass writes what lies between."""

    def __init__(self, features=4):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.linear = nn.Linear(features, 3)
        for layer in (self.first, self.second):
            nn.init.constant_(layer.bias, 0.4)

    def hidden(self, x):
        return F.relu(self.second(F.relu(self.first(x))))

    def forward(self, x):
        return self.linear(self.hidden(x).mean((2, 3)))


class OptionalArguments(Base):
    def forward(self, x, is_feat=False, use_relu=True, *, scale=None):
        x = self.first(x)
        x = F.relu(x) if use_relu else x
        if scale is not None:
            x = x * scale
        x = F.relu(self.second(x)).mean((2, 3))
        return (x, self.linear(x)) if is_feat else self.linear(x)


class Asking(Base):
    def forward(self, x):
        assert x.ndim == 4, f"4 axes expected, not {x.ndim}"
        assert len(x.shape) == 4
        assert x.dtype not in (torch.int64, torch.bool)
        torch._assert(x.shape[1] == 2, "two channels expected")
        if x.is_cuda or x.device.type == "mps" or x.numel() == 0:
            x = x * 2
        for _ in range(x.dim() - 3):
            x = self.hidden(x)
        size, *rest = x.shape
        return self.linear(x.view(size, *rest).mean(tuple(range(2, x.ndim))))


class Lengths(Base):
    def __init__(self):
        super().__init__(4 * 36)

    def forward(self, x):
        return self.linear(self.hidden(x).reshape(len(x), -1))


class Counting(Base):
    def __init__(self):
        super().__init__(4 * 36)

    def forward(self, x):
        y = self.hidden(x)
        _, c, h, w = y.shape
        features = int(c * h * w)
        half = round(h / 2) + math.floor(w / 2)
        y = F.interpolate(y, size=(int(h * 1.0), half), mode="nearest")
        return self.linear(y.view(y.size(0), features))


class Maxima(Base):
    def forward(self, x):
        y = self.hidden(x)
        y, _ = y.max(2)
        return self.linear(y.amax(dim=2))


class TwoMaxima(Base):
    def forward(self, x):
        x = F.relu(self.first(x))
        y = torch.max(F.relu(self.second(x)), F.relu(self.second(-x)))
        y = torch.maximum(y, x)
        return self.linear(y.max(3)[0].max(2).values)


class Rectifiers(Base):
    def forward(self, x):
        x = self.first(x)
        x = torch.where(x > 0, x, 0)
        x = self.second(x)
        x = x * (x > 0)
        x = F.threshold(x, 0, 0)
        x = torch.where(x.lt(0), torch.zeros_like(x), x)
        x = torch.maximum(x, torch.zeros_like(x))
        return self.linear(x.mean((2, 3)))


class OwnNumbers(Base):
    def __init__(self):
        super().__init__()
        self.scale, self.mix = nn.Parameter(torch.tensor(0.3)), nn.Parameter(torch.randn(2))

    def forward(self, x):
        share = F.softmax(self.mix, 0)
        x = self.hidden(x) * share[0] + F.relu(self.first(x)) * share[1]
        return self.linear(x.mean((2, 3))) * self.scale.exp()


class OwnMatrices(Base):
    def __init__(self):
        super().__init__()
        self.weight, self.square = nn.Parameter(torch.randn(4, 3)), nn.Parameter(torch.randn(6, 6))

    def forward(self, x):
        y = torch.einsum("bchw,wk->bchk", self.hidden(x), self.square)
        y = F.relu(self.square @ y).sum((2, 3)) / 36
        return y @ self.weight + torch.mm(y.sum(1, keepdim=True), self.weight[:1])


class Shuffled(Base):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.ReflectionPad2d(1), nn.ReplicationPad2d((1, 0, 0, 1)), nn.CircularPad2d(1)),
            *(nn.ConstantPad2d(1, 0.0), nn.PixelUnshuffle(1), nn.AlphaDropout(0.5)),
        )

    def forward(self, x):
        y = self.layers(self.hidden(x))
        y = F.pixel_shuffle(F.pad(y, (0, 1, 1, 0)), 2)
        return self.linear(torch.stack([y, y], 0).sum(0).expand(-1, 4, -1, -1).mean((2, 3)))


class Prepared(Base):
    """Bytes, normalised by statistics of each sample, then a spectrum."""

    def forward(self, x):
        x = x.float() / 64
        x = F.layer_norm(x, x.shape[2:])
        x = F.normalize(x, dim=1).view(x.shape[0], 2, 6, 6)
        x = torch.log(torch.fft.rfft2(x).abs().clamp(min=0) + 1)
        return super().forward(x)


class Viewed(Base):
    """The size of the batch is read before the first layer, and used on both sides of it."""

    def forward(self, x):
        size = x.size(0)
        x = torch.tanh(x).view(size, 2, 6, 6)
        return self.linear(self.hidden(x).mean((2, 3)).view(size, 4))


class Created(Base):
    """Tensors of given numbers in the shape, type and place of others."""

    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.rand(1, 4, 1, 1))

    def forward(self, x):
        size, _, height, width = x.shape
        ramp = torch.linspace(-1, 1, width).view(1, 1, 1, width).expand(size, 1, height, width)
        y = F.relu(self.first(torch.cat([x[:, :1], ramp.to(x)], 1)))
        pad = torch.zeros(size, 2, *y.shape[2:], dtype=x.dtype, device=x.device)
        y = self.second(y) + torch.cat([x, pad], 1) + torch.zeros_like(y)
        y = F.relu(y) * self.scale.to(y) * torch.ones_like(y)
        y = torch.cat([y, y.new_ones(len(y), 1, height, width)], 1)[:, 1:]
        total = torch.full(y.shape[:2], 0.5, dtype=y.dtype)
        total += y.mean((2, 3))
        return self.linear(total)


class Masks(Base):
    """A ReLU by masks of another type, and by maxima with a zero made in place."""

    def forward(self, x):
        x = self.first(x)
        x = x * (x > 0).float()
        x = self.second(x)
        x = x.where(x >= 0, torch.zeros((), dtype=x.dtype))
        x = torch.where(condition=x > 0, input=x, other=torch.tensor(0.0, dtype=x.dtype))
        x = self.second(x)
        x = x.masked_fill(x < 0, 0.0)
        x = torch.max(x, torch.zeros_like(x))
        x = torch.max(torch.tensor(0.0, device=x.device), x)
        x = x * torch.gt(x, 0).type_as(x)
        return self.linear(x.mean((2, 3)))


class Arranged(Base):
    def forward(self, x):
        y = self.hidden(x)
        y = y.repeat(1, 2, 1, 1)[:, 2:6] + torch.tile(y, (1, 2, 1, 1))[:, 4:]
        y = y.mT.rot90(1, (2, 3)).index_select(1, torch.tensor([1, 0, 3, 2])).subtract(1)
        y = torch.hstack(y.tensor_split(2, 1)[::-1]).negative() / 3 + torch.dropout(
            y, 0.5, self.training
        )
        return (self.linear.weight @ y.mean((2, 3)).T).T


class Stacked(Base):
    def forward(self, x):
        y = self.hidden(x)
        y = torch.stack([y, y.flip(2), self.hidden(-x)]).max(0)[0]
        return self.linear(torch.stack([y, -y], dim=1).amax(1).mean((2, 3)))


CONVERTIBLE = (
    *(Created, Masks, Arranged, Stacked),
    *(OptionalArguments, Asking, Lengths, Counting, Maxima, TwoMaxima, Rectifiers, OwnNumbers),
    *(OwnMatrices, Shuffled, Prepared, Viewed),
)


def inputs(kind, count=12):
    images = samples(count)
    return (images * 100).to(torch.uint8) if kind is Prepared else images


def limit_is_reached(net, images, logits=lambda outputs: outputs):
    expected, errors = logits(net(images)), []
    for steps in (64, 512):
        snn = convert(net, images[:1], [images], timesteps=steps, threshold_rule="max")
        errors.append(float((logits(simulate(snn, images)[-1]) - expected).abs().mean()))
    assert errors[1] < 0.03 * float(expected.abs().mean() + expected.std())
    assert errors[1] < 0.35 * errors[0]


@pytest.mark.parametrize("kind", CONVERTIBLE)
def test_the_graph_is_the_network_and_many_steps_approach_it(kind):
    images = inputs(kind)
    net = kind().double().eval() if kind is not Prepared else kind().eval()
    graph = trace(net, images[:1])
    torch.testing.assert_close(graph(images), net(images), rtol=1e-5, atol=1e-6)
    limit_is_reached(net, images)
    assert inspect(net, images[:1]).convertible


@pytest.mark.parametrize("kind", CONVERTIBLE)
def test_steps_one_by_one_and_cut_batches_give_what_all_at_once_gives(kind, monkeypatch):
    images = inputs(kind)
    net = kind().double().eval() if kind is not Prepared else kind().eval()
    snn = convert(net, images[:1], [images], timesteps=5)
    calibrate(net, snn, [images])
    expected = simulate(snn, images)
    torch.testing.assert_close(SteppedNetwork(snn)(images), expected, rtol=1e-5, atol=1e-6)
    monkeypatch.setattr("ftbc_lightning.snn.simulation.chunk_sizes", lambda *a: (5, 2))
    torch.testing.assert_close(simulate(snn, images), expected, rtol=1e-5, atol=1e-6)
    exits, _ = simulate_until_sure(snn, images, confidence=0.4)
    assert exits.shape == expected.shape
    rebuilt = reconvert(net, conversion_map(snn))
    rebuilt.load_state_dict(snn.state_dict())
    torch.testing.assert_close(simulate(rebuilt, images), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", CONVERTIBLE)
def test_thresholds_fold_and_everything_is_counted_and_written_or_named(kind, tmp_path):
    images = inputs(kind)
    net = kind().double().eval() if kind is not Prepared else kind().eval()
    snn = convert(net, images[:1], [images], timesteps=3)
    folded, _ = fold_thresholds(snn)
    expected = simulate(snn, images)
    torch.testing.assert_close(simulate(folded, images), expected, rtol=1e-5, atol=1e-6)
    assert count_operations(snn, images).samples == len(images)
    assert set(diagnose(net, snn, [images]).layers) == set(snn.shapes)
    program = torch.export.load(export(snn, tmp_path / "a.pt2", format="torch_export")).module()
    torch.testing.assert_close(program(images), expected, rtol=1e-5, atol=1e-6)
    try:
        twin = load(export(snn, tmp_path / "a.safetensors"))
    except UserError as error:
        assert "has no place for" in str(error)  # noqa: PT017
    else:
        torch.testing.assert_close(simulate(twin, images), expected, rtol=1e-5, atol=1e-6)


def test_a_rectifier_that_is_spelled_out_becomes_a_neuron():
    assert inspect(Rectifiers()).neurons == 5
    assert inspect(Masks(), samples(1).float()).neurons == 7


def test_a_network_that_asks_for_shapes_needs_an_example():
    with pytest.raises(UserError, match="give an example input"):
        trace(Asking())


class Halving(Base):
    def forward(self, x):
        return super().forward(x if x.shape[0] % 2 == 0 else -x)


def test_a_path_that_depends_on_the_batch_size_is_refused():
    with pytest.raises(UserError, match="depends on the size of the batch"):
        trace(Halving(), samples(1))


class Mixing(Base):
    def __init__(self, mix):
        super().__init__()
        self.mix = mix

    def forward(self, x):
        return self.linear(self.mix(self.hidden(x)).mean((2, 3)))


@pytest.mark.parametrize(
    ("mix", "said"),
    [
        (lambda x: x - x.mean(0), "runs over the samples of the batch"),
        (lambda x: x - x.sum(), "runs over the samples of the batch"),
        (lambda x: x - x.sum(-4, keepdim=True), "mixes the samples"),
        (lambda x: x + x[0], "mixes the samples"),
        (lambda x: F.dropout(x, 0.5), "it draws in evaluation mode too"),
        (lambda x: F.dropout(x, 0.5, True), "it draws in evaluation mode too"),
        (lambda x: x + torch.rand_like(x), "drawn anew"),
        (lambda x: x + torch.rand(()), "drawn anew"),
        (lambda x: x + torch.randn(x.shape[0], 1, 1, 1, device=x.device), "drawn anew"),
        (lambda x: x + torch.normal(torch.zeros(1), torch.ones(1)), "drawn anew"),
        (lambda x: x + x.new_empty(1).normal_(), "drawn anew"),
        (lambda x: x * random.random(), "draws random numbers"),
        (lambda x: x * float(numpy.random.rand()), "draws random numbers"),  # noqa: NPY002
        (lambda x: torch.dropout(x, 0.5, True), "it draws in evaluation mode too"),
        (lambda x: torch.maximum(x, torch.tensor(0.2, dtype=x.dtype)), "maximum"),
        (lambda x: x + torch.arange(len(x)).view(-1, 1, 1, 1), "mixes the samples"),
        (lambda x: F.relu(torch.cat([x, x])).chunk(2)[0], "mixes the samples"),
        (lambda x: F.relu(x.flatten(0, 1)).view(x.shape), "mixes the samples"),
        (lambda x: F.gumbel_softmax(x, dim=1), "drawn anew"),
        (lambda x: F.batch_norm(x, None, None, training=True), "statistics of the batch"),
        (lambda x: F.instance_norm(x), "train with batch norm instead"),
        (lambda x: x @ x, "attention multiplies two values"),
        (lambda x: torch.div(x, 2, rounding_mode="floor"), "replace it by linear"),
        (lambda x: x.to(torch.int64).float(), "replace it by linear"),
        (lambda x: torch.sigmoid(x), "leave the gate out"),
    ],
)
def test_what_mixes_samples_or_is_drawn_is_refused_by_name(mix, said):
    with pytest.raises(UserError, match=said):
        prepare(Mixing(mix).double(), samples(1), timesteps=2)


def test_what_mixes_samples_is_said_by_an_inspection_with_an_example():
    found = inspect(nn.Sequential(Base(), nn.Softmax(0)).double(), samples(1))
    assert not found.convertible
    assert [row.node for row in found.refused] == ["1"]


def test_batch_norm_without_running_statistics_is_refused():
    net = nn.Sequential(
        nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3, track_running_stats=False), nn.ReLU(), nn.Flatten()
    )
    with pytest.raises(UserError, match=r"1 \(BatchNorm2d\).*track_running_stats=True"):
        prepare(net, samples(1), timesteps=2)


def test_what_is_drawn_is_refused_before_the_first_layer_and_behind_the_last():
    with pytest.raises(UserError, match="drawn anew"):
        prepare(nn.Sequential(Noise(), Base()), samples(1).float(), timesteps=2)
    with pytest.raises(UserError, match="drawn anew"):
        prepare(nn.Sequential(Base(), Noise()), samples(1).float(), timesteps=2)


class Noise(nn.Module):
    def forward(self, x):
        return x + torch.randn_like(x)


def test_functions_in_front_and_behind_along_the_batch_are_refused():
    for place in (0, 1):
        layers = [Base(), Base()]
        layers[place : place + 1] = [nn.Softmax(0)]
        if place == 0:
            layers = layers[:2]
        with pytest.raises(UserError, match="mixes the samples"):
            prepare(nn.Sequential(*layers), samples(1).float(), timesteps=2)


class Compiled(nn.Module):
    """What `torch.compile` makes, without its compiler."""

    def __init__(self, network):
        super().__init__()
        self._orig_mod = network

    def forward(self, *args, **kwargs):
        return self._orig_mod(*args, **kwargs)


@pytest.mark.parametrize("wrap", [nn.DataParallel, Compiled, torch.compile])
def test_wrappers_are_taken_off_around_a_network_and_in_it(wrap, monkeypatch):
    net, images = Base().double().eval(), samples(6)
    part = Base().double().eval()
    # as on a machine without an accelerator, to which DataParallel would move the network
    module = sys.modules["torch.nn.parallel.data_parallel"]
    monkeypatch.setattr(module, "_get_available_device_type", lambda: None)
    part.second, net_in_it = wrap(part.second), wrap(net)
    for wrapped in (net_in_it, part):
        snn = convert(wrapped, images[:1], [images], timesteps=3)
        assert torch.equal(
            simulate(snn, images), simulate(convert(net, images[:1], [images], timesteps=3), images)
        )
    assert type(part.second) is type(wrap(nn.ReLU()))


def test_a_script_is_refused_with_what_to_give_instead():
    with pytest.raises(UserError, match="Give the Python module"):
        trace(torch.jit.script(nn.Sequential(nn.Linear(2, 2), nn.ReLU())))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_network_in_half_precision_is_converted_in_float32_and_left_as_it_is(dtype):
    net, images = Base().to(dtype).eval(), samples(12).float()
    with pytest.warns(UserWarning, match="float32"):
        snn = convert(net, images[:1].to(dtype), [images.to(dtype)], timesteps=64)
    calibrate(net, snn, [images.to(dtype)])
    assert next(net.parameters()).dtype == dtype
    whole = convert(Base(), images[:1], [images], timesteps=64)
    difference = simulate(snn, images)[-1] - simulate(whole, images)[-1]
    assert float(difference.abs().max()) < 0.1


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.norm = nn.Embedding(20, 8), nn.LayerNorm(8)
        self.layers = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))

    def forward(self, tokens):
        return self.layers(self.norm(self.embedding(tokens)).mean(1))


def test_token_numbers_stay_whole_numbers_from_conversion_to_a_file():
    torch.manual_seed(1)
    net, tokens = Words().eval(), torch.randint(0, 20, (16, 5))
    limit_is_reached(net, tokens)
    snn = convert(net, tokens[:1], [(tokens, tokens[:, 0])], timesteps=4)
    calibrate(net, snn, [tokens])
    found = conversion_map(snn)
    assert found["input_dtype"] == "int64"
    twin = reconvert(net, found)
    twin.load_state_dict(snn.state_dict())
    assert torch.equal(simulate(twin, tokens), simulate(snn, tokens))
    becomes = {row.node: row.becomes for row in inspect(net, tokens).rows}
    assert becomes["embedding"] == "kept: computed once, before the first layer"


class AddedTo(Base):
    """What was kept of a value before it was added to is changed with it."""

    def forward(self, x):
        y = F.relu(self.first(x))
        kept = [y]
        y += 1
        y *= 0.5
        size = x.shape[0]
        size *= 1
        return self.linear((self.second(y) + kept[0]).relu().mean((2, 3)).view(size, 4))


def test_a_value_that_is_added_to_in_place_changes_for_all_who_read_it():
    net, images = AddedTo().double().eval(), samples(8)
    with torch.no_grad():
        expected = net(images.clone())
        graph = trace(net, images[:1])
        torch.testing.assert_close(graph(images), expected, rtol=0, atol=1e-12)
    assert [n.name for n in graph.graph.nodes if n.target is operator.add] == ["add", "add_1"]
