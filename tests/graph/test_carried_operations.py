"""Linear operations are carried over as they are: the limit of many steps is the network."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ftbc_lightning import UserError, calibrate, convert, simulate
from ftbc_lightning.analysis.inspection import inspect
from ftbc_lightning.analysis.operation_counts import count_operations
from ftbc_lightning.graph.tracing import trace
from ftbc_lightning.snn.conversion import prepare
from ftbc_lightning.snn.stepping import SteppedNetwork
from ftbc_lightning.snn.threshold_folding import fold_thresholds
from tests.graph.forward_passes import Base
from tests.networks import samples


class Through(Base):
    """Two layers of neurons, an operation, a third layer of neurons and a classifier."""

    def __init__(self, operation, layer=None):
        super().__init__()
        self.operation, self.layer = operation, layer
        self.square, self.mask = nn.Parameter(torch.randn(6, 6)), nn.Buffer(torch.randn(4, 6, 6))
        self.kernel, self.last = nn.Parameter(torch.randn(4, 3, 2, 2)), nn.LazyLinear(3)
        self.register_buffer("places", torch.randint(0, 4, (1, 2, 6, 6)))
        self.register_buffer("grid", torch.rand(1, 3, 3, 2) - 0.5)

    def forward(self, x):
        y = self.operation(self.hidden(x), self)
        return self.last(F.relu(y.flatten(1) - 0.2))


def module(layer, prepare=lambda x: x):
    return lambda: Through(lambda x, net: net.layer(prepare(x)), layer())


def function(operation):
    return lambda: Through(operation)


def rows(x):
    return x.flatten(2)


def slices(x):
    return x.unsqueeze(2)


def ramp(x):
    return torch.linspace(-1, 1, 6, dtype=torch.float64).expand(x.shape[0], 1, 6, 6)


def squares(x, net):
    return net.square.expand(x.shape[0], 6, 6)


OPERATIONS = {
    # transposed convolutions
    "ConvTranspose1d": module(lambda: nn.ConvTranspose1d(4, 3, 2, 2), rows),
    "ConvTranspose2d": module(lambda: nn.ConvTranspose2d(4, 3, 3, 2, 1, output_padding=1)),
    "ConvTranspose3d": module(lambda: nn.ConvTranspose3d(4, 3, 2, 2), slices),
    "ConvTranspose2d of groups": module(lambda: nn.ConvTranspose2d(4, 6, 2, 2, groups=2)),
    "ConvTranspose2d to a size": lambda: Through(
        lambda x, net: net.layer(x, output_size=(12, 13)), nn.ConvTranspose2d(4, 3, 2, 2)
    ),
    "conv_transpose1d": function(lambda x, n: F.conv_transpose1d(rows(x), n.kernel[..., 0])),
    "conv_transpose2d": function(lambda x, n: torch.conv_transpose2d(x, n.kernel, stride=2)),
    "conv_transpose3d": function(lambda x, n: F.conv_transpose3d(slices(x), slices(n.kernel))),
    # resampling and padding
    "Upsample nearest": module(lambda: nn.Upsample(scale_factor=2)),
    "Upsample bilinear": module(lambda: nn.Upsample(scale_factor=2, mode="bilinear")),
    "Upsample bicubic": module(lambda: nn.Upsample(size=9, mode="bicubic", align_corners=True)),
    "interpolate area": function(lambda x, n: F.interpolate(x, size=4, mode="area")),
    "interpolate linear": function(lambda x, n: F.interpolate(rows(x), size=9, mode="linear")),
    "interpolate bicubic": function(
        lambda x, n: F.interpolate(x, size=9, mode="bicubic", antialias=True)
    ),
    "interpolate trilinear": function(
        lambda x, n: F.interpolate(slices(x), scale_factor=2, mode="trilinear")
    ),
    "interpolate to another's size": function(
        lambda x, n: F.interpolate(x[..., ::2], size=x.shape[2:], mode="bilinear")
    ),
    "PixelShuffle": module(lambda: nn.PixelShuffle(2)),
    "PixelUnshuffle": module(lambda: nn.PixelUnshuffle(2)),
    "ReflectionPad2d": module(lambda: nn.ReflectionPad2d(1)),
    "ReplicationPad2d": module(lambda: nn.ReplicationPad2d(1)),
    "CircularPad2d": module(lambda: nn.CircularPad2d(1)),
    "ConstantPad2d of a number": module(lambda: nn.ConstantPad2d(1, 0.7)),
    "constant_pad_nd": function(lambda x, n: torch.constant_pad_nd(x, (1, 1), -0.7)),
    "pad of a number": function(lambda x, n: F.pad(x, (1, 1), value=0.7)),
    "pad circular": function(lambda x, n: F.pad(x, (1, 1, 1, 1), mode="circular")),
    # blocks
    "Unfold and Fold": module(
        lambda: nn.Sequential(nn.Unfold(3, padding=1), nn.Fold(6, 3, padding=1))
    ),
    "unfold and fold": function(lambda x, n: F.fold(F.unfold(x, 2, stride=2), 6, 2, stride=2)),
    "overlapping windows": function(lambda x, n: x.unfold(2, 3, 1).unfold(3, 2, 2)),
    # products with one's own tensors
    "bmm": function(lambda x, n: torch.bmm(x.flatten(1, 2), squares(x, n))),
    "bmm from the left": function(lambda x, n: squares(x, n).bmm(x.flatten(1, 2).mT)),
    "baddbmm": function(lambda x, n: torch.baddbmm(x[:, 0], x[:, 1], squares(x, n), beta=0.5)),
    "addmm": function(lambda x, n: torch.addmm(n.square[0], x.mean((1, 2)), n.square, alpha=2)),
    "addcmul": function(lambda x, n: torch.addcmul(n.mask, x, n.mask, value=0.5)),
    "addcmul method": function(lambda x, n: x.addcmul(n.mask, x)),
    "einsum": function(lambda x, n: torch.einsum("bchw,wk->bck", x, n.square)),
    "inner": function(lambda x, n: torch.inner(x, n.square)),
    "matmul of linalg": function(lambda x, n: torch.linalg.matmul(n.square, x)),
    "vecdot": function(lambda x, n: torch.linalg.vecdot(x, n.square)),
    "linear with given factor": function(lambda x, n: F.linear(n.square, x.flatten(1).mT[:6].mT).T),
    "true_divide": function(lambda x, n: torch.true_divide(x, 2) + x.true_divide(n.mask.abs() + 1)),
    # choices and mixtures
    "where of an own mask": function(lambda x, n: torch.where(n.mask > 0, x, x.flip(1))),
    "where of an own mask, method": function(lambda x, n: x.where(n.mask > 0, n.mask)),
    "masked_fill": function(lambda x, n: x.masked_fill(n.mask > 0, 0.3)),
    "lerp": function(lambda x, n: torch.lerp(x, x.flip(1), 0.3)),
    "lerp by an own share": function(lambda x, n: x.lerp(x.flip(1), weight=torch.sigmoid(n.mask))),
    "gather": function(lambda x, n: x.gather(1, n.places.expand(x.shape[0], -1, -1, -1))),
    "take_along_dim": function(lambda x, n: torch.take_along_dim(x, n.places, dim=1)),
    "grid_sample": function(
        lambda x, n: F.grid_sample(x, n.grid.expand(x.shape[0], -1, -1, -1), align_corners=False)
    ),
    # tensors that the forward pass makes
    "places of each pixel": function(lambda x, n: torch.cat([x, ramp(x), ramp(x).mT], 1)),
    "a made mask": function(
        lambda x, n: x * torch.tensor([1.0, 0.0, 2.0, 1.0]).view(4, 1, 1).repeat(x.size(0), 1, 1, 1)
    ),
    # moving values
    "select": function(lambda x, n: x.select(1, 1) + torch.select(x, 1, 2)),
    "fliplr": function(lambda x, n: torch.fliplr(x) - 0.5 * x.fliplr()),
    "broadcast_to": function(lambda x, n: torch.broadcast_to(x[:, :1], x.shape)),
    "concatenate": function(lambda x, n: torch.concatenate([x, torch.column_stack([x, x])], 1)),
    "hsplit and dsplit": function(
        lambda x, n: torch.hsplit(x, 2)[0] + x.dsplit(2)[1].repeat(1, 1, 2, 1)[:, 2:]
    ),
    "split_with_sizes": function(lambda x, n: torch.split_with_sizes(x, [1, 3], 1)[1]),
    "unsafe_chunk": function(lambda x, n: x.unsafe_chunk(2, 1)[1] + torch.unsafe_split(x, 2, 1)[0]),
    "dstack": function(lambda x, n: torch.dstack([x, x.mT])),
    "adjoint": function(lambda x, n: x.adjoint().positive()),
    "triangles": function(lambda x, n: torch.tril(x) + x.triu(1) * 2),
    "cumsum": function(lambda x, n: x.cumsum(1) - torch.cumsum(x, dim=-1)),
    "detach and clone": function(lambda x, n: torch.detach(x) + torch.clone(x).type_as(n.mask)),
    "channels last": function(lambda x, n: x.contiguous(memory_format=torch.channels_last)),
}


def built(name):
    torch.manual_seed(0)
    net, images = OPERATIONS[name]().double(), samples(8)
    with torch.no_grad():
        net(images)
    return net.eval(), images


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_graph_is_the_network_and_the_error_falls_like_one_over_the_steps(name):
    net, images = built(name)
    with torch.no_grad():
        expected = net(images)
        torch.testing.assert_close(trace(net, images[:1])(images), expected, rtol=0, atol=1e-12)
    errors = []
    for steps in (64, 256):
        snn = convert(net, images[:1], [images], timesteps=steps, threshold_rule="max")
        errors.append(float((simulate(snn, images)[-1] - expected).abs().mean()))
    assert len(snn.neurons()) == 3
    assert errors[1] < 0.4 * errors[0]


@pytest.mark.parametrize("name", OPERATIONS)
def test_steps_one_by_one_cut_batches_and_folded_thresholds_give_the_same(name, monkeypatch):
    net, images = built(name)
    snn = convert(net, images[:1], [images], timesteps=5)
    calibrate(net, snn, [images])
    expected = simulate(snn, images)
    torch.testing.assert_close(SteppedNetwork(snn)(images), expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(
        simulate(fold_thresholds(snn)[0], images), expected, rtol=0, atol=1e-6
    )
    monkeypatch.setattr("ftbc_lightning.snn.simulation.chunk_sizes", lambda *a: (5, 2))
    torch.testing.assert_close(simulate(snn, images), expected, rtol=0, atol=1e-6)


REFUSED = {
    "a product of two values": ("bmm", lambda x, n: torch.bmm(x[:, 0], x[:, 1])),
    "a sum with such a product": ("baddbmm", lambda x, n: torch.baddbmm(x[:, 0], x[:, 1], x[:, 2])),
    "such a product by name": (
        "addcmul",
        lambda x, n: torch.addcmul(x, value=2, tensor2=x, tensor1=x),
    ),
    "linear with weights in time": ("linear", lambda x, n: F.linear(x, x[0, 0])),
    "kernels in time": ("conv_transpose2d", lambda x, n: F.conv_transpose2d(x, x[:4, :3])),
    "a condition in time": ("where", lambda x, n: torch.where(x > 1, x, n.mask)),
    "a share in time": ("lerp", lambda x, n: torch.lerp(x, n.mask, x)),
    "places in time": ("grid_sample", lambda x, n: F.grid_sample(x, x.movedim(1, 3)[..., :2])),
    "a power": ("lp_pool2d", lambda x, n: F.lp_pool2d(x, 2, 2)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_linear_in_time_is_refused_by_name(name):
    kind, operation = REFUSED[name]
    refused = inspect(Through(operation, None).double()).refused
    assert kind in [row.kind for row in refused]


ALONG_THE_BATCH = {
    "gather": lambda x, n: x.gather(0, torch.zeros_like(x, dtype=torch.int64)),
    "take_along_dim": lambda x, n: torch.take_along_dim(x, torch.zeros_like(x).long(), 0),
    "unfold": lambda x, n: x.unfold(0, 1, 1).squeeze(-1),
    "select": lambda x, n: x + x.select(0, 0),
    "tril": lambda x, n: x.mean((2, 3)).tril(),
    "triu": lambda x, n: torch.triu(x.mean((2, 3)), 1),
    "cumsum": lambda x, n: x.cumsum(0),
    "fliplr": lambda x, n: torch.fliplr(x.transpose(0, 1)).transpose(0, 1),
    "concatenate": lambda x, n: torch.concatenate([x, x]),
    "broadcast_to": lambda x, n: torch.broadcast_to(x[:1], x.shape),
    "einsum": lambda x, n: torch.einsum("bchw,bdhw->cdhw", x, n.mask[None]),
    "roll": lambda x, n: x.roll(1, 0),
    "narrow": lambda x, n: x.narrow(0, 0, 1),
    "unbind": lambda x, n: x.unbind()[0],
    "movedim": lambda x, n: x.movedim(0, 1),
    "swapaxes": lambda x, n: torch.swapaxes(x, 1, 0),
    "repeat": lambda x, n: x.repeat(2, 1, 1, 1),
    "index_select": lambda x, n: x.index_select(0, n.places[0, 0, 0]),
    "constant_pad_nd": lambda x, n: torch.constant_pad_nd(x, (0, 0, 0, 0, 0, 0, 1, 0)),
    "pad": lambda x, n: F.pad(x, (0, 0, 0, 0, 0, 0, 1, 0)),
    "new_ones": lambda x, n: (x.new_ones(len(x), len(x)) @ x.flatten(1)).view(x.shape),
    "flatten": lambda x, n: F.relu(x.flatten(0, 1)).view(x.shape),
}


@pytest.mark.parametrize("name", ALONG_THE_BATCH)
def test_what_runs_along_the_samples_is_refused_by_name(name):
    named = "getitem" if name == "broadcast_to" else name
    with pytest.raises(UserError, match=rf"^{named} \({named}, in forward\) mixes the samples"):
        prepare(Through(ALONG_THE_BATCH[name]).double(), samples(1), timesteps=2)


@pytest.mark.parametrize(
    ("operation", "named"),
    [
        (lambda x, n: F.interpolate(x, size=(2, 2, 2), mode="nearest"), "interpolate"),
        (lambda x, n: x.index_select(1, n.places[0, 0, 0] + 9), "index_select"),
        (lambda x, n: F.conv_transpose2d(x[:, :3], n.kernel), "conv_transpose2d"),
    ],
)
def test_an_operation_that_the_sample_does_not_pass_is_named(operation, named):
    with pytest.raises(UserError, match=rf"does not pass {named} \({named}, in forward\)"):
        prepare(Through(operation).double(), samples(1), timesteps=2)


def test_a_batch_norm_behind_a_transposed_convolution_is_folded_without_groups_alone():
    for groups, kept in ((1, 0), (2, 1)):
        net = nn.Sequential(
            *(nn.Conv2d(2, 4, 1), nn.ReLU(), nn.ConvTranspose2d(4, 6, 2, 2, groups=groups)),
            *(nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 144, 3)),
        )
        net.double().train()(samples(32))
        graph, images = trace(net), samples(4)
        torch.testing.assert_close(graph(images), net.eval()(images), rtol=0, atol=1e-12)
        assert sum(isinstance(m, nn.BatchNorm2d) for m in graph.modules()) == kept


def test_spikes_reach_a_transposed_convolution_as_ones_and_are_counted():
    net, images = built("ConvTranspose2d")
    snn = convert(net, images[:1], [images], timesteps=4)
    _, edges = fold_thresholds(snn)
    assert [edge.folded_into for edge in edges][1] == ("layer",)
    layer = {layer.layer: layer for layer in count_operations(snn, images).layers}["layer"]
    assert layer.inputs == "spikes"
    # each input pixel meets 9 weights of 3 channels, less what falls over the edge
    assert layer.dense < 4 * 36 * 27
    assert layer.bias_adds == 3 * 144
