r"""Accuracy of published weights after conversion, in pieces that survive an interruption.

    python benchmarks/accuracy.py --network akamaster_resnet20 --data cifar10.npz \\
        --weights shared/data/weights/cifar10 --timesteps 2 4 --draws 5 --output accuracy.csv

Each draw calibrates on samples of the first 45,000 of the training part; `--split selection` are
the last 5,000 of it, on which everything was chosen, `--split test` the test part. For mobilenet_v2
`--data` is a folder of ImageNet classes, of which each draw calibrates on one half and counts on
the other. `ann` as a method is the network before conversion. `--bits` rounds the weights to so
many bits and calibrates for the rounded ones; with `--rounding after` they are rounded at last,
and nothing is found anew; with `--rounding integers` it is the network of the exported file that
is counted, in whole numbers. `--bias mean` counts the network with one bias for all steps and no
start membrane (`mean_bias`); `--half` says where the half threshold goes. A line is appended for
every block of samples; a second run does only what is missing, and prints the table.
"""

import argparse
import csv
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from networks import QCFSResNet20, TorchOptimVGG16
from samples import CIFAR10, IMAGENET, UNCHANGED, CIFARSamples, FolderSamples, Source
from torch import Tensor, nn
from torchvision.models import mobilenet_v2

from ftbc_lightning import calibrate, convert, simulate
from ftbc_lightning.ann import ResNet20
from ftbc_lightning.ann.weights import load_weights
from ftbc_lightning.files.checkpoint import read_file
from ftbc_lightning.interchange import describe, mean_bias
from ftbc_lightning.interchange.integers import integers
from ftbc_lightning.interchange.rebuild import rebuild
from ftbc_lightning.snn.neurons import NEURON_MODELS
from ftbc_lightning.snn.weight_rounding import quantize_weights

Key = tuple[str, ...]


def akamaster(path: Path) -> nn.Module:
    """ResNet-20 of akamaster/pytorch_resnet_cifar10."""
    ann = ResNet20()
    load_weights(ann, path / "akamaster_resnet20.pt")
    return ann


def qcfs(path: Path) -> nn.Module:
    """ResNet-20 with QCFS, L = 8."""
    ann = QCFSResNet20()
    ann.load_published(read_file(path / "qcfs_L8_resnet20_0.1.pt"))
    return ann


def vgg16(path: Path) -> nn.Module:
    """VGG-16 with batch norm and max pooling; the file is in half precision."""
    ann = TorchOptimVGG16()
    load_weights(ann, path / "torchoptim_vgg16bn_w16.pt")
    return ann


def mobilenet(path: Path) -> nn.Module:
    """MobileNetV2 of torchvision, ImageNet."""
    ann = mobilenet_v2()
    load_weights(ann, path / "mobilenet_v2.pt")
    return ann


NETWORKS: dict[str, tuple[Callable[[Path], nn.Module], Callable[[Path, str], Source]]] = {
    "akamaster_resnet20": (akamaster, partial(CIFARSamples, normalisation=IMAGENET)),
    "qcfs_resnet20": (qcfs, partial(CIFARSamples, normalisation=CIFAR10)),
    "torchoptim_vgg16": (vgg16, partial(CIFARSamples, normalisation=UNCHANGED)),
    "mobilenet_v2": (mobilenet, partial(FolderSamples, normalisation=IMAGENET)),
}


def main() -> None:
    """Run what is missing, then print the table."""
    given = arguments()
    build, read = NETWORKS[given.network]
    ann = build(given.weights).eval()
    samples = read(given.data, given.split)
    blocks = range(0, given.n, given.block)
    for draw in range(given.draws):
        for timesteps in given.timesteps:
            for method in given.methods:
                key = (given.network, given.split, given.rule, str(timesteps), method)
                neuron = (given.neuron, str(given.levels), str(given.leak), given.target)
                key = (*key, *neuron, str(given.shrinkage), *rounding(given), *charged(given))
                key = (*key, str(given.samples), str(draw))
                done = {row[:-2] for row in rows(given.output)}
                missing = [b for b in blocks if (*key, str(b), str(given.block)) not in done]
                if not missing:
                    continue
                began = time.process_time()
                run = predictor(ann, samples, method, timesteps, draw, given)
                seconds = time.process_time() - began
                for first in missing:
                    images, labels = samples.counted(slice(first, first + given.block), draw)
                    logits = torch.cat([run(part) for part in images.split(100)])
                    right = int((logits.argmax(1) == labels).sum())
                    line = (*key, first, given.block, right, f"{seconds:.1f}")
                    with given.output.open("a", newline="") as file:
                        csv.writer(file).writerow(line)
    report(given.output)


