"""What a network hears: the energy of a sound in bands of the mel scale, as a picture."""

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn

from ftbc_lightning.errors import UserError, check_counts


class LogMel(nn.Module):
    """The log-mel spectrogram of a sound; nothing in it is trained.

    With the Hann window w of N values that moves on by H,

        P[f, t] = |sum_n w[n] x[n + t H] exp(-2 pi i f n / N)|^2,
        y[m, t] = log(1 + sum_f M[m, f] P[f, t] / floor),

    and the triangular filters M of `mel_filters`. Silence is 0, so what convolutions pad with is
    silence too.

    Before the first neuron of a spiking network it is computed once, on the sound: on a chip it is
    the analogue or digital front end. torchaudio has the same as `MelSpectrogram`; its releases are
    bound to those of torch one by one, and torch's own `stft` is all that is needed of it.

    Args:
        sample_rate: Values of the sound in a second.
        bands: How many bands; the rows of the picture.
        window: N, values in a window.
        hop: H, values from one window to the next.
        floor: The power that counts as loud, above 0: below it y is nearly linear in the power.

    Raises:
        UserError: A setting is out of range, or a band is narrower than the window can tell apart.

    >>> LogMel()(torch.zeros(2, 1, 8000)).shape
    torch.Size([2, 1, 32, 63])
    """

    window: Tensor
    filters: Tensor

    def __init__(
        self,
        *,
        sample_rate: int = 8000,
        bands: int = 32,
        window: int = 256,
        hop: int = 128,
        floor: float = 1.0,
    ) -> None:
        super().__init__()
        check_counts(sample_rate=sample_rate, bands=bands, window=window, hop=hop)
        if not floor > 0:
            raise UserError(f"floor is {floor}; it must be above 0.")
        self.hop, self.floor = hop, floor
        filters = mel_filters(bands, window // 2 + 1, sample_rate=sample_rate)
        if not filters.sum(1).all():
            raise UserError(
                f"{bands} mel bands are narrower than a window of {window} values can tell apart; "
                "give fewer bands or a longer window."
            )
        # computed from the settings: no file needs them
        self.register_buffer("window", torch.hann_window(window), persistent=False)
        self.register_buffer("filters", filters, persistent=False)

    def forward(self, sounds: Tensor) -> Tensor:
        """`[B, 1, N]` or `[B, N]` to `[B, 1, bands, 1 + N // hop]`."""
        spectrum = torch.stft(
            sounds.flatten(1).to(self.window.dtype),
            self.window.shape[0],
            self.hop,
            window=self.window,
            return_complex=True,
        )
        power = self.filters @ torch.view_as_real(spectrum).square().sum(-1)
        return torch.log1p(power / self.floor).unsqueeze(1).type_as(sounds)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move or cast; there is no Fourier transform in half precision, so it stays in float32."""
        before = self.window, self.filters
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.window.dtype.itemsize < 4:
            self.window, self.filters = (table.to(self.window.device) for table in before)
        return self


def mel_filters(bands: int, frequencies: int, *, sample_rate: int) -> Tensor:
    """Triangles that rise from the centre of the band before and fall to that of the next.

    On the mel scale, m = 2595 log10(1 + f / 700) with f in Hz (O'Shaughnessy, 1987), the centres
    are equally far apart, from 0 to half the sample rate.

    Args:
        bands: How many triangles.
        frequencies: How many frequencies, from 0 to half the sample rate.
        sample_rate: In Hz.

    Returns:
        float32 `[bands, frequencies]`, from 0 to 1.

    >>> mel_filters(3, 9, sample_rate=8000).argmax(1).tolist()
    [1, 2, 5]
    """
    highest = torch.tensor(sample_rate / 2, dtype=torch.float64)
    mels = torch.linspace(0, 1, bands + 2, dtype=torch.float64) * _mel(highest)
    edges = 700 * (10 ** (mels / 2595) - 1)
    low, centre, high = (edges[n : n + bands, None] for n in range(3))
    hertz = torch.linspace(0, 1, frequencies, dtype=torch.float64) * highest
    rising, falling = (hertz - low) / (centre - low), (high - hertz) / (high - centre)
    return torch.minimum(rising, falling).clamp_min(0).float()


def _mel(hertz: Tensor) -> Tensor:
    return 2595 * torch.log10(1 + hertz / 700)
