r"""Accuracy of published CIFAR-10 weights after conversion, in pieces that survive an interruption.

    python benchmarks/accuracy.py --network akamaster_resnet20 --data cifar10.npz \\
        --weights shared/data/weights/cifar10 --timesteps 2 4 --draws 5 --output accuracy.csv

Each draw calibrates on pictures of the first 45,000 of the training part; `--split selection` are
the last 5,000 of it, on which everything was chosen, `--split test` the test part. A line is
appended for every block of pictures; a second run does only what is missing, and prints the table.
"""

import argparse
import csv
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from networks import QCFSResNet20, TorchOptimVGG16
from torch import Tensor, nn

from ftbc_lightning import calibrate, convert, simulate
from ftbc_lightning.ann import ResNet20
from ftbc_lightning.ann.weights import load_weights, read_file

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CIFAR10 = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
UNCHANGED = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
HELD_OUT = 5000
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


NETWORKS: dict[str, tuple[Callable[[Path], nn.Module], tuple[tuple[float, ...], ...]]] = {
    "akamaster_resnet20": (akamaster, IMAGENET),
    "qcfs_resnet20": (qcfs, CIFAR10),
    "torchoptim_vgg16": (vgg16, UNCHANGED),
}


class Pictures:
    """CIFAR-10 as one `.npz` file, normalised on request."""

    def __init__(self, path: Path, split: str, normalisation: tuple[tuple[float, ...], ...]):
        self.file = np.load(path)
        self.train = self.file["train_images"]
        self.mean, self.std = (torch.tensor(v).view(3, 1, 1) for v in normalisation)
        part = "test" if split == "test" else "train"
        first = 0 if split == "test" else len(self.train) - HELD_OUT
        self.images = self.file[f"{part}_images"][first:]
        self.labels = torch.from_numpy(self.file[f"{part}_labels"][first:])

    def prepare(self, images: np.ndarray) -> Tensor:
        """Uint8 `[N, H, W, 3]` to what the network reads."""
        return (torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std

    def calibration(self, count: int, draw: int) -> Tensor:
        """`count` training pictures outside the held-out ones."""
        order = np.random.default_rng(draw).permutation(len(self.train) - HELD_OUT)
        return self.prepare(self.train[np.sort(order[:count])])


def main() -> None:
    """Run what is missing, then print the table."""
    given = arguments()
    build, normalisation = NETWORKS[given.network]
    ann = build(given.weights).eval()
    pictures = Pictures(given.data, given.split, normalisation)
    blocks = range(0, given.n, given.block)
    for draw in range(given.draws):
        for timesteps in given.timesteps:
            for method in given.methods:
                key = (given.network, given.split, given.rule, str(timesteps), method)
                key = (*key, str(given.shrinkage), str(given.pictures), str(draw))
                done = {row[:-2] for row in rows(given.output)}
                missing = [b for b in blocks if (*key, str(b), str(given.block)) not in done]
                if not missing:
                    continue
                began = time.process_time()
                batches = list(pictures.calibration(given.pictures, draw).split(64))
                snn = convert(
                    ann, batches[0][:1], batches, timesteps=timesteps, threshold_rule=given.rule
                )
                calibrate(ann, snn, batches, method=method, shrinkage=given.shrinkage)
                seconds = time.process_time() - began
                for first in missing:
                    chosen = slice(first, first + given.block)
                    images = pictures.prepare(pictures.images[chosen])
                    logits = torch.cat([simulate(snn, part)[-1] for part in images.split(100)])
                    right = int((logits.argmax(1) == pictures.labels[chosen]).sum())
                    line = (*key, first, given.block, right, f"{seconds:.1f}")
                    with given.output.open("a", newline="") as file:
                        csv.writer(file).writerow(line)
    report(given.output)


def rows(path: Path) -> list[Key]:
    """The lines of the file so far."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [tuple(row) for row in csv.reader(file)]


def report(path: Path) -> None:
    """Mean over draws, standard error of that mean, pictures and draws of each setting."""
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
    parser.add_argument("--shrinkage", type=float, default=0.03, help="ridge of the weight stage")
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--pictures", type=int, default=512)
    parser.add_argument("--n", type=int, default=10000)
    parser.add_argument("--block", type=int, default=1000)
    return parser.parse_args()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
