"""The integrate-and-fire neuron with soft reset and temporal bias."""

from typing import Literal

import torch
from torch import Tensor, nn

from ftbc_lightning.errors import UserError
from ftbc_lightning.snn import fused_neuron

HalfThreshold = Literal["initial", "per_step", "none"]
"""Where the half threshold goes: into v0, into the current of every step, or nowhere."""


def check_timesteps(timesteps: int) -> None:
    """Raise `UserError` unless `timesteps` is at least 1."""
    if timesteps < 1:
        raise UserError(f"timesteps is {timesteps}; a spiking network needs at least 1 time step.")


class IFNeuron(nn.Module):
    """Integrate and fire, reset by subtraction, one temporal bias per step and channel.

        u[t] = v[t-1] + x[t] + d + b[t]      charge, then the temporal bias
        s[t] = 1 if u[t] >= theta else 0     fire
        v[t] = u[t] - theta * s[t]           soft reset

    with v[-1] = v0. The value passed on is theta * s[t], or s[t] itself once theta has been folded
    into the weights behind the neuron (`ftbc_lightning.snn.threshold_folding`). All of them have
    the unit of the ANN's activation. The bias is ADDED, as on the FTBC poster (arXiv 2403.18388);
    the released program stores its negative and subtracts it.

    Buffers:
        threshold: theta, `[C]`, above 0; NaN until a threshold rule has set it.
        amplitude: What a spike passes on, `[C]`: theta, or 1 where theta is folded.
        initial_membrane: v0, `[C]`.
        step_charge: d, `[C]`, added at every step: theta / (2 T) in the second form of the half
            threshold (SNN Calibration, RTS), else 0.
        temporal_bias: b, `[T, C]`; zero until it is calibrated.
        membrane_correction: `[C, ...]`, added to v0 of each neuron, or None: only the calibration
            method `potential` makes room for it.

    Args:
        channels: C, the size of the channel axis (axis 1 of `[B, C, ...]`).
        timesteps: T, how many steps the bias covers, at least 1.

    >>> neuron = IFNeuron(1, timesteps=4)
    >>> neuron.set_threshold(torch.tensor([1.0]), half_threshold="initial")
    >>> spikes, membrane = neuron(torch.full((4, 1, 1), 0.5))
    >>> spikes.flatten().tolist()
    [1.0, 0.0, 1.0, 0.0]
    """

    threshold: Tensor
    amplitude: Tensor
    initial_membrane: Tensor
    step_charge: Tensor
    temporal_bias: Tensor
    membrane_correction: Tensor | None

    def __init__(self, channels: int, *, timesteps: int) -> None:
        super().__init__()
        self.register_buffer("threshold", torch.full((channels,), torch.nan))
        self.register_buffer("amplitude", torch.full((channels,), torch.nan))
        self.register_buffer("initial_membrane", torch.zeros(channels))
        self.register_buffer("step_charge", torch.zeros(channels))
        self.register_buffer("temporal_bias", torch.zeros(timesteps, channels))
        self.register_buffer("membrane_correction", None)

    @property
    def channels(self) -> int:
        """C, the number of channels."""
        return self.threshold.shape[0]

    @property
    def timesteps(self) -> int:
        """T, the number of steps that the temporal bias covers."""
        return self.temporal_bias.shape[0]

    @torch.no_grad()
    def set_threshold(self, threshold: Tensor, *, half_threshold: HalfThreshold) -> None:
        """Set theta, place the half threshold and clear what a calibration has written.

        Args:
            threshold: theta, `[C]`, above 0.
            half_threshold: "initial" sets v0 = theta/2, "per_step" adds theta/(2T) at every step
                with v0 = 0, "none" does neither.
        """
        self.threshold.copy_(threshold)
        self.amplitude.copy_(threshold)
        self.initial_membrane.zero_()
        self.step_charge.zero_()
        self.clear_correction()
        if half_threshold == "initial":
            self.initial_membrane.copy_(self.threshold / 2)
        elif half_threshold == "per_step":
            self.step_charge.copy_(self.threshold / (2 * self.timesteps))

    @torch.no_grad()
    def clear_correction(self) -> None:
        """Set the temporal bias, and the correction of v0 if there is one, to zero."""
        self.temporal_bias.zero_()
        if self.membrane_correction is not None:
            self.membrane_correction.zero_()

    def per_channel(self, values: Tensor, current: Tensor) -> Tensor:
        """Shape per-channel values `[..., C]` so that they broadcast over `current`."""
        axes = current.ndim - 3
        return values.reshape(*values.shape, *(1,) * axes).to(current.device)

    def rest(self, current: Tensor) -> Tensor:
        """The membrane before the first step, v0, as `[B, C, ...]` for `current` `[T, B, C, ...]`.

        A new tensor in the neuron's own precision, whatever the precision of the current, and in
        the memory layout of one step of it.
        """
        rest = torch.empty_like(current[0], dtype=self.initial_membrane.dtype)
        rest.copy_(self.per_channel(self.initial_membrane, current))
        if self.membrane_correction is not None:
            rest += self.membrane_correction
        return rest

    def forward(
        self,
        current: Tensor,
        membrane: Tensor | None = None,
        start: int = 0,
        *,
        out: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Carry the neuron through the steps of `current`.

        Args:
            current: x, `[steps, B, C, ...]`.
            membrane: v before the first of these steps, `[B, C, ...]`, changed in place; v0 if
                None.
            start: The index of the first of these steps, so that b[start] belongs to it.
            out: Where to write what is passed on; `current` itself saves the memory of another.

        Returns:
            What is passed on, `[steps, B, C, ...]` in the precision of the current, and the
            membrane after the last step.
        """
        if membrane is None and self.membrane_correction is not None:
            membrane = self.rest(current)
        if fused_neuron.is_used_for(current):
            fused = fused_neuron.carry(current, membrane, out, **self._values(start, len(current)))
            if fused is not None:
                return fused
        return self._step_by_step(current, membrane, start, out)

    def _values(self, start: int, steps: int) -> dict[str, Tensor]:
        return {
            "threshold": self.threshold,
            "amplitude": self.amplitude,
            "initial_membrane": self.initial_membrane,
            "temporal_bias": self.temporal_bias[start : start + steps],
            "step_charge": self.step_charge,
        }

    def _step_by_step(
        self, current: Tensor, membrane: Tensor | None, start: int, out: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The plain loop; see `forward`."""
        v = self.rest(current) if membrane is None else membrane
        threshold = self.per_channel(self.threshold, current)
        bias = self.temporal_bias[start : start + len(current)] + self.step_charge
        bias = self.per_channel(bias, current)
        output = torch.empty_like(current) if out is None else out
        # Spikes as numbers, in the place of their current: a comparison that yields booleans
        # would have to be converted for each product, which costs more than all the rest.
        spikes = output if output.dtype == v.dtype else torch.empty_like(output, dtype=v.dtype)
        for x, b, fired in zip(current.unbind(), bias.unbind(), spikes.unbind(), strict=True):
            v.add_(x).add_(b)
            torch.ge(v, threshold, out=fired)
            v.addcmul_(fired, threshold, value=-1)
        torch.mul(spikes, self.per_channel(self.amplitude, current), out=output)
        return output, v

    def extra_repr(self) -> str:
        """Channels and steps, for `print(network)`."""
        return f"channels={self.channels}, timesteps={self.timesteps}"
