"""Back through all steps of a binary neuron in one pass over memory, for CPUs with Numba.

The counterpart of `ftbc_lightning.snn.fused_neuron_cpu`, under the same conditions, for the
triangle as surrogate and thresholds that are not trained; elsewhere
`ftbc_lightning.snn.trainable` goes back by operations of torch.
"""

import functools

import numpy as np
from torch import Tensor

from ftbc_lightning.snn import fused_neuron_cpu as cpu
from ftbc_lightning.snn.fused_neuron import room_for
from ftbc_lightning.snn.neurons.integrate_and_fire import IFNeuron
from ftbc_lightning.snn.surrogates import Surrogate


def _back(  # type: ignore[no-untyped-def]  # Numba finds the types
    current, given, found, theta, rest, bias, charge, leak, width, first, last
):
    """Rows `first` to `last` of `[steps, rows, columns]`: forwards for u[t], and back.

    g[t] = dL/dy[t] - leak * dL/dv[t],   dL/dx[t] = leak * dL/dv[t] + height[t] * g[t] / width
    """
    steps, columns = len(found), current.shape[2]
    nothing, one = theta.dtype.type(0), theta.dtype.type(1)
    v, back = np.empty(columns, theta.dtype), np.empty(columns, theta.dtype)
    heights = np.empty((steps, columns), theta.dtype)
    channel = np.arange(columns) % len(theta)
    thetas, start, added = theta[channel], rest[channel], bias[:, channel] + charge[channel]
    for row in range(first, last):
        for c in range(columns):
            v[c], back[c] = start[c], nothing
        for step in range(steps):
            at = min(step, len(current) - 1)
            for c in range(columns):
                u = v[c] + current[at, row, c] + added[step, c]
                spike = one if u >= thetas[c] else nothing
                v[c] = leak * (u - spike * thetas[c])
                height = one - abs(u - thetas[c]) / (width * thetas[c])
                heights[step, c] = nothing if height < nothing else height
        for behind in range(steps):
            step = steps - 1 - behind
            for c in range(columns):
                kept = leak * back[c]
                back[c] = kept + heights[step, c] * (given[step, row, c] - kept) / width
            for c in range(columns):
                found[step, row, c] = back[c]


@functools.cache
def _compiled() -> cpu.Kernel:
    return cpu.compiled(_back)


def gradient(
    neuron: IFNeuron, current: Tensor, threshold: Tensor, given: Tensor, surrogate: Surrogate
) -> Tensor | None:
    """What `current` has done to the loss, or None where another way is needed.

    Args:
        neuron: Which has fired on the current.
        current: x, `[T, B, C, ...]`.
        threshold: theta as it was then, `[C]`.
        given: dL/dy, `[T, B, C, ...]`.
        surrogate: In the place of a spike's derivative.
    """
    simple = neuron.fuses and neuron.binary and neuron.membrane_correction is None
    if not simple or surrogate.name != "triangle" or not cpu.is_used_for(current):
        return None
    bias = neuron.temporal_bias
    if type(given) is not Tensor or given.dtype != current.dtype:
        return None
    if not cpu.fits(current, None, None, threshold=threshold, temporal_bias=bias, levels=1):
        return None
    found = room_for(current)
    if given.stride() != found.stride():
        given = room_for(current).copy_(given)
    rows, columns = cpu.rows_and_columns(current[0])
    number = 1 if current.stride(0) == 0 else len(current)
    steps = zip((current, given, found), (number, len(given), len(given)), strict=True)
    arrays = [cpu.as_rows(values, n, (rows, columns)) for values, n in steps]
    values = threshold, neuron.initial_membrane, bias, neuron.step_charge
    arrays += [value.detach().numpy() for value in values]
    real = arrays[0].dtype.type
    scalars = real(neuron.leak), real(surrogate.width)
    try:
        kernel = _compiled()
    except Exception as error:
        cpu.failed(error)
        return None
    cpu.in_threads(kernel, (*arrays, *scalars), rows, current.numel())
    return found
