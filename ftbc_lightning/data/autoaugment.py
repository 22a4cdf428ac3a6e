"""AutoAugment's CIFAR-10 policy for batches on any device, another draw for each sample.

torchvision's draws once for a whole batch. Here the draws are made on the CPU and arithmetic is
that of integers, so that a batch is the same, bit by bit, on every device.
"""

import math
from functools import cache

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

POLICY = (
    (("invert", 0.1, 0), ("contrast", 0.2, 6)),
    (("rotate", 0.7, 2), ("translate_x", 0.3, 9)),
    (("sharpness", 0.8, 1), ("sharpness", 0.9, 3)),
    (("shear_y", 0.5, 8), ("translate_y", 0.7, 9)),
    (("autocontrast", 0.5, 0), ("equalize", 0.9, 0)),
    (("shear_y", 0.2, 7), ("posterize", 0.3, 7)),
    (("color", 0.4, 3), ("brightness", 0.6, 7)),
    (("sharpness", 0.3, 9), ("brightness", 0.7, 9)),
    (("equalize", 0.6, 0), ("equalize", 0.5, 0)),
    (("contrast", 0.6, 7), ("sharpness", 0.6, 5)),
    (("color", 0.7, 7), ("translate_x", 0.5, 8)),
    (("equalize", 0.3, 0), ("autocontrast", 0.4, 0)),
    (("translate_y", 0.4, 3), ("sharpness", 0.2, 6)),
    (("brightness", 0.9, 6), ("color", 0.2, 8)),
    (("solarize", 0.5, 2), ("invert", 0.0, 0)),
    (("equalize", 0.2, 0), ("autocontrast", 0.6, 0)),
    (("equalize", 0.2, 0), ("equalize", 0.6, 0)),
    (("color", 0.9, 9), ("equalize", 0.6, 0)),
    (("autocontrast", 0.8, 0), ("solarize", 0.2, 8)),
    (("brightness", 0.1, 3), ("color", 0.7, 0)),
    (("solarize", 0.4, 5), ("autocontrast", 0.9, 0)),
    (("translate_y", 0.9, 9), ("translate_y", 0.7, 9)),
    (("autocontrast", 0.9, 0), ("solarize", 0.8, 3)),
    (("equalize", 0.8, 0), ("invert", 0.1, 0)),
    (("translate_y", 0.7, 9), ("autocontrast", 0.9, 0)),
)
"""Operation, probability and magnitude, 0 to 9, of two steps (Cubuk et al., CVPR 2019)."""

ONE = 1 << 16
"""1 as a fixed-point number: coordinates have 16 binary places."""


def auto_augment(images: Tensor) -> Tensor:
    """Apply the two steps of a policy drawn for each sample.

    Args:
        images: uint8 `[B, C, H, W]` on any device; C is 1 or 3.

    Returns:
        The same shape, type and device.

    >>> auto_augment(torch.zeros(4, 3, 8, 8, dtype=torch.uint8)).shape
    torch.Size([4, 3, 8, 8])
    """
    count = len(images)
    policy = torch.randint(len(POLICY), (count,))
    chance, sign = torch.rand(2, count), torch.randint(2, (2, count))
    probability, operation, settings = _table(*images.shape[-2:])
    for step in (0, 1):
        chosen = torch.where(
            chance[step] < probability[policy, step], operation[policy, step], len(OPERATIONS)
        )
        images = apply(images, chosen, settings[policy, step, sign[step]])
    return images


def apply(images: Tensor, chosen: Tensor, settings: Tensor) -> Tensor:
    """Apply to each sample the operation chosen for it.

    Samples of one operation are treated together, so that the work is that of one operation for
    each sample and a device is given few launches.

    Args:
        images: uint8 `[B, C, H, W]`.
        chosen: Indices of `OPERATIONS`, or their number for none, `[B]`, on the CPU.
        settings: Of `settings_of`, `[B, 6]`, on the CPU.
    """
    order = chosen.argsort(stable=True)
    counts = chosen.bincount(minlength=len(OPERATIONS) + 1).tolist()
    # one transfer, and none that the host waits for
    sent = torch.cat([order[:, None], settings[order]], dim=1)
    sent = sent.to(images.device, non_blocking=True)
    order, settings = sent[:, 0], sent[:, 1:].int()
    parts = zip(torch.split(images[order], counts), torch.split(settings, counts), strict=True)
    changed = [
        operation(*part) if len(part[0]) else part[0]
        for operation, part in zip((*OPERATIONS.values(), _keep), parts, strict=True)
    ]
    return torch.empty_like(images).index_copy_(0, order, torch.cat(changed))


