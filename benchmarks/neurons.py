"""How long each neuron takes to simulate, beside the plain one, in one run.

    python benchmarks/neurons.py [--timesteps 4] [--batch-sizes 1 64] [--device cuda]

prints the ratio of each neuron's time to that of integrate and fire on ResNet-20 at 32 pixels,
measured in turn: the median over the repeats.
"""

import argparse
from functools import partial

import torch
from measuring import add_device, interleaved, print_machine, print_table, ratio

from ftbc_lightning import convert, simulate
from ftbc_lightning.ann import ResNet20

NEURONS = {
    "if": {},
    "if, leak 0.85": {"leak": 0.85},
    "if, 2 levels": {"levels": 2},
    "signed": {"neuron": "signed"},
    "signed, 2 levels": {"neuron": "signed", "levels": 2},
}


def main() -> None:
    """Measure every neuron at every batch size."""
    given = arguments()
    print_machine()
    torch.manual_seed(0)
    ann = ResNet20().eval().to(given.device)
    samples = torch.rand(max(given.batch_sizes), 3, 32, 32, device=given.device)
    networks = {
        name: convert(ann, samples[:1], [samples[:64]], timesteps=given.timesteps, **settings)  # type: ignore[arg-type]
        for name, settings in NEURONS.items()
    }
    lines = []
    for size in given.batch_sizes:
        sides = {name: partial(simulate, snn, samples[:size]) for name, snn in networks.items()}
        found = interleaved(sides, given.repeats)
        lines += [
            (name, str(size), f"{ratio(taken, found['if']):.2f}") for name, taken in found.items()
        ]
    print_table(("neuron", "samples", f"time / if, T = {given.timesteps}"), lines)


def arguments() -> argparse.Namespace:
    """What is measured."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--timesteps", type=int, default=4)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--repeats", type=int, default=9)
    add_device(parser)
    return parser.parse_args()


if __name__ == "__main__":
    main()
