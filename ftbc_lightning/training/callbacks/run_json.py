"""`run.json` beside `results.csv`: with which programs, seed and settings a figure was made."""

import json
import os
import platform
import subprocess
import sys
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml
from lightning import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.trainer.states import TrainerFn

from ftbc_lightning.files.whole_file import write_whole
from ftbc_lightning.training.callbacks.ftbc import makes_networks
from ftbc_lightning.version import __version__

PACKAGES = ("torch", "torchvision", "lightning", "torchmetrics", "jsonargparse", "numpy")
FILE = "run.json"


class RunRecord(SaveConfigCallback):
    """Saves the configuration whole, and records each evaluation in `run.json`.

    `run.json` has one entry for each split of `results.csv`, that of the run that wrote its rows:
    command, configuration, seed, versions, git revision, device and number of processes.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write `config.yaml` into the logger's folder, once.

        Without a logger that is the run's own folder, whose configuration is that of the command
        that made the networks, not of one that evaluates them.
        """
        log_dir = trainer.log_dir  # asks every process
        self.makes = makes_networks(pl_module, stage)
        if self.already_saved or log_dir is None or not (self.makes or trainer.loggers):
            return
        self.already_saved = True
        if trainer.is_global_zero:
            path = Path(log_dir) / self.config_filename
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, lambda beside: beside.write_text(self._config))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record a validation run; those within a fit write no results."""
        if trainer.state.fn == TrainerFn.VALIDATING:
            self._record(trainer, "val")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record a test run."""
        self._record(trainer, "test")

    @cached_property
    def _config(self) -> str:
        text: str = self.parser.dump(self.config, skip_none=False)
        return text

    def _record(self, trainer: Trainer, split: str) -> None:
        if not trainer.is_global_zero:
            return
        path = Path(trainer.default_root_dir) / FILE
        content = {**({} if self.makes else read_record(path)), split: self._entry(trainer)}
        text = json.dumps(content, indent=2, default=str)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, lambda beside: beside.write_text(text + "\n"))

    def _entry(self, trainer: Trainer) -> dict[str, Any]:
        seed = os.environ.get("PL_GLOBAL_SEED")
        return {
            "command": sys.argv,
            "seed": int(seed) if seed else None,
            "git_revision": git_revision(),
            "versions": versions(),
            "python": platform.python_version(),
            "device": str(trainer.strategy.root_device),
            "processes": trainer.world_size,
            "precision": trainer.precision,
            "config": yaml.safe_load(self._config),
        }


def versions() -> dict[str, str]:
    """The versions of this package and of those that its figures depend on."""
    found = {"ftbc-lightning": __version__}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "?"
    return found


def git_revision() -> str | None:
    """The revision of the working directory, marked where files were changed; None outside git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def read_record(path: Path) -> dict[str, Any]:
    """What `run.json` holds; empty where there is none, or another kind of file."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
