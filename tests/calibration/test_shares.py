"""A calibration whose samples lie with several processes finds what one process finds."""

import copy
import json
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Barrier

import pytest
import torch
from torch import nn

from ftbc_lightning import calibrate, convert
from ftbc_lightning.graph.tracing import trace

SHARES = (20, 12, 0)
"""Samples of each process."""


class Together:
    """A reduction over threads, each of which stands for a process."""

    def __init__(self, number):
        self.barrier, self.given = Barrier(number, timeout=60), [None] * number

    def of(self, rank):
        def reduce(values, kind):
            self.given[rank] = values
            self.barrier.wait()
            stacked = torch.stack(list(self.given))
            self.barrier.wait()
            return stacked.amax(0) if kind == "max" else stacked.sum(0)

        return reduce


def network():
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 8), nn.ReLU()
    return nn.Sequential(*layers, nn.Linear(8, 3)).double().eval()


@cache
def converted(settings):
    """The network, samples and the conversion with a neuron's settings, which no test changes."""
    ann, images = network(), torch.rand(sum(SHARES), 1, 8, 8).double()
    return ann, images, convert(ann, images[:1], [images], timesteps=3, **json.loads(settings))


METHODS = ("exact", "iterative", "static", "potential", "weights+exact")
NEURONS = ({}, {"leak": 0.8}, {"levels": 2}, {"neuron": "signed"})


@pytest.mark.parametrize("neuron", NEURONS, ids=str)
@pytest.mark.parametrize("target", ["step", "cumulative", "ideal"])
@pytest.mark.parametrize("method", METHODS)
def test_several_shares_give_the_biases_of_one(method, target, neuron):
    ann, images, snn = converted(json.dumps(neuron))
    whole = copy.deepcopy(snn)
    ann = trace(ann)  # here: torch.fx replaces methods for all threads while it traces
    copies = [copy.deepcopy(whole) for _ in SHARES]
    alone = calibrate(ann, whole, [images], method=method, target=target)
    together = Together(len(SHARES))

    def work(rank, share):
        batches = [share] if len(share) else []
        return calibrate(
            ann, copies[rank], batches, method=method, target=target, reduce=together.of(rank)
        )

    with ThreadPoolExecutor(len(SHARES)) as pool:
        traces = list(pool.map(work, range(len(SHARES)), images.split(SHARES)))
    for snn, other in zip(copies, traces, strict=True):
        for name, value in whole.state_dict().items():
            torch.testing.assert_close(snn.state_dict()[name], value, rtol=0, atol=1e-9, msg=name)
        for name, error in alone.last().items():
            torch.testing.assert_close(other.last()[name], error, rtol=0, atol=1e-6)
