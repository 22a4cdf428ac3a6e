"""All steps of a neuron in one pass over memory, for CPUs, compiled by Numba where it is installed.

What `ftbc_lightning.snn.fused_neuron` is for GPUs. The plain loop of `IFNeuron` goes over all
neurons five times a step; this one reads each current once, and keeps the membranes of a few
neurons beside the processor over all steps. The bits are the same. It takes values whose channels
lie side by side: channels last, and linear layers. Elsewhere, and without Numba, the loop is plain.
"""

import functools
import importlib.util
import os
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ftbc_lightning.snn.fused_neuron import room_for

LEAST_VALUES = 2**14
"""Currents of all steps from which on Numba is worth its import."""

VALUES_OF_A_THREAD = 2**16
"""Currents of all steps that are worth a thread of their own."""

LEAST_COLUMNS = 64
"""Neurons that are carried together; where channels are fewer, those of several places."""

MOST_LEVELS = 2
"""Up to 2 times theta is exact, so that no compiler rounds the reset in another way."""

failures: list[Exception] = []
"""Why the loop could not be compiled in this process; the plain one is used from then on."""


def _binary(  # type: ignore[no-untyped-def]  # Numba finds the types
    current, output, membrane, theta, passed, rest, bias, charge, leak, rests, first, last
):
    """Rows `first` to `last` of `[steps, rows, columns]`, of neurons that fire 0 or 1."""
    columns = current.shape[2]
    channel = np.arange(columns) % len(theta)
    nothing, one = theta.dtype.type(0), theta.dtype.type(1)
    v, fired = np.empty(columns, theta.dtype), np.empty(columns, theta.dtype)
    thetas, values, start = theta[channel], passed[channel], rest[channel]
    added = bias[:, channel] + charge[channel]
    for row in range(first, last):
        for c in range(columns):
            v[c] = start[c] if rests else membrane[row, c]
        for step in range(len(output)):
            given = min(step, len(current) - 1)
            for c in range(columns):
                u = v[c] + current[given, row, c] + added[step, c]
                spike = one if u >= thetas[c] else nothing
                v[c] = leak * (u - spike * thetas[c])
                fired[c] = spike * values[c]
            for c in range(columns):  # apart: `output` may be `current`, which forbids wide reads
                output[step, row, c] = fired[c]
        for c in range(columns):
            membrane[row, c] = v[c]


def _several(  # type: ignore[no-untyped-def]
    current,
    output,
    membrane,
    owed,
    theta,
    passed,
    rest,
    bias,
    charge,
    leak,
    lowest,
    highest,
    remembers,
    rests,
    first,
    last,
):
    """The same for spikes of several levels or two signs, and a memory of what was emitted."""
    columns = current.shape[2]
    channel = np.arange(columns) % len(theta)
    v, fired = np.empty(columns, theta.dtype), np.empty(columns, theta.dtype)
    back = np.empty(columns, theta.dtype)
    thetas, values, start = theta[channel], passed[channel], rest[channel]
    added = bias[:, channel] + charge[channel]
    for row in range(first, last):
        for c in range(columns):
            v[c] = start[c] if rests else membrane[row, c]
            back[c] = owed[row, c] if remembers else lowest
        for step in range(len(output)):
            given = min(step, len(current) - 1)
            for c in range(columns):
                u = v[c] + current[given, row, c] + added[step, c]
                spike = np.floor(u / thetas[c])  # comparisons let a NaN through, as torch does
                spike = lowest if spike < lowest else spike
                spike = highest if spike > highest else spike
                spike = back[c] if spike < back[c] else spike
                back[c] = back[c] - spike if remembers else lowest
                v[c] = leak * (u - spike * thetas[c])
                fired[c] = spike * values[c]
            for c in range(columns):
                output[step, row, c] = fired[c]
        for c in range(columns):
            membrane[row, c] = v[c]
            if remembers:
                owed[row, c] = back[c]


Kernel = Callable[..., None]


@functools.cache
def _compiled() -> tuple[Kernel, Kernel]:
    return compiled(_binary), compiled(_several)


def compiled(loop: Kernel) -> Kernel:
    """A loop as Numba compiles it at its first call, and keeps it for the next process."""
    import numba

    made = functools.partial(numba.njit, nogil=True, error_model="numpy")
    try:
        found: Kernel = made(cache=True)(loop)
    except RuntimeError:  # no folder for what is compiled can be written
        found = made()(loop)
    return found


@functools.cache
def _is_installed() -> bool:
    return importlib.util.find_spec("numba") is not None


@functools.cache
def _threads(process: int, number: int) -> ThreadPoolExecutor:
    """Threads of this process: a fork has none of its parent's."""
    return ThreadPoolExecutor(number, thread_name_prefix="neurons")


def is_used_for(current: Tensor) -> bool:
    """Say whether this is the place for the loop: a CPU, enough values, Numba, and no tracing."""
    if current.device.type != "cpu" or type(current) is not Tensor or failures:
        return False
    if current.numel() < LEAST_VALUES or torch.compiler.is_compiling():
        return False
    return _is_installed()


def carry(
    current: Tensor,
    membrane: Tensor | tuple[Tensor, Tensor] | None,
    out: Tensor | None,
    **own: Any,
) -> tuple[Tensor, Any] | None:
    """What `launch` returns, or None if the plain loop has to do it; nothing is changed then."""
    if not fits(current, membrane, out, **own):
        return None
    try:
        return launch(_compiled(), current, membrane, out, **own)
    except Exception as error:  # a compiler that fails, in its own words
        failed(error)
        return None


