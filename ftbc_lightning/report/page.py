"""`report.html`: one page that holds everything, for people who were not there."""

import io
import re
import shlex
from importlib.metadata import version
from typing import Any

import matplotlib
import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup
from matplotlib.figure import Figure

from ftbc_lightning.analysis.energy import COST_TABLES
from ftbc_lightning.files.run_configuration import is_finetuning
from ftbc_lightning.report.measure import measure_of
from ftbc_lightning.report.multiplications import multiplications_saved
from ftbc_lightning.report.pictures import Picture, layer_pictures, steps_picture
from ftbc_lightning.report.rows import Result
from ftbc_lightning.report.run_folder import FinishedRun
from ftbc_lightning.report.style import label_of
from ftbc_lightning.report.tables import training_note
from ftbc_lightning.report.verdict import recommend, worst_layers
from ftbc_lightning.snn.neurons.settings import PLAIN_NEURONS

SHOWN_LAYERS = 5


def page(run: FinishedRun) -> str:
    """The page as HTML, with its pictures inside."""
    environment = Environment(
        loader=PackageLoader("ftbc_lightning", "report"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    measured = run.measured
    pictures = [steps_picture(run.results, run.steps), *layer_pictures(measured)]
    before, after = measured.of(calibrated=False), measured.of(calibrated=True)
    recommendation = recommend(run.split("val"))
    plain = recommendation.chosen.method == "snn_uncalibrated" and bool(before)
    used = {row.table for row in measured.operations}
    return environment.get_template("page.html.jinja").render(
        name=run.folder.resolve().name,
        recommendation=recommendation,
        measure=recommendation.measure,
        neurons=_neurons(run),
        trained=training_note(run.results),
        tables=[_table(run, split) for split in ("val", "test") if run.split(split)],
        tested=_tested(run),
        layers=worst_layers(before, after, plain=plain),
        shown=SHOWN_LAYERS,
        timesteps=measured.timesteps,
        calibrated=label_of(measured.shown),
        ranked=label_of("snn_uncalibrated" if plain else measured.shown),
        operations=[
            (label_of(row.method), row)
            for row in sorted(measured.operations, key=lambda row: row.method)
        ],
        functions=any(row.function_values for row in measured.operations),
        saved=multiplications_saved(measured),
        costs=[table for name, table in COST_TABLES.items() if name in used],
        pictures=[(picture, Markup(_svg(picture))) for picture in pictures],
        settings=_settings(run.config),
        config=yaml.safe_dump(run.config, sort_keys=False) if run.config else "",
        commands=_commands(run),
        uses=_uses(run, recommendation.chosen),
        versions={name: version(name) for name in ("ftbc-lightning", "torch", "lightning")},
    )


def _table(run: FinishedRun, split: str) -> dict[str, Any]:
    rows = run.split(split)
    steps = sorted({row.timesteps for row in rows if row.timesteps})
    methods = dict.fromkeys(row.method for row in rows)
    cells = {(row.method, row.timesteps): row.accuracy for row in rows}
    return {
        "split": {"val": "validation", "test": "test"}[split],
        "n": rows[0].n,
        "seed": rows[0].seed,
        "steps": steps,
        "rows": [
            (
                method,
                label_of(method),
                [cells.get((method, t), cells.get((method, None))) for t in steps],
            )
            for method in methods
        ],
    }


def _neurons(run: FinishedRun) -> str:
    """What neurons and weights ask of a chip, if they are others than plain ones."""
    found = run.variants[0].neurons if run.variants else PLAIN_NEURONS
    bits = run.variants[0].weight_bits if run.variants else None
    rounded = "" if bits is None else f"Weights: rounded to {bits} bits. "
    if not found.needs:
        return rounded
    return rounded + (
        f"Neurons: {found.name}. Beside integrate and fire a chip needs {'; '.join(found.needs)}. "
        "Compare these figures with those of networks of the same neurons."
    )


def _tested(run: FinishedRun) -> str:
    """What the chosen network reaches on test samples, if a test run was made."""
    chosen = recommend(run.split("val")).chosen
    rows = run.split("test")
    found = [r for r in rows if (r.method, r.timesteps) == (chosen.method, chosen.timesteps)]
    ann = [row for row in rows if row.method == "ann"]
    if not found or not ann:
        return ""
    measure = measure_of(found)
    return (
        f"On {found[0].n} test samples, which chose nothing: {measure.said(found[0].accuracy)}, "
        f"the ANN {measure.said(ann[0].accuracy)}."
    )


def _svg(picture: Picture) -> str:
    """The figure as SVG inside the page: black becomes the text colour of light or dark mode."""
    text = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": picture.name}):
        _without_background(picture.figure)
        picture.figure.savefig(text, format="svg", metadata={"Date": None}, transparent=True)
    drawing = text.getvalue()[text.getvalue().index("<svg") :]
    drawing = re.sub(r"<metadata>.*?</metadata>", "", drawing, flags=re.DOTALL)
    drawing = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", drawing, count=1, flags=re.DOTALL)
    drawing = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", drawing, count=1, flags=re.DOTALL)
    drawing = drawing.replace("#000000", "currentColor")
    # Text without a colour of its own is black, and an id may stand once in a page.
    drawing = re.sub(r"<text (?![^>]*fill:)", '<text fill="currentColor" ', drawing)
    drawing = re.sub(r'id="([^"]+)"', rf'id="{picture.name}-\1"', drawing)
    drawing = re.sub(r"url\(#([^)]+)\)", rf"url(#{picture.name}-\1)", drawing)
    return re.sub(r'href="#([^"]+)"', rf'href="#{picture.name}-\1"', drawing)


def _without_background(figure: Figure) -> None:
    for legend in figure.legends:
        legend.set_frame_on(False)


def _settings(config: dict[str, Any]) -> list[tuple[str, str]]:
    """What a person changes most, as name and value."""
    model, data = config.get("model") or {}, config.get("data") or {}
    network = model.get("network") or {}
    named = {
        "network": network.get("class_path", "") if isinstance(network, dict) else network,
        "weights": model.get("weights"),
        "data": data.get("class_path"),
        **(data.get("init_args") or {}),
        "timesteps": ", ".join(map(str, config.get("timesteps") or [])),
        **(config.get("calibration") or {}),
        "epochs": (config.get("trainer") or {}).get("max_epochs"),
        "seed": config.get("seed_everything"),
    }
    return [
        (
            name.replace("_", " "),
            ", ".join(map(str, value)) if isinstance(value, list) else str(value),
        )
        for name, value in named.items()
        if value not in (None, "")
    ]


def _uses(run: FinishedRun, chosen: Result) -> list[str]:
    """How to use the network that is recommended."""
    path = run.folder / "snn.ckpt"
    methods = {variant.name: variant.method for variant in run.variants}
    if run.config_file is None or chosen.method not in methods:
        return []
    which = f"--ckpt_path {shlex.quote(str(path))} --method {methods[chosen.method]}"
    samples = " --data.folder IMAGES" if run.reads_images else ""
    functions = (run.config.get("calibration") or {}).get("functions", "refuse")
    format = "safetensors" if functions == "refuse" else "torch_export"
    return [
        f"ftbc predict {which} --at {chosen.timesteps}{samples}",
        f"ftbc export {which} --timesteps {chosen.timesteps} --format {format}",
        f"ftbc diagnose {which} --at {chosen.timesteps}",
    ]


def _commands(run: FinishedRun) -> list[str]:
    """How to make the run again, and how to test it."""
    if run.config_file is None:
        return []
    trained = run.config.get("ckpt_path") or (run.config.get("model") or {}).get("weights")
    subcommand = "calibrate" if trained else "fit"
    subcommand = "finetune" if is_finetuning(run.config) else subcommand
    config, file, folder = (
        shlex.quote(str(path)) for path in (run.config_file, run.folder / "snn.ckpt", run.folder)
    )
    return [
        f"ftbc {subcommand} --config {config}",
        f"ftbc test --config {config} --ckpt_path {file}",
        f"ftbc report {folder}",
    ]
