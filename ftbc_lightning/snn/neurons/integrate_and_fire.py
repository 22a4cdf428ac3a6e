"""The integrate-and-fire neuron with soft reset and temporal bias, and its leaky form."""

from numbers import Integral
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ftbc_lightning.errors import UserError
from ftbc_lightning.graph.step_weights import step_weights
from ftbc_lightning.snn import fused_neuron, fused_neuron_cpu

HalfThreshold = Literal["initial", "per_step", "none"]
"""Where the half threshold goes: into v0, into the current of every step, or nowhere."""


def check_timesteps(timesteps: int) -> None:
    """Raise `UserError` unless `timesteps` is a whole number and at least 1."""
    if not isinstance(timesteps, Integral):
        raise UserError(f"timesteps is {timesteps}; it must be a whole number from 1.")
    if timesteps < 1:
        raise UserError(f"timesteps is {timesteps}; a spiking network needs at least 1 time step.")


Carried = Tensor | tuple[Tensor, Tensor]
"""What a neuron takes from one step to the next: its membrane v, `[B, C, ...]`, and where it
remembers what it has emitted, with it the number of spikes that it may not take back, negative."""


class IFNeuron(nn.Module):
    """Integrate and fire, reset by subtraction, one temporal bias per step and channel.

        u[t] = v[t-1] + x[t] + d + b[t]                charge, then the temporal bias
        s[t] = floor(u[t] / theta) within 0 .. K       fire; 1 if u[t] >= theta else 0 for K = 1
        v[t] = leak * (u[t] - theta * s[t])            soft reset, then the leak

    with v[-1] = v0. The value passed on is theta * s[t], or s[t] itself once theta has been folded
    into the weights behind the neuron (`ftbc_lightning.snn.threshold_folding`). All of them have
    the unit of the ANN's activation. The bias is ADDED, as on the FTBC poster (arXiv 2403.18388);
    the released program stores its negative and subtracts it.

    With a leak below 1 later steps count more, and the network reads its output in the same way:
    see `ftbc_lightning.graph.step_weights`. Cost beside leak 1: one multiplication a neuron and
    step, which chips with LIF neurons have. Cost of K above 1: spikes of several bits.

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
        levels: K, how many spikes a neuron emits in one step at most, 1 to 127.
        leak: What is left of the membrane after a step, above 0 and at most 1.

    >>> neuron = IFNeuron(1, timesteps=4)
    >>> neuron.set_threshold(torch.tensor([1.0]), half_threshold="initial")
    >>> spikes, membrane = neuron(torch.full((4, 1, 1), 0.5))
    >>> spikes.flatten().tolist()
    [1.0, 0.0, 1.0, 0.0]
    """

    remembers: ClassVar[bool] = False
    """Whether it counts what it has emitted."""

    fuses: ClassVar[bool] = True
    """Whether `ftbc_lightning.snn.fused_neuron` and `fused_neuron_cpu` compute what `fire` and
    `settle` do. A model does not inherit it."""

    below: ClassVar[int] = 0
    """How many levels lie below silence, in units of K: none."""

    target: ClassVar[str] = "step"
    """What the mean of each step is calibrated to if nothing is asked for; see
    `ftbc_lightning.calibration.targets`."""

    threshold: Tensor
    amplitude: Tensor
    initial_membrane: Tensor
    step_charge: Tensor
    temporal_bias: Tensor
    membrane_correction: Tensor | None

    def __init__(
        self, channels: int, *, timesteps: int, levels: int = 1, leak: float = 1.0
    ) -> None:
        super().__init__()
        self.levels, self.leak = levels, leak
        self.register_buffer("threshold", torch.full((channels,), torch.nan))
        self.register_buffer("amplitude", torch.full((channels,), torch.nan))
        self.register_buffer("initial_membrane", torch.zeros(channels))
        self.register_buffer("step_charge", torch.zeros(channels))
        self.register_buffer("temporal_bias", torch.zeros(timesteps, channels))
        self.register_buffer("membrane_correction", None)

    def __init_subclass__(cls, **settings: Any) -> None:
        """Take the fused loops from a model that does not say that they are right for it."""
        super().__init_subclass__(**settings)
        cls.fuses = bool(cls.__dict__.get("fuses"))

    @property
    def channels(self) -> int:
        """C, the number of channels."""
        return self.threshold.shape[0]

    @property
    def timesteps(self) -> int:
        """T, the number of steps that the temporal bias covers."""
        return self.temporal_bias.shape[0]

    @property
    def top(self) -> Tensor:
        """The largest mean output, K * theta, `[C]`."""
        return self.threshold * self.levels

    @property
    def lowest(self) -> int:
        """The smallest mean output in thresholds: below 0 where it has the sign of its input."""
        return 0 if self.remembers else -self.below * self.levels

    def limited(self, values: Tensor) -> Tensor:
        """What of an activation `[B, C, ...]` a mean output can be: lowest * theta .. K * theta."""
        theta = self.threshold.view(-1, *(1,) * (values.ndim - 2))
        return torch.minimum(torch.maximum(values, self.lowest * theta), self.levels * theta)

    def weights(self) -> Tensor | None:
        """c, how much each step counts, `[T]`; None without a leak, where all count the same."""
        if self.leak == 1:
            return None
        return step_weights(self.timesteps, self.leak, like=self.threshold)

    @property
    def binary(self) -> bool:
        """Whether it fires 0 or 1."""
        return self.levels == 1 and not self.below

    @property
    def plain(self) -> bool:
        """Whether it fires 0 or 1 and has no leak."""
        return self.binary and self.leak == 1

    @torch.no_grad()
    def set_threshold(self, threshold: Tensor, *, half_threshold: HalfThreshold) -> None:
        """Set theta, place the half threshold and clear what a calibration has written.

        Args:
            threshold: theta, `[C]`, above 0.
            half_threshold: "initial" sets v0 = theta/2, "per_step" adds theta/(2T) at every step
                with v0 = 0, "none" does neither. The same with a leak: making up for what it takes
                of v0 was measured, and fires neurons that ought to be silent.
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

    def fire(
        self, charged: Tensor, threshold: Tensor, owed: Tensor | None, out: Tensor | None = None
    ) -> Tensor:
        """How many spikes each neuron emits, in the type of `charged` or of `out`.

        Args:
            charged: u, `[B, C, ...]`.
            threshold: theta, shaped so that it broadcasts.
            owed: See `Carried`; None here.
            out: Where to write them.
        """
        if self.levels == 1:
            fired = torch.empty_like(charged) if out is None else out
            return torch.ge(charged, threshold, out=fired)
        return torch.div(charged, threshold, out=out).floor_().clamp_(0, self.levels)

    def settle(
        self, charged: Tensor, threshold: Tensor, owed: Tensor | None, fired: Tensor
    ) -> None:
        """Reset, leak and count what was fired, in place; see `fire` for the arguments."""
        charged.addcmul_(fired, threshold, value=-1)
        if self.leak != 1:
            charged.mul_(self.leak)
        if owed is not None:
            owed.sub_(fired)

    def crossings(self, charged: Tensor, owed: Tensor | None) -> list[Tensor]:
        """For each level the values that reach theta where a neuron reaches that level.

            s >= k  where  u - (k - 1) * theta >= theta,   k = 1 .. K

        So the number of spikes of a channel is a count of values at theta or above.
        """
        theta = self.threshold.view(-1, *(1,) * (charged.ndim - 2))
        return [charged, *(charged - k * theta for k in range(1, self.levels))]

    def forward(
        self,
        current: Tensor,
        membrane: Carried | None = None,
        start: int = 0,
        *,
        out: Tensor | None = None,
    ) -> tuple[Tensor, Carried]:
        """Carry the neuron through the steps of `current`.

        Args:
            current: x, `[steps, B, C, ...]`.
            membrane: What was returned for the step before the first of these, `[B, C, ...]`,
                changed in place; v0 if None.
            start: The index of the first of these steps, so that b[start] belongs to it.
            out: Where to write what is passed on; `current` itself saves the memory of another.

        Returns:
            What is passed on, `[steps, B, C, ...]` in the precision of the current, and the
            membrane after the last step.
        """
        if membrane is None and self.membrane_correction is not None:
            membrane = self.started(self.rest(current))
        fused = self._fused(current, membrane, start, out) if self.fuses else None
        return self._step_by_step(current, membrane, start, out) if fused is None else fused

    def _fused(
        self, current: Tensor, membrane: Carried | None, start: int, out: Tensor | None
    ) -> tuple[Tensor, Carried] | None:
        """What `forward` returns, in one pass over memory; None where the plain loop is needed."""
        if fused_neuron_cpu.is_used_for(current):
            kind = {"levels": self.levels, "leak": self.leak, "remembers": self.remembers}
            kind["lowest"] = -self.below * self.levels
            values = self._values(start, len(current))
            return fused_neuron_cpu.carry(current, membrane, out, **values, **kind)
        if self.plain and fused_neuron.is_used_for(current):
            assert not isinstance(membrane, tuple)
            return fused_neuron.carry(current, membrane, out, **self._values(start, len(current)))
        return None

    def started(self, rest: Tensor) -> Carried:
        """What is carried before the first step, with the membrane at `rest`."""
        return (rest, torch.zeros_like(rest)) if self.remembers else rest

    def _values(self, start: int, steps: int) -> dict[str, Tensor]:
        return {
            "threshold": self.threshold,
            "amplitude": self.amplitude,
            "initial_membrane": self.initial_membrane,
            "temporal_bias": self.temporal_bias[start : start + steps],
            "step_charge": self.step_charge,
        }

    def _step_by_step(
        self, current: Tensor, membrane: Carried | None, start: int, out: Tensor | None
    ) -> tuple[Tensor, Carried]:
        """The plain loop; see `forward`."""
        carried = self.started(self.rest(current)) if membrane is None else membrane
        v, owed = carried if isinstance(carried, tuple) else (carried, None)
        threshold = self.per_channel(self.threshold, current)
        bias = self.temporal_bias[start : start + len(current)] + self.step_charge
        bias = self.per_channel(bias, current)
        output = torch.empty_like(current) if out is None else out
        # Spikes as numbers, in the place of their current: a comparison that yields booleans
        # would have to be converted for each product, which costs more than all the rest.
        spikes = output if output.dtype == v.dtype else torch.empty_like(output, dtype=v.dtype)
        for x, b, fired in zip(current.unbind(), bias.unbind(), spikes.unbind(), strict=True):
            v.add_(x).add_(b)
            self.fire(v, threshold, owed, out=fired)
            self.settle(v, threshold, owed, fired)
        torch.mul(spikes, self.per_channel(self.amplitude, current), out=output)
        return output, carried

    def extra_repr(self) -> str:
        """Channels and steps, for `print(network)`."""
        several = f", levels={self.levels}" if self.levels > 1 else ""
        leaky = f", leak={self.leak}" if self.leak != 1 else ""
        return f"channels={self.channels}, timesteps={self.timesteps}{several}{leaky}"
