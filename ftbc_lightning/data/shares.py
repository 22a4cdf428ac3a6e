"""How several processes share samples: each sample is read by one of them."""

from collections.abc import Iterator, Sized
from typing import Any, cast

from torch.utils.data import Dataset
from torch.utils.data.distributed import DistributedSampler

from ftbc_lightning.errors import UserError


class Share(DistributedSampler[Any]):
    """The samples of one process in an evaluation: every W-th from the r-th on, none twice.

    torch's own sampler fills the shares up to one length with samples that are counted twice,
    so accuracies would depend on the number of processes. Lightning leaves a loader with a
    distributed sampler of its own as it is.

    Args:
        samples: All of them.
        rank: r, of this process.
        world: W, how many processes there are.

    Raises:
        UserError: There are fewer samples than processes: a process without a batch would not
            take part in what the others wait for.

    >>> [list(Share(range(5), rank=r, world=2)) for r in range(2)]
    [[0, 2, 4], [1, 3]]
    """

    def __init__(self, samples: Dataset[Any], *, rank: int, world: int) -> None:
        count = len(cast(Sized, samples))
        if count < world:
            raise UserError(
                f"A split of {count} samples cannot be evaluated by {world} processes; start "
                f"at most {count} (trainer.devices)."
            )
        super().__init__(samples, num_replicas=world, rank=rank, shuffle=False)
        self.indices = range(rank, count, world)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)

    def __len__(self) -> int:
        return len(self.indices)


def batches_of(drawn: list[int], *, batch_size: int, rank: int, world: int) -> list[list[int]]:
    """The share of one process in each batch; a batch is the same for any number of processes.

    Args:
        drawn: The samples in order.
        batch_size: Samples in a batch of all processes together.
        rank: Of this process.
        world: How many processes there are.

    Returns:
        Batches that are not empty. A process may have fewer than another, or none.

    >>> [batches_of([7, 8, 9, 5, 6], batch_size=4, rank=r, world=2) for r in range(2)]
    [[[7, 9], [6]], [[8, 5]]]
    """
    batches = [drawn[at : at + batch_size] for at in range(0, len(drawn), batch_size)]
    return [share for batch in batches if (share := batch[rank::world])]
