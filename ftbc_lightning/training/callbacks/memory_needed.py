"""Refuse at the start what cannot fit into memory at the end."""

import math
from collections.abc import Mapping, Sequence

from ftbc_lightning.errors import UserError

BYTES = 4
"""Of a float32."""


def check_memory(
    shapes: Mapping[str, Sequence[int]],
    *,
    timesteps: int,
    networks: int,
    samples: int,
    weights: int = 0,
    available: int,
) -> None:
    """Raise `UserError` if a calibration cannot fit, whatever is done.

    Counted are the biases of every network, and for all calibration samples of a process the
    membranes of the widest layer and its spikes at every step, one bit each, or what the largest
    regression of a weight stage takes: what is really used lies above it.

    Args:
        shapes: For each neuron the shape of its current for one sample, `(C, ...)`.
        timesteps: The largest T.
        networks: How many networks are kept.
        samples: Calibration samples of one process.
        weights: Bytes of that regression (`ftbc_lightning.calibration.weights.bytes_needed`); 0
            where no method corrects weights in closed form.
        available: Bytes.

    >>> check_memory({"act": (64, 8, 8)}, timesteps=8, networks=3, samples=100, available=2**30)
    """
    biases = sum(shape[0] for shape in shapes.values()) * timesteps * networks * BYTES
    widest = max(shapes, key=lambda name: math.prod(shapes[name]))
    spikes = math.prod(shapes[widest]) * samples * (BYTES + -(-timesteps // 8))
    if biases + spikes > available:
        raise UserError(
            f"T = {timesteps} with {samples} calibration samples needs at least "
            f"{(biases + spikes) / 1e9:.1f} GB (widest layer: {widest}), but there are "
            f"{available / 1e9:.1f} GB. Give smaller timesteps or fewer "
            "data.calibration_samples."
        )
    if biases + weights > available:
        raise UserError(
            f"The method weights needs at least {(biases + weights) / 1e9:.1f} GB for the "
            f"regression of the largest layer, but there are {available / 1e9:.1f} GB. Give "
            "calibration.methods without weights, or a network with smaller layers."
        )
