"""Networks whose forward passes are written as people write them."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from ftbc_lightning import (
    convert,
    simulate,
)
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
