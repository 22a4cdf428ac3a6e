"""Which configuration a run was made with."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

INSIDE = ("finetuned", "fast_dev_run")
"""Folders in a run's folder that are runs of their own."""


def run_configuration(ckpt_path: str | Path) -> Path | None:
    """The configuration of the run that left a checkpoint, or None if it is not beside it.

    `config.yaml` in the same folder, else the newest that was logged before the checkpoint, else
    (in a folder that was copied, so that times say nothing) the first that was logged. Those of
    commands that evaluated a file of networks are not the run's own.
    """
    folder = Path(ckpt_path).parent
    beside = folder / "config.yaml"
    if beside.is_file():
        return beside
    if not Path(ckpt_path).is_file():
        return None
    written = Path(ckpt_path).stat().st_mtime
    logged = {
        path: path.stat().st_mtime
        for path in folder.glob("*/**/config.yaml")
        if not _is_another_runs(path.relative_to(folder), read_configuration(path))
    }
    before = [path for path, time in logged.items() if time <= written]
    if before:
        return max(before, key=logged.__getitem__)
    return min(logged, key=lambda path: (len(path.parent.name), path.parent.name), default=None)


def read_configuration(path: Path) -> dict[str, Any]:
    """What a configuration says; nothing where it is no configuration."""
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}


def is_finetuning(configuration: Mapping[str, Any]) -> bool:
    """Whether it is that of `ftbc finetune`."""
    return "surrogate" in configuration


def _is_another_runs(path: Path, configuration: dict[str, Any]) -> bool:
    """Whether a configuration is a logger's copy, of a run inside this one, or of an evaluation."""
    inside = path.parts[0] in INSIDE or "wandb" in path.parts
    return inside or _evaluates_networks(configuration)


def _evaluates_networks(configuration: dict[str, Any]) -> bool:
    given = str(configuration.get("ckpt_path"))
    return given.endswith("snn.ckpt") and not is_finetuning(configuration)
