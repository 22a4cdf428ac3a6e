"""Order and augmentation of training samples: they follow from seed and epoch alone.

Neither the number of loading processes nor an interruption changes them: an epoch that is trained
after a resumption sees what it would have seen without.
"""

import zlib
from collections.abc import Iterator, Sequence, Sized
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
from torch.utils.data import Dataset, Subset
from torch.utils.data.distributed import DistributedSampler


class Shuffled(DistributedSampler[Any]):
    """The share of one process in the shuffled samples of an epoch, as places.

    The place of sample i of N in epoch e is e * N + i, so that `Drawn` knows the epoch. Lightning
    calls `set_epoch`, and leaves a loader with a distributed sampler of its own as it is.

    Args:
        samples: All N of them.
        rank: Of this process.
        world: How many processes there are; shares are equally long, so a few samples may come
            twice in an epoch.
        seed: Of the order.

    >>> sampler = Shuffled(range(4), rank=0, world=1, seed=0)
    >>> sorted(sampler)
    [0, 1, 2, 3]
    >>> sampler.set_epoch(2)
    >>> sorted(sampler)
    [8, 9, 10, 11]
    """

    def __init__(self, samples: Dataset[Any], *, rank: int, world: int, seed: int) -> None:
        super().__init__(samples, num_replicas=world, rank=rank, shuffle=True, seed=seed)
        self.count = len(cast(Sized, samples))

    def __iter__(self) -> Iterator[int]:
        return (self.epoch * self.count + index for index in super().__iter__())


class Drawn(Subset[Any]):
    """Samples whose transforms draw: what follows from the seed and the places asked for.

    The global random numbers of the process are left as they are.

    Args:
        dataset: Samples with random transforms.
        indices: Those that belong to the subset.
        seed: Of the transforms.
    """

    def __init__(self, dataset: Dataset[Any], indices: Sequence[int], *, seed: int) -> None:
        super().__init__(dataset, indices)
        self.seed = seed

    def __getitem__(self, place: Any) -> Any:
        """One sample at a place of `Shuffled`."""
        with self._draws([place]):
            return self.dataset[self.indices[place % len(self)]]

    def __getitems__(self, places: list[int]) -> Any:
        """A batch at places of `Shuffled`."""
        with self._draws(places):
            return super().__getitems__([place % len(self) for place in places])

    @contextmanager
    def _draws(self, places: Sequence[int]) -> Iterator[None]:
        drawn = zlib.crc32(np.asarray([self.seed, *places], dtype=np.int64).tobytes())
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(drawn)  # torch.manual_seed would seed GPUs too
            yield
