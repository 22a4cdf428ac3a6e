"""Calibrate one network in several processes: `python -m tests.processes.shares`.

Prints for 2 and 3 processes how far thresholds, biases, start membranes and weights are from those
of one process. With RANK WORLD FOLDER it is one of them, and rank 0 writes the states into FOLDER.
"""

import copy
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor

from ftbc_lightning import calibrate, convert
from ftbc_lightning.calibration.stages import of_kind
from ftbc_lightning.data.shares import batches_of
from ftbc_lightning.snn.statistics import Reduce, identity
from tests.conftest import ROOT
from tests.networks import residual_net, samples, transformer

METHODS = (*of_kind("biases"), "weights", "potential+exact", "weights+exact")
"""Every stage but back-propagation, whose samples are drawn in each process for itself."""

SHARES = ("uneven", "last_batch_of_one", "rank_without_samples")
PRECISIONS = {"float64": torch.float64, "float32": torch.float32}
CASES = [("float64", shares) for shares in SHARES] + [("float32", "uneven")]
ENCODED = ("iterative", "weights+exact")
"""What a transformer is calibrated by, with encoders before its layers."""


def all_reduce(values: Tensor, kind: Literal["sum", "max"]) -> Tensor:
    """Merge over gloo."""
    merged = values.clone()
    dist.all_reduce(merged, dist.ReduceOp.SUM if kind == "sum" else dist.ReduceOp.MAX)
    return merged


def share(images: Tensor, shares: str, rank: int, world: int) -> list[Tensor]:
    """The batches of one process; of 37 samples, or of 31 so that one is left for the last."""
    count = 31 if shares == "last_batch_of_one" else 37
    if shares == "rank_without_samples" and world > 1:
        world -= 1
    if rank >= world:
        return []
    drawn = list(range(count))
    return [images[part] for part in batches_of(drawn, batch_size=10, rank=rank, world=world)]


def states(rank: int, world: int, reduce: Reduce) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The calibrated state of every method, precision and way to share."""
    for precision, shares in CASES:
        dtype = PRECISIONS[precision]
        net, images = residual_net(dtype=dtype), samples(37, dtype=dtype)
        batches = share(images, shares, rank, world)
        converted = convert(net, images[:1], batches, timesteps=3, reduce=reduce)
        for method in METHODS:
            snn = copy.deepcopy(converted)
            calibrate(net, snn, batches, method=method, reduce=reduce)
            state = {key: value.clone() for key, value in snn.state_dict().items()}
            yield f"{method}-{precision}-{shares}", state
    net, images = transformer(37)
    batches = share(images, "uneven", rank, world)
    for method in ENCODED:
        snn = convert(net, images[:1], batches, timesteps=3, functions="encoded", reduce=reduce)
        calibrate(net, snn, batches, method=method, reduce=reduce)
        yield f"{method}-float64-transformer", dict(snn.state_dict())


def alone() -> dict[str, dict[str, Tensor]]:
    """The same in one process."""
    return dict(states(0, 1, identity))


def together(world: int, folder: Path) -> dict[str, dict[str, Tensor]]:
    """The states that rank 0 of several processes ends with."""
    command = [sys.executable, "-m", "tests.processes.shares"]
    ranks = [
        subprocess.Popen([*command, str(rank), str(world), str(folder)], cwd=ROOT)
        for rank in range(world)
    ]
    try:
        assert [process.wait(timeout=240) for process in ranks] == [0] * world
    finally:
        for process in ranks:
            process.kill()
    found: dict[str, dict[str, Tensor]] = torch.load(folder / "states.pt", weights_only=True)
    return found


def largest_difference(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """Of two states with the same names."""
    assert one.keys() == other.keys()
    return max(float((other[key] - value).abs().max()) for key, value in one.items())


def take_part(rank: int, world: int, folder: Path) -> None:
    """Be one of several processes."""
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world
    )
    found = dict(states(rank, world, all_reduce))
    if rank == 0:
        torch.save(found, folder / "states.pt")
    dist.barrier()
    dist.destroy_process_group()


def table() -> None:
    """Print the largest difference of each method, precision and way to share."""
    expected = alone()
    found = {}
    for world in (2, 3):
        with tempfile.TemporaryDirectory() as folder:
            found[world] = together(world, Path(folder))
    print("| method | precision | samples | 2 processes | 3 processes |")
    print("| --- | --- | --- | --- | --- |")
    for case, state in expected.items():
        cells = [f"{largest_difference(state, found[world][case]):.1e}" for world in (2, 3)]
        print("|", " | ".join([*case.split("-"), *cells]), "|")


if __name__ == "__main__":
    torch.set_num_threads(1)
    if len(sys.argv) > 1:
        take_part(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
    else:
        table()
