"""The dashboard of a Weights & Biases project, as code: calibrated against uncalibrated."""

from typing import Any

from ftbc_lightning.errors import UserError
from ftbc_lightning.report.pictures import PICTURES
from ftbc_lightning.report.style import STYLES, label_of

NAME = "ANN to SNN: calibrated against uncalibrated"
COMPARED = tuple(name for name in STYLES if name == "ann" or name.startswith("snn_"))
AT = 4
"""The T that runs are compared at in bars and tables."""


def definition(project: str, entity: str) -> Any:
    """The workspace, which nothing has been sent of yet."""
    try:
        import wandb_workspaces.reports.v2 as wr
        import wandb_workspaces.workspaces as ws
    except ImportError as error:
        raise UserError(
            "`ftbc dashboard` needs one more package: pip install wandb-workspaces (the extra "
            "`dashboard` of this one)."
        ) from error

    def lines(title: str, prefix: str, axis: str, title_x: str) -> Any:
        names = [f"{prefix}/{method}" for method in COMPARED]
        return wr.LinePlot(
            title=title,
            x=axis,
            y=names,
            title_x=title_x,
            title_y="accuracy",
            line_titles={f"{prefix}/{m}": label_of(m) for m in COMPARED},
            line_colors={f"{prefix}/{m}": _color(m) for m in COMPARED},
        )

    def grouped(title: str, pattern: str, title_y: str, axis: str = "timestep") -> Any:
        return wr.LinePlot(
            title=title,
            x=axis,
            metric_regex=pattern,
            title_x="time step" if axis == "timestep" else "layer, round after round",
            title_y=title_y,
        )

    def bars(title: str, *names: str) -> Any:
        return wr.BarPlot(title=title, metrics=[wr.SummaryMetric(name) for name in names])

    compared = [f"acc/{m}" if m == "ann" else f"acc/{m}/T{AT}" for m in COMPARED]
    energies = ["energy_nJ/ann", f"energy_nJ/ann_quantized/T{AT}", f"energy_nJ/snn_ftbc/T{AT}"]
    went = "calibration_layer"
    sections = {
        "Accuracy": [
            lines("Accuracy by T", "acc_by_T", "timesteps", "time steps T"),
            lines("Accuracy after each step", "acc_by_step", "timestep", "time step"),
            bars(f"Accuracy at T = {AT}", *compared),
            bars("Gain of calibration, points", *(f"gain/T{t}" for t in (1, 2, 4, 8, 16))),
        ],
        "Energy": [
            bars("nJ for a sample (estimate)", *energies),
            wr.MediaBrowser(title="Accuracy against energy", media_keys=["figures/energy"]),
        ],
        "Layers": [
            grouped("Error by layer, uncalibrated", "^error/.*/before$", "error / activation"),
            grouped("Error by layer, calibrated", "^error/.*/after$", "error / activation"),
            grouped("Temporal bias, median over channels", "^bias/.*/q50$", "bias / threshold"),
            grouped("Firing rate", "^firing_rate/", "spikes for each neuron and step"),
            *(
                wr.MediaBrowser(title=title, media_keys=[f"figures/{name}"])
                for name, title in PICTURES.items()
            ),
        ],
        "Calibration, layer by layer": [
            grouped(title, f"^calibration/.*/T{AT}/{when}$", "error / threshold", went)
            for title, when in (("Error met", "before"), ("Error left", "after"))
        ],
        "Settings": [wr.RunComparer(diff_only="split")],
    }
    return ws.Workspace(
        entity=entity,
        project=project,
        name=NAME,
        sections=[ws.Section(name=n, panels=p, is_open=True) for n, p in sections.items()],
    )


def _color(method: str) -> str:
    color = str(STYLES[method]["color"])
    return "#000000" if color == "black" else color
