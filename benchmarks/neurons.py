"""How long each neuron takes to simulate, beside the plain one, in one run.

    python benchmarks/neurons.py [--timesteps 4] [--batch-sizes 1 64] [--network mobilenet_v2]
                                 [--threads 1] [--device cuda]

prints the ratio of each neuron's time to that of integrate and fire on ResNet-20 at 32 pixels, or
MobileNetV2 at 224, measured in turn: the median over the repeats; and on a CPU with Numba its time
over that of the plain loop.
"""

import argparse
import sys
from functools import partial
from unittest import mock

import torch
from measuring import add_device, interleaved, print_machine, print_table, ratio
from torch import Tensor
from torchvision.models import mobilenet_v2

from ftbc_lightning import SpikingNetwork, convert, simulate
from ftbc_lightning.ann import ResNet20
from ftbc_lightning.snn import fused_neuron_cpu

NEURONS = {
    "if": {},
    "if, leak 0.85": {"leak": 0.85},
    "if, 2 levels": {"levels": 2},
    "signed": {"neuron": "signed"},
    "signed, 2 levels": {"neuron": "signed", "levels": 2},
}


ANNS = {"resnet20": (ResNet20, 32), "mobilenet_v2": (mobilenet_v2, 224)}


def main() -> None:
    """Measure every neuron at every batch size."""
    given = arguments()
    if given.threads:
        torch.set_num_threads(given.threads)
    print_machine()
    torch.manual_seed(0)
    build, pixels = ANNS[given.network]
    ann = build().eval().to(given.device)
    samples = torch.rand(max(given.batch_sizes), 3, pixels, pixels, device=given.device)
    networks = {
        name: convert(ann, samples[:1], [samples[:64]], timesteps=given.timesteps, **settings)  # type: ignore[arg-type]
        for name, settings in NEURONS.items()
    }
    lines = []
    for size in given.batch_sizes:
        sides = {name: partial(simulate, snn, samples[:size]) for name, snn in networks.items()}
        loops = {f"{name} (loop)": partial(plain, networks[name], samples[:size]) for name in sides}
        found = interleaved({**sides, **loops}, given.repeats)
        for name in sides:
            others = found["if"], found[f"{name} (loop)"]
            times = [f"{ratio(found[name], other):.2f}" for other in others]
            lines.append((name, str(size), *times))
    print_table(("neuron", "samples", f"time / if, T = {given.timesteps}", "/ plain loop"), lines)


def plain(snn: SpikingNetwork, samples: Tensor) -> None:
    """Simulate without the loop that Numba compiles."""
    with mock.patch.object(fused_neuron_cpu, "LEAST_VALUES", sys.maxsize):
        simulate(snn, samples)


def arguments() -> argparse.Namespace:
    """What is measured."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--timesteps", type=int, default=4)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--network", choices=ANNS, default="resnet20")
    parser.add_argument("--threads", type=int, help="of torch; as many as it takes if not given")
    parser.add_argument("--repeats", type=int, default=9)
    add_device(parser)
    return parser.parse_args()


if __name__ == "__main__":
    main()
