"""How fast training samples are made, beside how fast ResNet-20 trains on them.

    python benchmarks/feeding.py --device cuda [--data cifar10.npz] [--workers 0 4]

prints samples a second of three things, measured in turn in one process: the loader alone, the
training step alone (one batch again and again), and `Trainer.fit`. A loader that makes several
times what the step takes does not hold training back; `fit / step` says what is left. Without
`--data` the samples are noise, which costs the same.
"""

import argparse
import itertools
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from lightning import Callback, Trainer
from measuring import print_machine, print_table
from torch import Tensor

from ftbc_lightning.ann import ResNet20
from ftbc_lightning.data import ArrayDataModule
from ftbc_lightning.training.module import SpikingClassifier

HEADER = ("augmentation", "workers", "loader", "step", "fit", "loader / step", "fit / step")
WARM_UP = 3


def noise(path: Path) -> Path:
    """A file like CIFAR-10's with 50,000 samples of noise."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (50_000, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(len(images)) % 10
    splits = {"train": slice(None), "test": slice(1000)}
    arrays = {f"{split}_images": images[part] for split, part in splits.items()}
    np.savez(path, **arrays, **{f"{split}_labels": labels[part] for split, part in splits.items()})
    return path


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


class Clock(Callback):
    """Ends the fit after some seconds, and counts samples from the first batches on."""

    def __init__(self, seconds: float, device: torch.device) -> None:
        self.seconds, self.device, self.samples, self.rate = seconds, device, 0, 0.0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Start after the warm-up; stop when the time is over."""
        if trainer.global_step <= WARM_UP:
            wait(self.device)
            self.began = time.perf_counter()
            return
        self.samples += len(batch[1])
        if time.perf_counter() - self.began > self.seconds:
            wait(self.device)
            self.rate = self.samples / (time.perf_counter() - self.began)
            trainer.should_stop = True


def trainer(device: torch.device, *callbacks: Callback) -> Trainer:
    """One device, nothing written."""
    return Trainer(
        accelerator=device.type if device.type != "cuda" else "gpu",
        devices=1,
        max_epochs=1000,
        callbacks=list(callbacks),
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def of_loader(data: ArrayDataModule, device: torch.device, seconds: float) -> float:
    """Samples a second of the training loader, batches moved to the device."""
    data.trainer = trainer(device)
    loader: Any = data.train_dataloader()
    samples, began = 0, 0.0
    for count, batch in enumerate(itertools.chain.from_iterable(itertools.repeat(loader))):
        moved = [part.to(device, non_blocking=True) for part in batch]
        if count < WARM_UP:
            wait(device)
            began = time.perf_counter()
            continue
        samples += len(moved[1])
        if time.perf_counter() - began > seconds:
            break
    wait(device)
    return samples / (time.perf_counter() - began)


def of_step(batch_size: int, device: torch.device, seconds: float) -> float:
    """Samples a second of forward, backward and SGD of ResNet-20 on one batch."""
    net = ResNet20().to(device)
    sgd = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    images = torch.randn(batch_size, 3, 32, 32, device=device)
    labels = torch.arange(batch_size, device=device) % 10

    def step() -> Tensor:
        sgd.zero_grad()
        loss = F.cross_entropy(net(images), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        sgd.step()
        return loss

    for _ in range(WARM_UP):
        step()
    wait(device)
    began, samples = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        step()
        samples += batch_size
    wait(device)
    return samples / (time.perf_counter() - began)


def of_fit(data: ArrayDataModule, device: torch.device, seconds: float) -> float:
    """Samples a second of Lightning's training loop."""
    clock = Clock(seconds, device)
    trainer(device, clock).fit(SpikingClassifier(ResNet20()), datamodule=data)
    return clock.rate


def measured(path: Path, augmentation: Any, workers: int, asked: argparse.Namespace) -> list[Any]:
    """One row: medians over the rounds, and of the ratios of each round."""
    device = torch.device(asked.device)
    rounds = []
    for _ in range(asked.rounds):
        data = ArrayDataModule(
            path=str(path),
            augmentation=augmentation,
            batch_size=asked.batch_size,
            num_workers=workers,
        )
        data.setup()
        rounds.append(
            (
                of_loader(data, device, asked.seconds),
                of_step(asked.batch_size, device, asked.seconds),
                of_fit(data, device, asked.seconds),
            )
        )
    rates = [f"{statistics.median(column):,.0f}" for column in zip(*rounds, strict=True)]
    against = statistics.median(loader / step for loader, step, _ in rounds)
    kept = statistics.median(fit / step for _, step, fit in rounds)
    return [augmentation, workers, *rates, f"{against:.2f}", f"{kept:.2f}"]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", help="cpu, cuda or another of torch's")
    parser.add_argument("--data", type=Path, help="a .npz file of 32-pixel colour images")
    parser.add_argument("--augmentation", nargs="+", default=["none", "flip_crop", "cifar"])
    parser.add_argument("--workers", nargs="+", type=int, default=[0])
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    print_machine()
    if asked.device == "cuda":
        print(f"{torch.cuda.get_device_name()}\n")
    with tempfile.TemporaryDirectory() as folder:
        path = asked.data or noise(Path(folder) / "noise.npz")
        choices = itertools.product(asked.augmentation, asked.workers)
        print_table(HEADER, (measured(path, name, workers, asked) for name, workers in choices))


if __name__ == "__main__":
    main()
