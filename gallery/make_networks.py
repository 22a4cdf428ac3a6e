"""Train the networks of the gallery on this machine, and write each as `ftbc push --out` does.

    python gallery/make_networks.py [--out build/gallery] [--cifar10 FOLDER]

Nothing is sent. `from_pretrained` reads each folder back, which is tried before it counts as made.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from ftbc_lightning import UserError, from_pretrained, simulate
from ftbc_lightning.analysis.network_variants import Variant
from ftbc_lightning.cli import main as ftbc
from ftbc_lightning.files.run_configuration import run_configuration
from ftbc_lightning.report.run_folder import read_run
from ftbc_lightning.training.reload import datamodule

NEAR = 0.01
"""How far the accuracy of the folder may be from that of the run: folding thresholds rounds."""


@dataclass(frozen=True)
class Entry:
    """A network of the gallery.

    Attributes:
        name: Of its folder.
        config: What trains it.
        method: How it is calibrated.
        timesteps: T.
        license: Of its weights, by the hub's identifier; None where none is given.
    """

    name: str
    config: str
    method: str
    timesteps: int
    license: str | None


DIGITS = Entry("digits-resnet20", "digits_resnet20", "weights+exact", 4, "apache-2.0")
CIFAR10 = Entry("cifar10-resnet20", "cifar10_resnet20", "weights+exact", 8, None)
"""CIFAR-10 states no licence: whoever has it makes the network for themselves."""


def make(entry: Entry, out: Path, *more: str) -> Path:
    """Train, calibrate, test and write one network.

    Args:
        entry: The network.
        out: The folder of the gallery; the run stays in `runs/` there.
        more: Options of the training.

    Returns:
        The folder with the network and its page.

    Raises:
        UserError: A command failed, which has said why, or what was written is another network.
    """
    run, folder = out / "runs" / entry.name, out / entry.name
    trained = ["--timesteps", str(entry.timesteps), "--calibration.methods", f"[{entry.method}]"]
    place = ["--trainer.default_root_dir", str(run)]
    _done("fit", "--config", entry.config, *trained, *place, *more)
    _done("test", "--ckpt_path", str(run / "snn.ckpt"))
    licence = [] if entry.license is None else ["--license", entry.license]
    network = ["--method", entry.method, "--timesteps", str(entry.timesteps)]
    # a folder goes before a repository of that name: read from beside the gallery, the page is true
    repo = ["--repo", f"{out.resolve().name}/{entry.name}"]
    _done("push", str(run), *repo, *network, *licence, "--out", str(folder))
    reached, expected = accuracy(folder, run, entry)
    if abs(reached - expected) > NEAR:
        raise UserError(
            f"{folder} reaches {reached:.4f} on the test split, the run {expected:.4f}."
        )
    print(f"{folder}: {100 * reached:.2f} % on the test split, read back with from_pretrained")
    return folder


@torch.no_grad()
def accuracy(folder: Path, run: Path, entry: Entry) -> tuple[float, float]:
    """Of a folder on the test split, and what the run says of the same network."""
    config = run_configuration(run / "snn.ckpt")
    assert config is not None
    data, snn = datamodule(config), from_pretrained(folder)
    data.prepare_data()
    data.setup("test")
    right = [
        simulate(snn, images)[-1].argmax(1) == labels for images, labels in data.test_dataloader()
    ]
    own = Variant(entry.method, entry.timesteps)
    rows = {(row.method, row.timesteps): row for row in read_run(run).split("test")}
    expected = rows[own.name, own.timesteps].accuracy
    return torch.cat(right).double().mean().item(), expected


def _done(*words: str) -> None:
    before = sys.argv
    sys.argv = ["ftbc", *words]  # the run's record, and with it the page, names the command
    try:
        code = ftbc(words)
    finally:
        sys.argv = before
    if code != 0:
        raise UserError(f"`ftbc {words[0]}` did not finish.")


def main() -> int:
    """Make what can be made here."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("build/gallery"))
    parser.add_argument("--cifar10", help="your CIFAR-10, the folder with cifar-10-batches-py")
    given = parser.parse_args()
    try:
        make(DIGITS, given.out)
        if given.cifar10:
            make(CIFAR10, given.out, "--data.root", given.cifar10)
    except UserError as error:
        print(f"gallery: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
