r"""Exact FTBC in one pass against many rounds of the iterative solver, on the same samples.

    python benchmarks/rounds.py --data cifar10.npz --weights akamaster_resnet20.pt --timesteps 2

Calibration samples are drawn from the first 45,000 training samples of CIFAR-10, accuracy is that
on the first of the 5,000 others. The iterative solver goes through its samples `--rounds` times
whatever its error does: batches are given to it that often.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch
from samples import IMAGENET, CIFARSamples

from ftbc_lightning import calibrate, convert, simulate
from ftbc_lightning.ann import ResNet20
from ftbc_lightning.ann.weights import load_weights


def main() -> None:
    """Print a line for each draw and solver, and their means."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--timesteps", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--samples", type=int, default=512)
    parser.add_argument("--n", type=int, default=2000)
    asked = parser.parse_args()
    ann = ResNet20().eval()
    load_weights(ann, asked.weights)
    data = CIFARSamples(asked.data, "selection", IMAGENET)
    images, labels = data.counted(slice(asked.n), 0)
    solvers = {"exact": 1, "iterative": asked.rounds}
    found: dict[str, list[float]] = {name: [] for name in solvers}
    for draw in range(asked.draws):
        batches = list(data.calibration(asked.samples, draw).split(128))
        for name, rounds in solvers.items():
            snn = convert(ann, images[:1], batches, timesteps=asked.timesteps)
            began = time.perf_counter()
            calibrate(ann, snn, batches * rounds, method=name)
            seconds = time.perf_counter() - began
            hits = simulate(snn, images)[-1].argmax(1) == labels
            found[name].append(100 * float(hits.double().mean()))
            print(f"draw {draw} {name}: {found[name][-1]:.2f} % ({seconds:.0f} s)", flush=True)
    for name, values in found.items():
        error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
        print(f"{name}: {statistics.mean(values):.2f} ± {error:.2f} (standard error of the mean)")


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
