"""Calibrate one network in several processes: `python -m tests.processes.shares RANK WORLD FOLDER`.

Rank 0 writes the state of the spiking network of every case into FOLDER.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor

from ftbc_lightning import calibrate, convert
from ftbc_lightning.data.shares import batches_of
from ftbc_lightning.snn.calibration.method import BIASES
from ftbc_lightning.snn.statistics import Reduce, identity
from tests.networks import pictures, residual_net

METHODS = (*BIASES, "weights", "potential+exact", "weights+exact")
"""Every stage but back-propagation, whose pictures are drawn in each process for itself."""

SHARES = ("uneven", "last_batch_of_one", "rank_without_pictures")
PRECISIONS = {"float64": torch.float64, "float32": torch.float32}
CASES = [("float64", shares) for shares in SHARES] + [("float32", "uneven")]


def all_reduce(values: Tensor, kind: Literal["sum", "max"]) -> Tensor:
    """Merge over gloo."""
    merged = values.clone()
    dist.all_reduce(merged, dist.ReduceOp.SUM if kind == "sum" else dist.ReduceOp.MAX)
    return merged


def share(images: Tensor, shares: str, rank: int, world: int) -> list[Tensor]:
    """The batches of one process; of 37 pictures, or of 31 so that one is left for the last."""
    count = 31 if shares == "last_batch_of_one" else 37
    if shares == "rank_without_pictures" and world > 1:
        world -= 1
    if rank >= world:
        return []
    drawn = list(range(count))
    return [images[part] for part in batches_of(drawn, batch_size=10, rank=rank, world=world)]


def states(rank: int, world: int, reduce: Reduce) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The calibrated state of every method, precision and way to share."""
    for precision, shares in CASES:
        dtype = PRECISIONS[precision]
        net, images = residual_net(dtype=dtype), pictures(37, dtype=dtype)
        batches = share(images, shares, rank, world)
        for method in METHODS:
            snn = convert(net, images[:1], batches, timesteps=3, reduce=reduce)
            calibrate(net, snn, batches, method=method, reduce=reduce)
            state = {key: value.clone() for key, value in snn.state_dict().items()}
            yield f"{method}-{precision}-{shares}", state


def alone() -> dict[str, dict[str, Tensor]]:
    """The same in one process."""
    return dict(states(0, 1, identity))


if __name__ == "__main__":
    torch.set_num_threads(1)
    rank, world, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world
    )
    found = dict(states(rank, world, all_reduce))
    if rank == 0:
        torch.save(found, folder / "states.pt")
    dist.barrier()
    dist.destroy_process_group()
