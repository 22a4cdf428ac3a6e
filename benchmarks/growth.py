"""How cost grows with T, with depth and with the number of samples: one figure, fitted slopes.

    python benchmarks/growth.py [--quick] [--out growth.png]

A slope of 1 on the logarithmic axes is proportional growth.
"""

import argparse
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib
import numpy as np
import torch
from measuring import interleaved, print_machine, print_table

from ftbc_lightning import calibrate, convert, simulate
from ftbc_lightning.ann.resnet import CIFARResNet

matplotlib.use("Agg")
import matplotlib.pyplot as plt

Cost = dict[str, list[float]]


def cost(blocks: int, timesteps: int, samples: int, repeats: int) -> dict[str, float]:
    """Seconds of simulation and calibration of one CIFAR ResNet."""
    torch.manual_seed(0)
    network = type("ResNet", (CIFARResNet,), {"blocks": blocks})
    net, batch = network().eval(), torch.randn(samples, 3, 32, 32)
    snn = convert(net, batch[:1], [batch], timesteps=timesteps)
    sides: dict[str, Callable[[], object]] = {
        "simulate": lambda: simulate(snn, batch),
        "iterative": lambda: calibrate(net, snn, [batch], method="iterative"),
        "exact": lambda: calibrate(net, snn, [batch], method="exact"),
    }
    return {name: statistics.median(v) for name, v in interleaved(sides, repeats).items()}


def along(values: Sequence[int], measure: Callable[[int], dict[str, float]]) -> Cost:
    """The cost of each value, by what is done."""
    found: Cost = {}
    for value in values:
        for name, spent in measure(value).items():
            found.setdefault(name, []).append(spent)
    return found


def main() -> None:
    """Read the options, measure, print the slopes and draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small values only")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("growth.png"))
    options = parser.parse_args()
    few = 8 if options.quick else 64
    cut = slice(0, 3) if options.quick else slice(None)
    repeats = 1 if options.quick else options.repeats
    blocks = (1, 3, 5, 9)[cut]
    axes: dict[str, tuple[Sequence[int], Cost]] = {}
    timesteps = (4, 8, 16, 32, 64)[cut]
    axes["time steps T"] = timesteps, along(timesteps, lambda t: cost(1, t, few, repeats))
    depths = [6 * count + 1 for count in blocks]
    axes["layers L"] = depths, along(depths, lambda d: cost((d - 1) // 6, 4, few, repeats))
    sizes = (16, 32, 64, 128, 256)[cut]
    axes["samples"] = sizes, along(sizes, lambda n: cost(1, 4, n, repeats))
    print_machine()
    rows = []
    figure, panels = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
    for panel, (label, (values, found)) in zip(panels, axes.items(), strict=True):
        for name, spent in found.items():
            slope = np.polyfit(np.log(values), np.log(spent), 1)[0]
            panel.loglog(values, spent, "o-", label=f"{name}, slope {slope:.2f}")
            rows.append([label, f"{values[0]} to {values[-1]}", name, f"{slope:.2f}"])
        panel.set_xticks(values, [str(value) for value in values])
        panel.minorticks_off()
        panel.set(xlabel=label, ylabel="seconds")
        panel.legend(frameon=False, fontsize=8)
    print_table(["against", "range", "what", "slope"], rows)
    figure.savefig(options.out, dpi=150)
    print(f"The figure is in {options.out}.")


if __name__ == "__main__":
    main()
