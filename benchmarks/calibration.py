"""How long calibration takes: the paper's 2 L T passes, ours, and SpikingJelly's conversion.

    python benchmarks/calibration.py [--quick] [--device cuda]

All in one run on the same network and samples, in turn. "Plain" is the loop in
tests/reference/loops.py: for every (layer, step) one pass of the ANN and one run of the spiking
network up to that step. It is timed on `--passes` of its L T (layer, step) pairs, spread evenly,
and multiplied up; `--whole` runs all of them. SpikingJelly's conversion finds thresholds only.
"Weights" is `weights+exact`. The last table is how much memory conversion and `exact` take beyond
the network and its samples, and what the widest layer alone needs.
"""

import argparse
import math
import statistics
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from measuring import (
    STATUS,
    add_device,
    in_process,
    interleaved,
    peak_beyond,
    peak_mebibytes,
    print_machine,
    print_table,
    seconds,
    spikingjelly_network,
)
from torch import Tensor, nn
from torchvision.models import vgg16

from ftbc_lightning import SpikingNetwork, calibrate, convert, simulate
from ftbc_lightning.ann.resnet import ResNet20, ResNet34
from ftbc_lightning.snn.conversion import observe_activations, prepare, set_thresholds

sys.path.insert(0, str(Path(__file__).parents[1]))  # the reference is no part of the package
from tests.reference import loops


class Plain(nn.Sequential):
    """Six convolutions, each with its activation: L = 6."""

    def __init__(self, layers: int = 6) -> None:
        super().__init__()
        for index in range(layers):
            stride = 2 if index in (2, 4) else 1
            inputs = 3 if index == 0 else 16
            self.append(nn.Conv2d(inputs, 16, 3, padding=1, stride=stride))
            self.append(nn.ReLU())
        self.extend([nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)])


def network(layers: int) -> nn.Module:
    """A network with that many neuron layers; random weights from seed 0."""
    torch.manual_seed(0)
    if layers == 19:
        return ResNet20(shortcut="conv").eval()
    if layers == 33:
        return ResNet34(num_classes=10, input_size=32).eval()
    return Plain(layers).eval()


def activation_paths(net: nn.Module) -> list[str]:
    """Paths of the activations from input to output."""
    return [name for name, module in net.named_modules() if isinstance(module, nn.ReLU)]