def failed(error: Exception) -> None:
    """Say that a loop could not be compiled, and leave it to the plain ones from now on."""
    failures.append(error)
    reason = (str(error).strip().splitlines() or [""])[0]
    warnings.warn(
        f"The fused neuron cannot be compiled ({type(error).__name__}: {reason}); the plain "
        "loop is used: slower, with the same results.",
        stacklevel=4,
    )


def fits(
    current: Tensor,
    membrane: Tensor | tuple[Tensor, Tensor] | None,
    out: Tensor | None,
    *,
    threshold: Tensor,
    temporal_bias: Tensor,
    levels: int,
    **own: Any,
) -> bool:
    """Say whether the loop can carry these tensors; the arguments are those of `launch`."""
    dtype = threshold.dtype
    if levels > MOST_LEVELS or dtype not in (torch.float32, torch.float64):
        return False
    if len(temporal_bias) != len(current) or current.numel() == 0:
        return False
    if torch.is_grad_enabled() and current.requires_grad:
        return False
    carried = membrane if isinstance(membrane, tuple) else (membrane,)
    steps = [current[0], *(value for value in carried if value is not None)]
    if out is not None:
        if out.dtype != dtype or not _follow(out):
            return False
        steps.append(out[0])
    constant = current.stride(0) == 0
    if current.dtype != dtype or not (constant or _follow(current)):
        return False
    return all(step.dtype == dtype and _channels_last(step) for step in steps)


def launch(
    kernels: tuple[Kernel, Kernel],
    current: Tensor,
    membrane: Tensor | tuple[Tensor, Tensor] | None,
    out: Tensor | None,
    *,
    threshold: Tensor,
    amplitude: Tensor,
    initial_membrane: Tensor,
    temporal_bias: Tensor,
    step_charge: Tensor,
    levels: int,
    leak: float,
    lowest: int,
    remembers: bool,
) -> tuple[Tensor, Any]:
    """Carry neurons through all steps of `current`; the arguments fit (see `fits`).

    The bits are those of the plain loop even where a compiler joins a product and a sum to one
    operation with one rounding: a spike is at most 2, so that its products with theta are exact.

    Args:
        kernels: `_binary` and `_several`, compiled or not.
        current: x, `[steps, B, C, ...]`; its stride over the steps may be 0.
        membrane: What is carried from the step before, changed in place; v0 if None.
        out: Where to write what is passed on, `current` itself perhaps; a new tensor if None.
        threshold: theta, `[C]`.
        amplitude: What a spike passes on, `[C]`.
        initial_membrane: v0, `[C]`.
        temporal_bias: b of these steps, `[steps, C]`.
        step_charge: d, `[C]`.
        levels: K.
        leak: What is left of the membrane after a step.
        lowest: The fewest spikes of a step, 0 or -K.
        remembers: Whether it takes back no more than it has emitted.

    Returns:
        What is passed on, `[steps, B, C, ...]`, and what is carried on.
    """
    step, rests = current[0], membrane is None
    if membrane is None:
        v = torch.empty_like(step)
        membrane = (v, torch.zeros_like(v)) if remembers else v
    v, owed = membrane if isinstance(membrane, tuple) else (membrane, membrane)
    out = room_for(current) if out is None else out
    shape = rows, _ = rows_and_columns(step)
    number = 1 if current.stride(0) == 0 else len(current)
    carried = (v, owed) if remembers else (v,)
    arrays = [as_rows(current, number, shape), as_rows(out, len(out), shape)]
    arrays += [as_rows(value.unsqueeze(0), 1, shape)[0] for value in carried]
    own = threshold, amplitude, initial_membrane, temporal_bias, step_charge
    arrays += [value.detach().numpy() for value in own]
    real = arrays[0].dtype.type
    if levels == 1 and lowest == 0:
        in_threads(kernels[0], (*arrays, real(leak), rests), rows, current.numel())
    else:
        owing = arrays if remembers else [*arrays[:3], *arrays[2:]]  # in its place one not read
        levels_of = real(leak), real(lowest), real(levels)
        in_threads(kernels[1], (*owing, *levels_of, remembers, rests), rows, current.numel())
    return out, membrane


def rows_and_columns(step: Tensor) -> tuple[int, int]:
    """How many neurons lie side by side, channels of one place or of several, and how often."""
    columns, rows = step.shape[1], step.numel() // step.shape[1]
    while columns < LEAST_COLUMNS and rows % 2 == 0:
        columns, rows = 2 * columns, rows // 2
    return rows, columns


def in_threads(kernel: Kernel, given: tuple[Any, ...], rows: int, size: int) -> None:
    """Divide the rows over as many threads as torch has."""
    number = min(torch.get_num_threads(), size // VALUES_OF_A_THREAD, rows)
    if number < 2:
        return kernel(*given, 0, rows)
    own, *others = pairwise(rows * part // number for part in range(number + 1))
    pool = _threads(os.getpid(), torch.get_num_threads())
    parts = [pool.submit(kernel, *given, a, b) for a, b in others]
    kernel(*given, *own)  # this thread would wait otherwise
    for part in parts:
        part.result()
    return None


def _follow(values: Tensor) -> bool:
    """Whether the steps of `[steps, ...]` lie one behind the other without gaps."""
    return len(values) == 1 or values.stride(0) == values[0].numel()


def _channels_last(step: Tensor) -> bool:
    """Whether `[B, C, ...]` fills its memory without gaps, its channels side by side."""
    if step.ndim == 4:
        return step.is_contiguous(memory_format=torch.channels_last)
    return step.movedim(1, -1).is_contiguous()


def as_rows(values: Tensor, number: int, shape: tuple[int, int]) -> np.ndarray[Any, Any]:
    """The same memory as `[steps, rows, columns]`."""
    rows, columns = shape
    strides = rows * columns, columns, 1
    return values.detach().as_strided((number, rows, columns), strides).numpy()
