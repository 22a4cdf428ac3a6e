"""The integrate-and-fire neuron over all its steps in one pass over memory, for CUDA and ROCm.

Charge, temporal bias, comparison, reset and scaling are five passes a step when each is an
operation of torch. Here each neuron is read once: its membrane stays in a register over all the
steps, a step reads its current and writes what is passed on. The kernel is written in Triton, which
torch brings along where it supports it; everywhere else `IFNeuron` runs its plain loop, and the
bits are the same.
"""

from __future__ import annotations

import functools
import importlib.util
import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    import triton.language as tl
else:
    tl = None  # until `_kernel` has made it what it says: Triton looks names up in this file

LARGEST_BLOCK, SMALL_BLOCK = 1024, 256
"""Neurons of one program; the small block where there are so few that programs would be idle."""

SMALL = 2**18
"""Up to how many neurons the small block is used."""

BY_THREAD = 4
"""Neurons of one thread: 16 bytes in float32, and the same places in half precision."""

LEAST_PLANE = 32
"""From how many neurons on, side by side in one channel, a program keeps to one channel."""

MOST_NEURONS = 2**31 - LARGEST_BLOCK
"""Places within a step are numbered in int32: a division in int64 would cost more than the rest."""

failures: list[Exception] = []
"""Why the kernel could not be made in this process; the plain loop is used from then on."""


