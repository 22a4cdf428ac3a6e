"""What the page beside a network on the Hugging Face Hub says of the run that made it."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

from ftbc_lightning.analysis.network_variants import Variant
from ftbc_lightning.interchange.model_card import facts, listed, table
from ftbc_lightning.report.measure import measure_of
from ftbc_lightning.report.rows import Result
from ftbc_lightning.report.run_folder import FinishedRun
from ftbc_lightning.report.style import label_of
from ftbc_lightning.report.tables import training_note
from ftbc_lightning.snn.network import SpikingNetwork

SPLITS = {"val": "validation", "test": "test"}

CREDITS = {
    "ftbc_lightning.data.DigitsDataModule": (
        "Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak (1998), UCI Machine "
        "Learning Repository, doi:10.24432/C50P49, CC BY 4.0; as scikit-learn has it"
    ),
    "ftbc_lightning.data.CIFAR10DataModule": (
        "CIFAR-10, A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images (2009); no "
        "licence is stated for the data"
    ),
}
"""Whose the samples of a data module are, and on what terms, where that is known here."""

FOLDERS = re.compile(r"(?<![\w.:/~-])/(?:[^/\s,\]]+/)+")
"""The folders of a path from the root on, which are nobody's business."""


def about(run: FinishedRun, variant: Variant, snn: SpikingNetwork) -> str:
    """Method, accuracy, energy, ANN and command, in Markdown.

    Args:
        run: That made the network.
        variant: Which of its networks it is.
        snn: The network.
    """
    parts = [
        f"A spiking network for T = {snn.timesteps} time steps, converted from an ANN "
        f"({label_of(variant.name)}).",
        listed({"method": f"`{variant.method}`", **_made_from(run.config), **facts(snn)}),
        _figures(run, variant),
        _energy(run, variant),
        _command(run.folder),
    ]
    return "\n\n".join(part for part in parts if part)


def _made_from(config: dict[str, Any]) -> dict[str, str]:
    """What the ANN was, and its data."""
    model, data = config.get("model") or {}, config.get("data") or {}
    weights = model.get("weights") or config.get("ckpt_path")
    told = {
        "ANN": _built(model.get("network")),
        "weights of the ANN": _public(str(weights)) if weights else "trained in the run",
        "data": str(data.get("class_path") or ""),
        "source of the data": CREDITS.get(str(data.get("class_path")), ""),
        **{key: str((data.get("init_args") or {}).get(key) or "") for key in ("mean", "std")},
    }
    return {name: value for name, value in told.items() if value} if config else {}


def _built(described: Any) -> str:
    """A network of a configuration, as a call."""
    if not isinstance(described, dict):
        return f"`{described}`" if described else ""
    given = (described.get("init_args") or {}).items()
    arguments = ", ".join(f"{key}={value!r}" for key, value in given if value is not None)
    return f"`{described.get('class_path', '')}({_public(arguments)})`"


def _figures(run: FinishedRun, variant: Variant) -> str:
    """The ANN, the uncalibrated network and this one, on every split that was evaluated."""
    shown = ("ann", "snn_uncalibrated", variant.name)
    rows = [
        row
        for row in run.results
        if row.method in shown and row.timesteps in (None, variant.timesteps)
    ]
    measure = measure_of(run.results)
    cells = [[*_network(row), measure.cell(row.accuracy), *_samples(row)] for row in rows]
    head = ["network", "T", measure.axis, "samples", "split", "seed of the calibration draw"]
    note = training_note([row for row in rows if row.method == variant.name])
    return "\n\n".join(filter(None, [f"## {measure.heading}", table(head, cells), note]))


def _network(row: Result) -> list[str]:
    return [label_of(row.method), str(row.timesteps or "")]


def _samples(row: Result) -> list[str]:
    return [str(row.n), SPLITS.get(row.split, row.split), "" if row.seed is None else str(row.seed)]


def _energy(run: FinishedRun, variant: Variant) -> str:
    """Additions and energy of a sample, if they were measured."""
    costs = {(row.method, row.timesteps): row for row in run.measured.operations}
    own, ann = costs.get((variant.name, variant.timesteps)), costs.get(("ann", 1))
    if own is None or ann is None:
        return ""
    head = ["network", "T", "multiplications", "additions of spikes", "nJ"]
    cells = [
        [
            *(label_of(row.method), "" if row is ann else str(row.timesteps)),
            *(f"{row.macs_once:,.0f}", f"{row.acs:,.0f}", f"{row.energy_once:,.1f}"),
        ]
        for row in (ann, own)
    ]
    note = (
        f"For one sample by the cost table {own.table}, the first layer computed once: an estimate "
        "from counted operations, not measured on a chip."
    )
    return "\n\n".join(["## Operations and energy", table(head, cells), note])


def _command(folder: Path) -> str:
    """The command that made the run, without the folders of whoever ran it."""
    try:
        words = json.loads((folder / "run.json").read_text())["val"]["command"]
        text = shlex.join(["ftbc", *(_public(str(word)) for word in words[1:])])
    except (OSError, ValueError, LookupError, TypeError):
        return ""
    return f"## How it was made\n\n```\n{text}\n```"


def _public(text: str) -> str:
    """A text with the names of files in place of whole paths.

    >>> _public("--data.root=/home/me/data"), _public("configs/digits_cnn.yaml")
    ('--data.root=data', 'configs/digits_cnn.yaml')
    """
    return FOLDERS.sub("", text)