def plain_seconds(
    net: nn.Module, snn: SpikingNetwork, batch: Tensor, passes: int | None
) -> tuple[float, int]:
    """Seconds of the plain loop for one batch, from `passes` of its pairs, and how many ran."""
    paths, timesteps = activation_paths(net), snn.timesteps
    thresholds = {
        path: neuron.threshold for path, neuron in zip(paths, snn.neurons().values(), strict=True)
    }
    slow, neurons = _spiking(net, thresholds, timesteps)
    pairs = [(path, t) for path in paths for t in range(timesteps)]
    step = 1 if passes is None else max(1, len(pairs) // passes)
    # From the middle of each stretch, so that the mean number of steps is that of all pairs.
    chosen = pairs[step // 2 :: step]
    total = 0.0
    for path, t in chosen:
        total += seconds(lambda p=path, n=t: _one_pair(net, slow, neurons, batch, p, n))
    return total * len(pairs) / len(chosen), len(chosen)


def _spiking(
    net: nn.Module, thresholds: dict[str, Tensor], timesteps: int
) -> tuple[nn.Module, dict[str, loops.StepNeuron]]:
    slow, neurons = loops.spiking_copy(net, {}, timesteps)
    for path, threshold in thresholds.items():
        parent, _, name = path.rpartition(".")
        neurons[path] = loops.StepNeuron(threshold, threshold / 2, timesteps)
        setattr(slow.get_submodule(parent), name, neurons[path])
    return slow, neurons


@torch.no_grad()
def _one_pair(
    net: nn.Module,
    slow: nn.Module,
    neurons: dict[str, loops.StepNeuron],
    batch: Tensor,
    path: str,
    t: int,
) -> None:
    seen: list[Tensor] = []
    hook = net.get_submodule(path).register_forward_hook(lambda m, a, out: seen.append(out))
    net(batch)
    hook.remove()
    loops.run(slow, neurons, batch, t + 1)
    neuron = neurons[path]
    target = torch.minimum(seen[0].mean((0, 2, 3)).clamp_min(0), neuron.threshold)
    neuron.bias[t] -= 0.5 * (neuron.output.mean((0, 2, 3)) - target)


def rows(
    samples: int, passes: int | None, repeats: int, quick: bool, device: torch.device
) -> Iterator[list[object]]:
    """One row for each L and T."""
    for layers in (6, 19) if quick else (6, 19, 33):
        net = network(layers).to(device)
        batch = torch.randn(samples, 3, 32, 32, device=device)
        for timesteps in (2, 4, 8) if quick else (2, 4, 8, 32):
            snn = convert(net, batch[:1], [batch], timesteps=timesteps)
            sides = {
                "snn": partial(simulate, snn, batch),
                "iterative": partial(calibrate, net, snn, [batch], method="iterative"),
                "exact": partial(calibrate, net, snn, [batch], method="exact"),
                "weights": partial(calibrate, net, snn, [batch], method="weights+exact"),
            }
            if spikingjelly_network(net, [batch])[0] is not None:
                sides["rival"] = partial(spikingjelly_network, net, [batch])
            found = {k: statistics.median(v) for k, v in interleaved(sides, repeats).items()}
            plain, ran = plain_seconds(net, snn, batch, passes)
            yield [
                *(layers, timesteps, f"{plain:.1f} ({ran} of {layers * timesteps})"),
                *(f"{found[side]:.2f}" for side in ("iterative", "exact", "weights", "snn")),
                f"{found['rival']:.2f}" if "rival" in found else "-",
                *(f"{plain / found['iterative']:.0f}", f"{plain / found['exact']:.0f}"),
                *(f"{found[method] / found['snn']:.1f}" for method in ("iterative", "exact")),
                f"{found['weights'] / found['exact']:.2f}",
            ]


def calibrate_once(timesteps: int, samples: int, method: str) -> None:
    """What the memory of a process is read of; "plain" is one pass of the plain loop."""
    net, batch = network(19), torch.randn(samples, 3, 32, 32)
    snn = convert(net, batch[:1], [batch], timesteps=timesteps)
    if method == "plain":
        plain_seconds(net, snn, batch, 1)
    elif method == "SpikingJelly":
        spikingjelly_network(net, [batch])
    else:
        calibrate(net, snn, [batch], method=method)  # type: ignore[arg-type]


def memory_rows(samples: int, timesteps: int) -> Iterator[list[object]]:
    """Peak memory of each way at L = 19."""
    for method in ("plain", "iterative", "exact", "weights+exact", "SpikingJelly"):
        peak = peak_mebibytes(calibrate_once, timesteps, samples, method)
        yield [method, timesteps, samples, f"{peak:.0f}"]


LARGE: dict[str, tuple[Callable[[], nn.Module], int, int]] = {
    "ResNet-20": (ResNet20, 32, 64),
    "VGG-16": (partial(vgg16, weights=None), 224, 4),
}
"""Networks whose calibration takes much memory: how they are made, pixels, samples of a batch."""


def large(name: str, samples: int, timesteps: int) -> tuple[float, float, float]:
    """Peak memory of conversion and of `exact` beyond the network, and of membranes and bits, MiB.

    The last is what `exact` cannot do without at its widest layer: 4 bytes for each membrane, and
    its spikes.
    """
    make, pixels, size = LARGE[name]
    torch.manual_seed(0)
    net = make().eval()
    snn = prepare(net, torch.zeros(1, 3, pixels, pixels), timesteps=timesteps)
    reference = snn.traced(net)
    batches = torch.randn(samples, 3, pixels, pixels).split(size)

    def chosen() -> None:
        set_thresholds(reference, snn, observe_activations(reference, snn, batches))

    conversion = peak_beyond(chosen)
    calibration = peak_beyond(partial(calibrate, reference, snn, batches, method="exact"))
    widest = max(math.prod(shape) for shape in snn.shapes.values())
    return conversion, calibration, samples * widest * (4 + -(-timesteps // 8)) / 2**20


def large_rows(quick: bool) -> Iterator[list[object]]:
    """Peak memory where networks are wide or samples many."""
    few, many = ("ResNet-20", 512, 8), (("ResNet-20", 2048, 8), ("VGG-16", 64, 4))
    for case in (few,) if quick else (few, *many):
        yield [*case, *(f"{found:.0f}" for found in in_process(large, *case))]


def main() -> None:
    """Read the options, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few samples, no L = 33, no T = 32")
    parser.add_argument("--whole", action="store_true", help="run the plain loop whole")
    parser.add_argument("--passes", type=int, default=16, help="pairs of the plain loop to time")
    parser.add_argument("--samples", type=int, default=0, help="one batch; 128, or 16 with --quick")
    parser.add_argument("--repeats", type=int, default=3)
    add_device(parser)
    options = parser.parse_args()
    samples = options.samples or (16 if options.quick else 128)
    print_machine(options.device)
    header = ["L", "T", "plain, s (pairs run)", "iterative, s", "exact, s", "weights, s"]
    header += ["SNN once, s"]
    header += ["SpikingJelly's conversion, s", "plain / iterative", "plain / exact"]
    header += ["iterative / SNN", "exact / SNN", "weights / exact"]
    passes = None if options.whole else options.passes
    print_table(header, rows(samples, passes, options.repeats, options.quick, options.device))
    if options.device.type == "cpu":
        print_table(["way", "T", "samples", "peak memory, MiB"], memory_rows(samples, 8))
    if STATUS.is_file() and options.device.type == "cpu":
        header = ["network", "samples", "T", "conversion beyond the network, MiB"]
        header += ["exact beyond the network, MiB", "widest membranes and spikes, MiB"]
        print_table(header, large_rows(options.quick))


if __name__ == "__main__":
    main()
