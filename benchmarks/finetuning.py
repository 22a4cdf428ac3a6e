r"""Accuracy of a fine-tuned network against the samples that it has seen, from a calibrated start.

    python benchmarks/finetuning.py --data cifar10.npz --weights DIR --timesteps 2 --leak auto

akamaster_resnet20 on CIFAR-10: calibrated on 512 samples, then trained as `ftbc finetune` trains,
on the first 45,000 of the training part with shifts and mirrors. `--split selection` counts on the
last 5,000 of that part, on which settings were chosen, `--split test` on the test part. Prints
the accuracy before, a few times on the way and at the end, and the seconds. A run of hours goes on
after an interruption with `--state FILE`, which holds what was reached at the last of these looks;
the samples of a pass that was cut off come anew.
"""

import argparse
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from accuracy import akamaster
from samples import HELD_OUT, IMAGENET, CIFARSamples
from torch import Tensor

from ftbc_lightning import Surrogate, TrainableNetwork, calibrate, convert, simulate
from ftbc_lightning.data.transforms import flip_and_crop
from ftbc_lightning.files.whole_file import write_whole
from ftbc_lightning.snn.network import SpikingNetwork
from ftbc_lightning.snn.neurons.settings import leak_of
from ftbc_lightning.training.relative_adam import RelativeAdam, rise_and_fall


def main() -> None:
    """Calibrate, train, count."""
    given = arguments()
    torch.set_num_threads(given.threads)
    torch.manual_seed(given.seed)
    ann = akamaster(given.weights).eval()
    chosen, counted = (
        CIFARSamples(given.data, split, IMAGENET) for split in ("selection", given.split)
    )
    batches = list(chosen.calibration(512, given.seed).split(64))
    leak = leak_of(given.timesteps) if given.leak == "auto" else float(given.leak)
    neuron = {"neuron": given.neuron, "leak": leak}
    snn = convert(ann, batches[0][:1], batches, timesteps=given.timesteps, **neuron)
    calibrate(ann, snn, batches, method=given.method)
    right = partial(accuracy, counted, n=given.n)
    print(f"{vars(given)}\n{0:7d} samples: {right(snn):.2f}", flush=True)
    trained = TrainableNetwork(snn, surrogate=Surrogate(given.surrogate, given.width))
    optimizer = RelativeAdam(trained.parameters(), lr=given.lr)
    steps = (len(chosen.train) - HELD_OUT) * given.passes // given.batch
    scheduler = rise_and_fall(optimizer, steps)
    kept = {"network": trained, "optimizer": optimizer, "scheduler": scheduler}
    done, earlier = go_on(given.state, kept)
    began = time.process_time() - earlier
    drawn = training_batches(chosen, given.batch)
    for step in range(done + 1, steps + 1):
        images = next(drawn)
        with torch.no_grad():
            wanted = ann(images).log_softmax(1)
        found = trained(images)[-1].log_softmax(1)
        loss = F.kl_div(found, wanted, reduction="batchmean", log_target=True)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        if step % max(1, steps // given.looks) == 0 or step == steps:
            used, seen = time.process_time() - began, step * given.batch
            print(f"{seen:7d} samples: {right(trained.network()):.2f} {used:.0f} s", flush=True)
            keep(given.state, kept, step, used)


def go_on(state: Path | None, kept: dict[str, Any]) -> tuple[int, float]:
    """Steps done and seconds used before, their results loaded; 0 without a file."""
    if state is None or not state.is_file():
        return 0, 0.0
    found = torch.load(state, weights_only=True)
    for name, what in kept.items():
        what.load_state_dict(found[name])
    torch.set_rng_state(found["random"])
    print(f"goes on after {found['step']} steps, {found['seconds']:.0f} s", flush=True)
    return found["step"], found["seconds"]


def keep(state: Path | None, kept: dict[str, Any], step: int, used: float) -> None:
    """Write what another run goes on from."""
    if state is not None:
        content = {name: what.state_dict() for name, what in kept.items()}
        content |= {"step": step, "seconds": used, "random": torch.get_rng_state()}
        write_whole(state, partial(torch.save, content))


def training_batches(source: CIFARSamples, size: int) -> Iterator[Tensor]:
    """Shifted and mirrored training samples, in another order each time through."""
    while True:
        for part in torch.randperm(len(source.train) - HELD_OUT).split(size):
            if len(part) == size:
                images = torch.from_numpy(source.train[part.sort().values.numpy()])
                moved = flip_and_crop(images.permute(0, 3, 1, 2))
                yield (moved.float() / 255 - source.mean) / source.std


def accuracy(counted: CIFARSamples, snn: SpikingNetwork, *, n: int) -> float:
    """Percent of the first n samples."""
    right = 0
    for first in range(0, n, 100):
        images, labels = counted.counted(slice(first, first + 100), 0)
        right += int((simulate(snn, images)[-1].argmax(1) == labels).sum())
    return 100 * right / n


def arguments() -> argparse.Namespace:
    """What is measured."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--split", choices=("selection", "test"), default="selection")
    parser.add_argument("--n", type=int, default=10000)
    parser.add_argument("--timesteps", type=int, default=2)
    parser.add_argument("--method", default="weights+exact")
    parser.add_argument("--neuron", default="if")
    parser.add_argument("--leak", default="1")
    parser.add_argument("--surrogate", default="triangle")
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--passes", type=int, default=1)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--looks", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--state", type=Path, help="file to keep and go on from")
    return parser.parse_args()


if __name__ == "__main__":
    main()
