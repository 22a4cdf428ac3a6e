"""Runs that several tests read: one short fit on the digits through the command line."""

import gc
import logging
import os
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from tests import pretend_device

# Two workers with two threads each on two cores wait for each other most of the time.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)

# Looking for garbage among so many graphs takes a tenth of the time.
gc.set_threshold(50_000, 20, 50)

# Before any test: torch asks for its devices once, with the first backward pass.
pretend_device.plug_in()

ROOT = Path(__file__).parent.parent
DIGITS = ROOT / "configs" / "digits_cnn.yaml"


@dataclass
class Run:
    """A finished `ftbc fit`: its folder, and the command line object with model and trainer."""

    folder: Path
    cli: object

    def args(self, subcommand: str, *more: str, folder: Path | None = None) -> list[str]:
        """A command on the same configuration that writes elsewhere if asked to."""
        return [*digits(subcommand, folder or self.folder), *more]


def digits(subcommand: str, folder: Path) -> list[str]:
    """A short, quiet command on the digits."""
    return [
        *(subcommand, "--config", str(DIGITS), "--timesteps", "1,2"),
        *("--trainer.default_root_dir", str(folder), "--trainer.max_epochs", "3"),
        *("--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"),
        *("--data.calibration_samples", "128"),
    ]


@pytest.fixture(autouse=True)
def as_loud_as_ever():
    """A command that was quiet does not silence the tests behind it."""
    yield
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.INFO)


@pytest.fixture(scope="session")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """`ftbc fit` on the digits for three epochs, T = 1 and 2."""
    from ftbc_lightning.cli import run

    folder = tmp_path_factory.mktemp("digits")
    return Run(folder, run(digits("fit", folder)))