def _carry(  # type: ignore[no-untyped-def]
    current,
    output,
    membrane,
    threshold,
    amplitude,
    initial_membrane,
    temporal_bias,
    step_charge,
    steps,
    neurons,
    channels,
    channel_stride,
    current_stride,
    output_stride,
    RESTS: tl.constexpr,
    PLANES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """A block of neurons through all steps; the membrane starts at v0 if it RESTS.

    With PLANES a program keeps to one plane, the neurons side by side in one channel, and reads
    that channel's values once. The bits are those of the plain loop even where a compiler joins a
    product and a sum to one operation with one rounding: a spike is 0 or 1, so that its products
    are exact. Sums keep their order, which compilers may not change.
    """
    if PLANES:
        within = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
        inside = within < channel_stride
        place = tl.program_id(0) * channel_stride + within
        channel = tl.program_id(0) % channels
    else:
        place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        inside = place < neurons
        channel = place // channel_stride % channels
    theta = tl.load(threshold + channel)
    passed = tl.load(amplitude + channel)
    charge = tl.load(step_charge + channel)
    if RESTS:
        v = tl.broadcast_to(tl.load(initial_membrane + channel), (BLOCK,))
    else:
        v = tl.load(membrane + place, mask=inside)
    current += place
    output += place
    temporal_bias += channel
    x = tl.load(current, mask=inside)
    for step in range(steps):
        # Asked for before the work of this step, so that it arrives meanwhile.
        current += current_stride
        upcoming = tl.load(current, mask=inside & (step + 1 < steps))
        v = v + x.to(theta.dtype)
        v = v + (tl.load(temporal_bias) + charge)
        spikes = (v >= theta).to(theta.dtype)
        v = v - spikes * theta
        tl.store(output, spikes * passed, mask=inside)
        output += output_stride
        temporal_bias += channels
        x = upcoming
    tl.store(membrane + place, v, mask=inside)


@functools.cache
def _kernel() -> Any:
    global tl
    import triton
    import triton.language

    tl = triton.language
    # Counts of steps are many: one compiled kernel serves them all.
    return triton.jit(_carry, do_not_specialize=["steps"])


@functools.cache
def _is_installed() -> bool:
    return importlib.util.find_spec("triton") is not None


def _is_dense(step: Tensor) -> bool:
    """Whether a tensor fills its memory without gaps, in any order of its axes."""
    if step.is_contiguous():
        return True
    expected = 1
    pairs = zip(step.stride(), step.shape, strict=True)
    for stride, size in sorted(pair for pair in pairs if pair[1] > 1):
        if stride != expected:
            return False
        expected *= size
    return True


def _same_layout(one: Tensor, other: Tensor) -> bool:
    strides = zip(one.stride(), other.stride(), one.shape, strict=True)
    return one.shape == other.shape and all(a == b or size == 1 for a, b, size in strides)


def fits(current: Tensor, membrane: Tensor | None, out: Tensor | None, **own: Tensor) -> bool:
    """Say whether the kernel can carry these tensors, on whatever device they are.

    Args:
        current: x, `[steps, B, C, ...]`.
        membrane: v before the first step, or None.
        out: Where to write what is passed on, or None.
        own: The neuron's own values, as for `launch`.
    """
    dtype, step = own["threshold"].dtype, current[0]
    if dtype not in (torch.float32, torch.float64) or not current.is_floating_point():
        return False
    if torch.promote_types(current.dtype, dtype) != dtype:
        return False
    device = current.device
    if any(v.dtype != dtype or v.device != device or not v.is_contiguous() for v in own.values()):
        return False
    if len(own["temporal_bias"]) != len(current):
        return False
    if torch.is_grad_enabled() and current.requires_grad:
        return False
    if not 0 < step.numel() <= MOST_NEURONS or not _is_dense(step):
        return False
    if membrane is not None and (membrane.dtype != dtype or not _same_layout(membrane, step)):
        return False
    if out is None:
        return True
    apart = len(out) == 1 or out.stride(0) >= step.numel()
    return apart and out.dtype == current.dtype and _same_layout(out[0], step)


def is_used_for(current: Tensor) -> bool:
    """Say whether this is the place for the kernel: a GPU that Triton knows, and no tracing."""
    if not current.is_cuda or torch.compiler.is_compiling():
        return False
    return not failures and _is_installed()


def carry(
    current: Tensor, membrane: Tensor | None, out: Tensor | None, **own: Tensor
) -> tuple[Tensor, Tensor] | None:
    """What `launch` returns, or None if the plain loop has to do it; nothing is changed then."""
    if not fits(current, membrane, out, **own):
        return None
    try:
        return launch(current, membrane, out, **own)
    except Exception as error:  # a compiler that is missing or fails, in its own words
        failures.append(error)
        reason = (str(error).strip().splitlines() or [""])[0]
        warnings.warn(
            f"The fused neuron cannot be compiled ({type(error).__name__}: {reason}); the plain "
            "loop is used: slower, with the same results. Triton needs a C compiler and the "
            "headers of Python.",
            stacklevel=3,
        )
        return None


def _division(step: Tensor) -> tuple[tuple[int, ...], int, bool]:
    """The grid of programs for `[B, C, ...]`, the neurons of each, and whether they are planes."""
    plane = step.stride(1)
    if plane >= LEAST_PLANE:
        block = min(LARGEST_BLOCK, 1 << (plane - 1).bit_length())
        return (step.numel() // plane, -(-plane // block)), block, True
    block = LARGEST_BLOCK if step.numel() > SMALL else SMALL_BLOCK
    return (-(-step.numel() // block),), block, False


def room_for(current: Tensor) -> Tensor:
    """A new tensor for all steps of `current`, one behind the other in the layout of one step."""
    strides = (current[0].numel(), *current[0].stride())
    return torch.empty_strided(current.shape, strides, dtype=current.dtype, device=current.device)


def launch(
    current: Tensor,
    membrane: Tensor | None,
    out: Tensor | None,
    *,
    threshold: Tensor,
    amplitude: Tensor,
    initial_membrane: Tensor,
    temporal_bias: Tensor,
    step_charge: Tensor,
) -> tuple[Tensor, Tensor]:
    """Carry neurons through all steps of `current`; the arguments fit (see `fits`).

    Args:
        current: x, `[steps, B, C, ...]`; its stride over the steps may be 0.
        membrane: v before the first step, `[B, C, ...]`, changed in place; `initial_membrane` if
            None.
        out: Where to write what is passed on, `current` itself perhaps; a new tensor if None.
        threshold: theta, `[C]`.
        amplitude: What a spike passes on, `[C]`.
        initial_membrane: v0, `[C]`.
        temporal_bias: b of these steps, `[steps, C]`.
        step_charge: d, `[C]`.

    Returns:
        What is passed on, `[steps, B, C, ...]`, and the membrane after the last step.
    """
    step = current[0]
    v = torch.empty_like(step, dtype=threshold.dtype) if membrane is None else membrane
    out = room_for(current) if out is None else out
    grid, block, planes = _division(step)
    # Triton launches on the device that is set.
    with torch.cuda.device_of(current):  # type: ignore[no-untyped-call]
        _kernel()[grid](
            *(current, out, v, threshold, amplitude, initial_membrane, temporal_bias, step_charge),
            *(len(current), step.numel(), step.shape[1], max(1, step.stride(1))),
            *(current.stride(0), out.stride(0)),
            RESTS=membrane is None,
            PLANES=planes,
            BLOCK=block,
            num_warps=max(1, block // (32 * BY_THREAD)),
        )
    return out, v
