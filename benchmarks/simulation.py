"""How long a spiking network takes, in units of T passes of its ANN, and how much memory.

    python benchmarks/simulation.py [--quick]

The ANN runs at its own best batch size and memory layout, batch norm folded. Both sides, and
SpikingJelly where it is installed and converts the network, run in turn; figures are medians of
the ratios. ResNet-20 has 1x1 convolutions as shortcuts, which SpikingJelly converts; the padding
shortcut it refuses. Rows that would take too long are named as left out.
"""

import argparse
import statistics
from collections.abc import Iterator
from functools import partial

import torch
from measuring import (
    best_ann,
    faster_spikingjelly,
    interleaved,
    peak_mebibytes,
    print_machine,
    print_table,
    ratio,
    spikingjelly_network,
)
from torch import nn

from ftbc_lightning import convert, simulate
from ftbc_lightning.ann.resnet import ResNet18, ResNet20

NETWORKS = {
    "ResNet-20, 32 px": (partial(ResNet20, shortcut="conv"), 32),
    "ResNet-18, 224 px": (ResNet18, 224),
}
TORCHVISION = "torchvision resnet18, 224 px"
TIMESTEPS = (8, 32)
BATCHES = (1, 64, 256)


def network(name: str) -> tuple[nn.Module, int]:
    """A network with random weights from seed 0, and the size of its samples."""
    torch.manual_seed(0)
    if name == TORCHVISION:
        from torchvision.models import resnet18

        return resnet18().eval(), 224
    make, size = NETWORKS[name]
    return make().eval(), size


def rows(limit: float, repeats: int) -> Iterator[list[object]]:
    """One row for each network, T and batch size."""
    for name in (*NETWORKS, TORCHVISION):
        net, size = network(name)
        images = torch.randn(256 if size == 32 else 64, 3, size, size)
        ann, taken, setting = best_ann(net, images[:64] if limit > 60 else images[:8], repeats)
        pass_seconds = statistics.median(interleaved({"": ann}, repeats)[""]) / taken
        rival, reason = spikingjelly_network(net, [images[:8]])
        for timesteps in TIMESTEPS:
            snn = convert(net, images[:1], [images[:8]], timesteps=timesteps)
            for batch in BATCHES:
                expected = pass_seconds * timesteps * batch * (repeats + 1)
                if expected > limit:
                    left_out = f"left out: about {expected:.0f} s"
                    yield [name, timesteps, batch, left_out, "", "", "", ""]
                    continue
                samples = images[torch.arange(batch) % len(images)]
                sides = {"ann": ann, "snn": lambda s=snn, p=samples: simulate(s, p)}
                words = reason
                if rival is not None:
                    run, words = faster_spikingjelly(rival, samples, timesteps)
                    sides |= {} if run is None else {"rival": run}
                found = interleaved(sides, repeats)
                unit = [value / taken * batch * timesteps for value in found["ann"]]
                own = [a / b for a, b in zip(found["snn"], unit, strict=True)]
                yield [
                    *(name, timesteps, batch, f"{statistics.median(own):.2f}"),
                    f"{min(own):.2f} to {max(own):.2f}",
                    f"{ratio(found['rival'], found['snn']):.2f}" if "rival" in found else "-",
                    *(words, setting),
                ]


def simulate_once(name: str, timesteps: int, batch: int) -> None:
    """What the memory of a process is read of."""
    net, size = network(name)
    images = torch.randn(batch, 3, size, size)
    snn = convert(net, images[:1], [images[:8]], timesteps=timesteps)
    if timesteps > 0:
        simulate(snn, images)


def memory_rows(batch: int) -> Iterator[list[object]]:
    """Peak memory of conversion and simulation by T."""
    for timesteps in (8, 64, 512):
        name = next(iter(NETWORKS))
        yield [
            name,
            timesteps,
            batch,
            f"{peak_mebibytes(simulate_once, name, timesteps, batch):.0f}",
        ]


def main() -> None:
    """Read the options, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="under 2 minutes: small rows only")
    parser.add_argument("--repeats", type=int, default=0, help="rounds; 3, or 2 with --quick")
    parser.add_argument("--limit", type=float, default=0, help="seconds a row may take; 900, or 4")
    options = parser.parse_args()
    repeats = options.repeats or (2 if options.quick else 3)
    print_machine()
    header = ["network", "T", "batch", "SNN / (T x ANN)", "range"]
    header += ["SpikingJelly / SNN", "SpikingJelly", "ANN at its best"]
    print_table(header, rows(options.limit or (4 if options.quick else 900), repeats))
    memory = ["network", "T", "batch", "peak memory beyond the imports, MiB"]
    print_table(memory, memory_rows(4 if options.quick else 16))


if __name__ == "__main__":
    main()
