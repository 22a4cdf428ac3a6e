"""`results.csv` of a comparison: appended row by row, never mixed, resumed where it ended."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ftbc_lightning.errors import UserError
from ftbc_lightning.files.csv_rows import read_rows, write_rows
from ftbc_lightning.files.whole_file import write_whole
from ftbc_lightning.report.rows import PLAIN, Result

ELSEWHERE = "delete it, or write elsewhere with --trainer.default_root_dir"


@dataclass(frozen=True)
class Row(Result):
    """A result of a comparison; `timesteps`, `seed` and `seconds` are None for the ANN.

    Attributes:
        settings: Fingerprint of all that a figure depends on besides the columns of a result.
    """

    settings: str = ""


class RowFile:
    """Rows on disk, each appended whole, so that an interrupted comparison goes on.

    Args:
        path: `results.csv`; the settings lie beside it as `settings.json`.
        settings: All that a row depends on besides its columns, in plain values.

    Raises:
        UserError: The file holds rows of other settings, or is another file.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path, self.settings = path, json.loads(json.dumps(settings))
        self.fingerprint = fingerprint(self.settings)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.rows = read_rows(path, Row, advice=ELSEWHERE)
        beside = path.with_name("settings.json")
        if any(row.settings != self.fingerprint for row in self.rows):
            raise UserError(
                f"{path} holds rows of other settings ({_differences(beside, self.settings)}); "
                "rows of two settings are not mixed. Give the settings it was begun with, "
                f"{ELSEWHERE}."
            )
        text = json.dumps(self.settings, indent=2)
        write_whole(beside, lambda place: place.write_text(f"{text}\n"))

    def has(
        self, method: str, timesteps: int | None, seed: int | None, neuron: str = PLAIN
    ) -> bool:
        """Whether a row is there already."""
        wanted = (method, timesteps, seed, neuron)
        return any((r.method, r.timesteps, r.seed, r.neuron) == wanted for r in self.rows)

    def append(self, *rows: Row) -> None:
        """Add rows and write the file."""
        self.rows += rows
        write_rows(self.path, self.rows)

    def replace(self, row: Row) -> None:
        """Add a row in the place of the one of the same method, T, draw and neuron."""
        key = (row.method, row.timesteps, row.seed, row.neuron)
        self.rows = [r for r in self.rows if (r.method, r.timesteps, r.seed, r.neuron) != key]
        self.append(row)


def fingerprint(settings: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits that change when any setting does.

    >>> fingerprint({"a": 1}) == fingerprint({"a": 2})
    False
    """
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


def digest(tensors: Iterable[Tensor]) -> str:
    """Fingerprint of values, the same on every device.

    >>> digest([torch.zeros((), dtype=torch.bfloat16)]) == digest([torch.zeros(2)])
    False
    """
    found = hashlib.sha256()
    for tensor in tensors:
        found.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()[:12]


def _differences(path: Path, settings: Mapping[str, Any]) -> str:
    """Which settings the rows were made with that are others now."""
    try:
        before = json.loads(path.read_text())
    except (OSError, ValueError):
        before = None
    if not isinstance(before, dict):
        return "settings.json beside it cannot be read"
    keys = sorted({*before, *settings})
    changed = [key for key in keys if before.get(key) != settings.get(key)]
    shown = [f"{key}: {before.get(key)}, now {settings.get(key)}" for key in changed]
    return "; ".join(shown) or "of another version"