@cache
def _table(height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of each policy and step: probability, operation, and settings for either sign."""
    steps = [(place, step) for place in POLICY for step in place]
    kinds = list(OPERATIONS)
    probability = torch.tensor([p for _, (_, p, _) in steps]).view(-1, 2)
    operation = torch.tensor([kinds.index(KIND.get(n, n)) for _, (n, _, _) in steps]).view(-1, 2)
    settings = [
        [settings_of(name, sign * level, height, width) for sign in (1, -1)]
        for _, (name, _, level) in steps
    ]
    return probability, operation, torch.tensor(settings).view(-1, 2, 2, 6)


def settings_of(name: str, level: int, height: int, width: int) -> list[int]:
    """An operation's settings as six whole numbers, those it does not need are 0.

    Operations that move pixels have the rows of a matrix from twice the distance from the middle
    of a pixel to that of the pixel it is taken from, in fixed point. Others have one number:
    a factor in tenths above 1, a mask of bits, or a threshold.

    Args:
        name: Of the policy.
        level: Magnitude from -9 to 9; the sign matters to some only.
        height: Of the samples.
        width: Of the samples.

    >>> settings_of("color", -3, 32, 32)
    [-3, 0, 0, 0, 0, 0]
    """
    if name in ("brightness", "color", "contrast", "sharpness"):
        return [level, *[0] * 5]
    if name == "posterize":
        bits = round(8 - abs(level) * 4 / 9)
        return [256 - 2 ** (8 - bits), *[0] * 5]
    if name == "solarize":
        return [math.ceil(255 * (9 - abs(level)) / 9), *[0] * 5]
    slope, angle = 0.3 * level / 9, math.radians(30 * level / 9)
    shift = int(150 / 331 * (width if name == "translate_x" else height) * level / 9)
    cosine, sine = math.cos(angle), math.sin(angle)
    matrix = {
        "shear_y": (1, 0, 0, slope, 1, slope * width),
        "translate_x": (1, 0, -2 * shift, 0, 1, 0),
        "translate_y": (1, 0, 0, 0, 1, -2 * shift),
        "rotate": (cosine, -sine, 0, sine, cosine, 0),
    }
    return [round(value * ONE) for value in matrix.get(name, (0,) * 6)]


def _keep(images: Tensor, settings: Tensor) -> Tensor:
    return images


def _move(images: Tensor, matrix: Tensor) -> Tensor:
    """Take each pixel from the nearest to where the matrix says; 0 from outside."""
    height, width = images.shape[-2:]
    x = torch.arange(1 - width, width, 2, device=images.device, dtype=torch.int32).view(1, 1, -1)
    y = torch.arange(1 - height, height, 2, device=images.device, dtype=torch.int32).view(1, -1, 1)
    a, b, c, d, e, f = matrix.view(-1, 6, 1, 1).unbind(1)
    column = (a * x + b * y + c + width * ONE) >> 17
    row = (d * x + e * y + f + height * ONE) >> 17
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    source = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
    flat = images.flatten(2)
    moved = flat.gather(2, source.flatten(1).long()[:, None].expand_as(flat)).view_as(images)
    return moved * inside[:, None]


def _blend(images: Tensor, other: Tensor, tenths: Tensor, scale: int = 1) -> Tensor:
    """`images + tenths / 10 * (images - other / scale)`, within 0 and 255."""
    tenths = tenths[:, :1, None, None].to(other.dtype)
    mixed = (10 + tenths) * scale * images - tenths * other
    return mixed.div(10 * scale, rounding_mode="floor").clamp(0, 255).to(torch.uint8)


def _brightness(images: Tensor, settings: Tensor) -> Tensor:
    return _blend(images, images.new_zeros((), dtype=torch.int32), settings)


def _grey(images: Tensor) -> Tensor:
    if images.shape[1] == 1:
        return images.int()
    red, green, blue = images.int().unbind(1)
    grey = (2989 * red + 5870 * green + 1140 * blue).div(10000, rounding_mode="floor")
    return grey[:, None]


def _color(images: Tensor, settings: Tensor) -> Tensor:
    return images if images.shape[1] == 1 else _blend(images, _grey(images), settings)


def _contrast(images: Tensor, settings: Tensor) -> Tensor:
    pixels = images.shape[-2] * images.shape[-1]
    total = _grey(images).sum(dim=(1, 2, 3), keepdim=True, dtype=torch.int64)
    # a value times the number of pixels fits into 32 bits where there are few
    exact = torch.int32 if pixels < 2**18 else torch.int64
    return _blend(images, total.to(exact), settings, pixels)


def _sharpness(images: Tensor, settings: Tensor) -> Tensor:
    """Blend with the mean over 3x3 pixels, of which the middle one counts five times."""
    exact = images.int()
    rows = exact[..., :-2, :] + exact[..., 1:-1, :] + exact[..., 2:, :]
    middle = exact[..., 1:-1, 1:-1]
    near = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:] + 4 * middle
    result = images.clone()
    blurred = (near + 6).div(13, rounding_mode="floor")
    result[..., 1:-1, 1:-1] = _blend(images[..., 1:-1, 1:-1], blurred, settings)
    return result


def _posterize(images: Tensor, mask: Tensor) -> Tensor:
    return images & mask[:, :1, None, None].to(torch.uint8)


def _solarize(images: Tensor, threshold: Tensor) -> Tensor:
    """Invert what is at or above the threshold; 0 inverts everything."""
    return torch.where(images >= threshold[:, :1, None, None], 255 - images, images)


def _autocontrast(images: Tensor, settings: Tensor) -> Tensor:
    """Spread each channel over 0 to 255; one of a single value stays."""
    exact = images.int()
    low, high = exact.amin((2, 3), keepdim=True), exact.amax((2, 3), keepdim=True)
    spread = (255 * (exact - low)).div((high - low).clamp_min(1), rounding_mode="floor")
    return torch.where(high > low, spread, exact).to(torch.uint8)


def _equalize(images: Tensor, settings: Tensor) -> Tensor:
    equalized: Tensor = functional.equalize(images)
    return equalized


OPERATIONS = {
    "move": _move,
    "brightness": _brightness,
    "color": _color,
    "contrast": _contrast,
    "sharpness": _sharpness,
    "posterize": _posterize,
    "solarize": _solarize,
    "autocontrast": _autocontrast,
    "equalize": _equalize,
}
KIND = {"shear_y": "move", "translate_x": "move", "translate_y": "move", "rotate": "move"}
KIND["invert"] = "solarize"
"""The operation that does what a policy names, where it has another name."""
