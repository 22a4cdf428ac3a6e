"""The pretend device is there, and takes the choices that the package makes for a CPU."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ftbc_lightning.snn import memory_layout
from tests import pretend_device
from tests.conftest import DIGITS

PRETEND = [
    *("--trainer.accelerator", "pretend", "--trainer.strategy", "pretend"),
    *("--trainer.devices", "1"),
]
PLACES = {"cpu": [], "pretend": PRETEND}


@pytest.fixture(scope="session", autouse=True)
def device():
    """The layout of samples decides in which order a CPU adds, so it must be the same."""
    pretend_device.plug_into_lightning()
    chosen = memory_layout.channels_last_is_faster

    def as_on_a_cpu(images: Tensor) -> bool:
        pretend = images.device.type == "pretend"
        return chosen(torch.empty(0, dtype=images.dtype) if pretend else images)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory_layout, "channels_last_is_faster", as_on_a_cpu)
        yield torch.device("pretend", 0)


@dataclass
class Finished:
    """What a command left: its folder and what it printed."""

    folder: Path
    printed: str


def command(subcommand: str, folder: Path, place: str, *more: str) -> list[str]:
    """A short command on the digits with a narrow network; no curves are logged twice."""
    return [
        *(subcommand, "--config", str(DIGITS), "--timesteps", "1,2"),
        *("--model.network.init_args.width", "4", "--data.calibration_samples", "24"),
        *("--data.init_args.batch_size", "128", "--calibration.threshold_rule", "percentile"),
        *("--trainer.default_root_dir", str(folder), "--trainer.max_epochs", "1"),
        *("--trainer.enable_progress_bar", "false", "--trainer.logger", "false"),
        *PLACES[place],
        *more,
    ]
