"""Sounds of one second, made from random numbers: what each kind is, as an equation."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

SAMPLE_RATE = 8000
"""Values in a second; a sound is one second."""

LOW, HIGH = 300.0, 2400.0
"""Between which frequencies in Hz tones lie."""


class Draw:
    """Random numbers for `count` sounds, each `[count, 1]`.

    Args:
        count: How many sounds.
        generator: Where they come from.
    """

    def __init__(self, count: int, generator: torch.Generator) -> None:
        self.count, self.generator = count, generator

    def between(self, low: float, high: float) -> Tensor:
        """Even from `low` to `high`."""
        return low + (high - low) * torch.rand(self.count, 1, generator=self.generator)

    def frequency(self, low: float = LOW, high: float = HIGH) -> Tensor:
        """A frequency in Hz, even in its logarithm: in octaves."""
        return self.between(math.log(low), math.log(high)).exp()

    def noise(self) -> Tensor:
        """White noise of variance 1, `[count, 8000]`."""
        return torch.randn(self.count, SAMPLE_RATE, generator=self.generator)


def seconds() -> Tensor:
    """The time of each value, `[8000]`."""
    return torch.arange(SAMPLE_RATE) / SAMPLE_RATE


def sine(hertz: Tensor, start: Tensor) -> Tensor:
    """sin(2 pi (start + the sum of all frequencies so far)): a tone whose frequency may change.

    Args:
        hertz: `[count, 8000]`, or `[count, 1]` of a steady tone.
        start: `[count, 1]`, in periods.

    >>> sine(torch.tensor([[2000.0]]), torch.zeros(1, 1))[0, :4].abs().round().tolist()
    [1.0, 0.0, 1.0, 0.0]
    """
    periods = (hertz.double() / SAMPLE_RATE).expand(-1, SAMPLE_RATE).cumsum(1)
    return torch.sin(2 * math.pi * (periods + start)).float()


def steady(draw: Draw) -> Tensor:
    """One tone."""
    return sine(draw.frequency(), draw.between(0, 1))


def two_tones(draw: Draw) -> Tensor:
    """Two tones at once, a third of an octave to an octave apart."""
    low = draw.frequency(LOW, HIGH / 2)
    high = low * 2 ** draw.between(1 / 3, 1)
    return (sine(low, draw.between(0, 1)) + sine(high, draw.between(0, 1))) / 2


def rising(draw: Draw) -> Tensor:
    """A tone that rises evenly by half an octave to two octaves."""
    return sine(_glide(draw), draw.between(0, 1))


def falling(draw: Draw) -> Tensor:
    """A tone that falls as a rising one rises."""
    return sine(_glide(draw).flip(1), draw.between(0, 1))


def vibrato(draw: Draw) -> Tensor:
    """A tone whose frequency swings 3 to 8 times in a second, by 4 to 10 % to each side."""
    swing = sine(draw.between(3, 8), draw.between(0, 1))
    return sine(draw.frequency() * (1 + draw.between(0.04, 0.1) * swing), draw.between(0, 1))


def tremolo(draw: Draw) -> Tensor:
    """A tone whose loudness swings 3 to 8 times in a second."""
    swing = sine(draw.between(3, 8), draw.between(0, 1))
    return sine(draw.frequency(), draw.between(0, 1)) * (1 + swing) / 2


def burst(draw: Draw) -> Tensor:
    """White noise that lasts an eighth to half of the second."""
    length = draw.between(0.125, 0.5)
    place = (seconds() - draw.between(0, 1) * (1 - length)) / length
    return draw.noise() * ((place >= 0) & (place < 1)) / 2


def clicks(draw: Draw) -> Tensor:
    """Clicks of 4 ms each, 4 to 10 in a second."""
    passed = (seconds() * draw.between(4, 10) + draw.between(0, 1)).frac()
    return draw.noise() * torch.exp(-passed * 60) / 2


def _glide(draw: Draw) -> Tensor:
    """Frequencies that rise evenly in octaves, `[count, 8000]`."""
    octaves = draw.between(0.5, 2)
    return draw.frequency(LOW, HIGH / 4) * 2 ** (octaves * seconds())


KINDS: dict[str, Callable[[Draw], Tensor]] = {
    "steady": steady,
    "two tones": two_tones,
    "rising": rising,
    "falling": falling,
    "vibrato": vibrato,
    "tremolo": tremolo,
    "burst": burst,
    "clicks": clicks,
}
"""Every kind of sound by its name; the order is that of the classes."""


def make_sounds(count: int, *, noise: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Sounds of every kind in turn, each of its own loudness, in white noise.

        x = a * sound + noise * n, with a even between 0.25 and 1 and n of variance 1.

    Args:
        count: How many.
        noise: Deviation of the noise, 0 or more.
        generator: Decides everything that is drawn.

    Returns:
        float32 `[count, 1, 8000]`, and the place of each kind in `KINDS`, int64 `[count]`.

    >>> sounds, labels = make_sounds(9, noise=0.1, generator=torch.Generator().manual_seed(0))
    >>> sounds.shape, labels.tolist()
    (torch.Size([9, 1, 8000]), [0, 1, 2, 3, 4, 5, 6, 7, 0])
    """
    labels = torch.arange(count) % len(KINDS)
    sounds = torch.empty(count, SAMPLE_RATE)
    for label, make in enumerate(KINDS.values()):
        own = labels == label
        draw = Draw(int(own.sum()), generator)
        sounds[own] = draw.between(0.25, 1) * make(draw) + noise * draw.noise()
    return sounds.unsqueeze(1), labels
