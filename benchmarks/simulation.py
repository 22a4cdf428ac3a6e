"""How long a spiking network takes, in units of T passes of its ANN, and how much memory.

    python benchmarks/simulation.py [--quick] [--device cuda] [--networks VGG]

The ANN runs at its own best batch size and memory layout, batch norm folded. Both sides, and
SpikingJelly where it is installed and converts the network, run in turn; figures are medians of
the ratios. "Frozen" is `FrozenNetwork`, for single samples. ResNet-20 has 1x1 convolutions as
shortcuts, which SpikingJelly converts; the padding shortcut it refuses. Rows that would take too
long are named as left out.

On a GPU the ANN runs at the batch size of its row, in its faster layout, and "plain" is the
spiking network without the fused neuron.
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from unittest import mock

import torch
from measuring import (
    add_device,
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
from torchvision.models import get_model

from ftbc_lightning import FrozenNetwork, convert, simulate
from ftbc_lightning.ann.resnet import ResNet18, ResNet20
from ftbc_lightning.ann.vgg import VGG16
from ftbc_lightning.snn import fused_neuron

NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "ResNet-20, 32 px": (partial(ResNet20, shortcut="conv"), 32),
    "ResNet-18, 224 px": (ResNet18, 224),
    "torchvision resnet18, 224 px": (partial(get_model, "resnet18"), 224),
    "VGG-16, 32 px": (VGG16, 32),
    "torchvision mobilenet_v2, 224 px": (partial(get_model, "mobilenet_v2"), 224),
}
GPU_NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "ResNet-20, 32 px": (partial(ResNet20, shortcut="conv"), 32),
    "VGG-16, 32 px": (VGG16, 32),
    **{
        f"torchvision {name}, 224 px": (partial(get_model, name), 224)
        for name in ("resnet18", "resnet50", "vgg16_bn", "mobilenet_v2")
    },
}
TIMESTEPS, GPU_TIMESTEPS = (4, 8, 32), (4, 32)
BATCHES, GPU_BATCHES = (1, 32, 256), (1, 32, 512)


def network(make: Callable[[], nn.Module], device: torch.device) -> nn.Module:
    """A network with random weights from seed 0."""
    torch.manual_seed(0)
    return make().eval().to(device)


def rows(part: str, limit: float, repeats: int) -> Iterator[list[object]]:
    """One row for each network with `part` in its name, T and batch size."""
    for name, (make, size) in NETWORKS.items():
        if part not in name:
            continue
        net = network(make, torch.device("cpu"))
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
                    yield [name, timesteps, batch, left_out, *("",) * 5]
                    continue
                samples = images[torch.arange(batch) % len(images)]
                sides = {"ann": ann, "snn": lambda s=snn, p=samples: simulate(s, p)}
                if batch == 1:
                    sides["frozen"] = partial(simulate, FrozenNetwork(snn), samples)
                words = reason
                if rival is not None:
                    run, words = faster_spikingjelly(rival, samples, timesteps)
                    sides |= {} if run is None else {"rival": run}
                found = interleaved(sides, repeats)
                own = in_units(found, "snn", timesteps * batch / taken)
                yield [
                    *(name, timesteps, batch, f"{statistics.median(own):.2f}"),
                    f"{min(own):.2f} to {max(own):.2f}",
                    f"{ratio(found['frozen'], found['snn']):.2f}" if "frozen" in found else "-",
                    f"{ratio(found['rival'], found['snn']):.2f}" if "rival" in found else "-",
                    *(words, setting),
                ]


def in_units(found: dict[str, list[float]], side: str, passes: float) -> list[float]:
    """What a side took, in units of that many passes of the ANN beside it."""
    return [a / (b * passes) for a, b in zip(found[side], found["ann"], strict=True)]


def gpu_rows(device: torch.device, limit: float, repeats: int) -> Iterator[list[object]]:
    """One row for each network, T and batch size, as long as a network has time left."""
    for name, (make, size) in GPU_NETWORKS.items():
        end = time.monotonic() + limit
        net = network(make, device)
        images = torch.randn(max(GPU_BATCHES), 3, size, size, device=device)
        rival, reason = spikingjelly_network(net, [images[:8]])
        for timesteps, batch in itertools.product(GPU_TIMESTEPS, GPU_BATCHES):
            if time.monotonic() > end:
                yield [name, timesteps, batch, f"left out after {limit:.0f} s", *("",) * 5]
                continue
            snn = convert(net, images[:1], [images[:8]], timesteps=timesteps)
            samples = images[:batch]
            ann, _, setting = best_ann(net, samples, 3, (batch,))
            sides = {"ann": ann, "snn": partial(simulate, snn, samples)}
            sides["plain"] = partial(plainly, sides["snn"])
            words = reason
            if rival is not None:
                run, words = faster_spikingjelly(rival, samples, timesteps)
                if run is not None and not has_memory_for(run):
                    run, words = None, f"{words}: no memory"
                sides |= {} if run is None else {"rival": run}
            found = interleaved(sides, repeats)
            own, slow = (in_units(found, side, timesteps) for side in ("snn", "plain"))
            yield [
                *(name, timesteps, batch, f"{statistics.median(own):.2f}"),
                f"{min(own):.2f} to {max(own):.2f}",
                f"{statistics.median(slow):.2f}",
                f"{ratio(found['rival'], found['snn']):.2f}" if "rival" in found else "-",
                *(words, setting),
            ]


def has_memory_for(run: Callable[[], object]) -> bool:
    """Run once and say whether the GPU's memory sufficed."""
    try:
        run()
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return False
    return True


def plainly(run: Callable[[], object]) -> object:
    """Run without the fused neuron."""
    with mock.patch.object(fused_neuron, "is_used_for", return_value=False):
        return run()


def simulate_once(name: str, timesteps: int, batch: int) -> None:
    """What the memory of a process is read of."""
    make, size = NETWORKS[name]
    net = network(make, torch.device("cpu"))
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
    parser.add_argument(
        "--limit",
        type=float,
        default=0,
        help="seconds a row may take, 900, or 4 with --quick; on a GPU a network, 300, or 30",
    )
    parser.add_argument("--networks", default="", help="part of a name; all by default, on a CPU")
    add_device(parser)
    options = parser.parse_args()
    print_machine(options.device)
    header = ["network", "T", "batch", "SNN / (T x ANN)", "range"]
    last = ["SpikingJelly / SNN", "SpikingJelly", "ANN at its best"]
    if options.device.type != "cpu":
        limit = options.limit or (30 if options.quick else 300)
        found = gpu_rows(options.device, limit, options.repeats or (5 if options.quick else 20))
        print_table([*header, "plain / (T x ANN)", *last], found)
        return
    repeats = options.repeats or (2 if options.quick else 3)
    limit = options.limit or (4 if options.quick else 900)
    print_table([*header, "frozen / SNN", *last], rows(options.networks, limit, repeats))
    memory = ["network", "T", "batch", "peak memory beyond the imports, MiB"]
    print_table(memory, memory_rows(4 if options.quick else 16))


if __name__ == "__main__":
    main()