def predictor(
    ann: nn.Module,
    samples: Source,
    method: str,
    timesteps: int,
    draw: int,
    given: argparse.Namespace,
) -> Callable[[Tensor], Tensor]:
    """What gives logits: the ANN itself, or the network converted and calibrated on this draw."""
    if method == "ann":
        return torch.no_grad()(ann)
    batches = list(samples.calibration(given.samples, draw).split(64))
    snn = convert(
        *(ann, batches[0][:1], batches),
        timesteps=timesteps,
        threshold_rule=given.rule,
        neuron=given.neuron,
        levels=given.levels,
        leak=given.leak,
        half_threshold=given.half,
    )
    after = given.rounding == "after"
    calibrate(
        *(ann, snn, batches),
        method=method,
        target=given.target,
        shrinkage=given.shrinkage,
        weight_bits=None if after else given.bits,
    )
    if after and given.bits:
        snn = quantize_weights(snn, given.bits)
    if given.rounding == "integers":
        snn = rebuild(integers(describe(snn), given.bits))
    if given.bias == "mean":
        snn = mean_bias(snn)
    return lambda images: simulate(snn, images)[-1]


def rounding(given: argparse.Namespace) -> tuple[str, ...]:
    """What a line says of rounded weights; nothing where there are none."""
    return () if given.bits is None else (f"{given.bits} bits", f"rounded {given.rounding}")


def charged(given: argparse.Namespace) -> tuple[str, ...]:
    """What a line says of the half threshold and the bias; nothing where both are the defaults."""
    plain = (given.half, given.bias) == ("initial", "metadata")
    return () if plain else (f"half {given.half}", f"bias {given.bias}")


def rows(path: Path) -> list[Key]:
    """The lines of the file so far."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [tuple(row) for row in csv.reader(file)]


def report(path: Path) -> None:
    """Mean over draws, standard error of that mean, samples and draws of each setting."""
    draws: dict[Key, dict[str, list[tuple[int, int]]]] = {}
    for row in rows(path):
        *key, draw, _, count, right, _ = row
        draws.setdefault(tuple(key), {}).setdefault(draw, []).append((int(right), int(count)))
    for key, by_draw in sorted(draws.items()):
        values = [100 * sum(r for r, _ in c) / sum(n for _, n in c) for c in by_draw.values()]
        sizes = {sum(n for _, n in c) for c in by_draw.values()}
        spread = statistics.stdev(values) if len(values) > 1 else float("nan")
        error = spread / len(values) ** 0.5
        n = "/".join(map(str, sorted(sizes)))
        mean = statistics.mean(values)
        print(*key, f"{mean:.2f} +- {error:.2f} (sd {spread:.2f}), {len(values)} draws, n={n}")


def arguments() -> argparse.Namespace:
    """What is measured."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--network", choices=sorted(NETWORKS), required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=Path("accuracy.csv"))
    parser.add_argument("--split", choices=("selection", "test"), default="selection")
    parser.add_argument("--rule", default="mse")
    parser.add_argument("--timesteps", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--methods", nargs="+", default=["none", "exact", "weights+exact"])
    parser.add_argument("--neuron", default="if", choices=sorted(NEURON_MODELS))
    parser.add_argument("--levels", type=int, default=1)
    parser.add_argument("--leak", type=float, default=1.0)
    parser.add_argument("--target", default="auto")
    parser.add_argument("--shrinkage", type=float, default=0.03, help="ridge of the weight stage")
    parser.add_argument("--bits", type=int, help="of a weight; float if not given")
    parser.add_argument("--rounding", choices=("before", "after", "integers"), default="before")
    parser.add_argument("--half", choices=("initial", "per_step", "none"), default="initial")
    parser.add_argument("--bias", choices=("metadata", "mean"), default="metadata")
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--samples", type=int, default=512)
    parser.add_argument("--n", type=int, default=10000)
    parser.add_argument("--block", type=int, default=1000)
    return parser.parse_args()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
