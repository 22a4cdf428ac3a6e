"""How each logger takes what is logged: Weights & Biases, TensorBoard, MLflow, CSV and others."""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from time import time
from typing import Any

import numpy as np
from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from ftbc_lightning.errors import UserError
from ftbc_lightning.report.measure import measure_of
from ftbc_lightning.report.pictures import layer_pictures
from ftbc_lightning.report.rows import Measurements, Result
from ftbc_lightning.report.style import Pixels, pixels
from ftbc_lightning.training.callbacks import log_rows as logged
from ftbc_lightning.training.module import SpikingClassifier

Histograms = Mapping[str, tuple[Sequence[float], Sequence[float]]]

OF_LAYERS = ("bias/", "error/", "firing_rate/")
"""Curves that have a file of their own beside that of the plain loggers, whose rows stay short."""


class Plain:
    """A logger that takes numbers alone."""

    draws = False

    def __init__(self, logger: Any) -> None:
        self.logger = logger

    def curve(self, axis: str, row: Mapping[str, float]) -> None:
        """One point of each curve in a row; `row[axis]` is where it lies."""
        self.logger.log_metrics({k: v for k, v in row.items() if not k.startswith(OF_LAYERS)})

    def send(self) -> None:
        """Send what has waited; called when the rows of some curves are complete."""

    def show(
        self, pictures: Mapping[str, Pixels], histograms: Histograms, results: Sequence[Result]
    ) -> None:
        """Pictures, histograms and the table of results."""

    def summary(self, numbers: Mapping[str, float]) -> None:
        """What runs are compared by; the last that is logged."""
        self.logger.log_metrics(numbers)
        self.logger.save()


class TensorBoard(Plain):
    """TensorBoard: each axis is its step."""

    draws = True

    def curve(self, axis: str, row: Mapping[str, float]) -> None:
        """A point of each curve, the axis being the step."""
        for name in row.keys() - {axis}:
            self.logger.experiment.add_scalar(name, row[name], int(row[axis]))

    def show(
        self, pictures: Mapping[str, Pixels], histograms: Histograms, results: Sequence[Result]
    ) -> None:
        """Pictures and histograms."""
        for name, picture in pictures.items():
            self.logger.experiment.add_image(f"figures/{name}", picture, dataformats="HWC")
        for name, (shares, edges) in histograms.items():
            middles = (np.asarray(edges[:-1]) + np.asarray(edges[1:])) / 2
            self.logger.experiment.add_histogram_raw(
                name,
                min=edges[0],
                max=edges[-1],
                num=sum(shares),
                sum=float(np.dot(shares, middles)),
                sum_squares=float(np.dot(shares, middles**2)),
                bucket_limits=edges[1:],
                bucket_counts=shares,
            )

    def summary(self, numbers: Mapping[str, float]) -> None:
        """Scalars without an axis."""
        for name, value in numbers.items():
            self.logger.experiment.add_scalar(f"summary/{name}", value)
        self.logger.experiment.flush()


class WeightsAndBiases(Plain):
    """Weights & Biases: axes are declared, so that its charts are drawn over them by themselves."""

    draws = True

    def __init__(self, logger: Any) -> None:
        super().__init__(logger)
        self.declared: set[str] = set()

    def curve(self, axis: str, row: Mapping[str, float]) -> None:
        """A point of each curve, the axis being a value beside it."""
        run = self.logger.experiment
        if axis not in self.declared:
            self.declared.add(axis)
            run.define_metric(axis, hidden=True)
            for name in logged.AXES[axis]:
                run.define_metric(name, step_metric=axis, summary="none")
        run.log(dict(row))

    def show(
        self, pictures: Mapping[str, Pixels], histograms: Histograms, results: Sequence[Result]
    ) -> None:
        """Everything in one row: chart, table, pictures and histograms."""
        import wandb
        from PIL import Image

        measure = measure_of(results)
        steps = sorted({row.timesteps for row in results if row.timesteps})
        by_t: dict[str, list[float]] = {}
        for t in steps:
            for row in results:
                if row.timesteps in (None, t):
                    by_t.setdefault(row.method, []).append(row.accuracy)
        chart = wandb.plot.line_series(
            xs=steps,
            ys=list(by_t.values()),
            keys=list(by_t),
            title=f"{measure.heading} by time steps T",
            xname="time steps T",
        )
        columns, cells = _table(results)
        shown: dict[str, Any]
        shown = {f"figures/{n}": wandb.Image(Image.fromarray(p)) for n, p in pictures.items()}
        shown |= {
            name: wandb.Histogram(np_histogram=(np.asarray(shares), np.asarray(edges)))
            for name, (shares, edges) in histograms.items()
        }
        table = wandb.Table(columns=columns, data=cells)
        self.logger.experiment.log({f"{measure.key}_by_T_chart": chart, "results": table, **shown})

    def summary(self, numbers: Mapping[str, float]) -> None:
        """The columns of the table of runs."""
        self.logger.experiment.summary.update(numbers)


class MLflow(Plain):
    """MLflow: each axis is its step; a request takes many points, because each is a transaction."""

    draws = True
    most = 1000
    """Points in a request, as the store allows."""

    def __init__(self, logger: Any) -> None:
        super().__init__(logger)
        self.waiting: list[Any] = []

    def curve(self, axis: str, row: Mapping[str, float]) -> None:
        """A point of each curve, the axis being the step; sent later."""
        from mlflow.entities import Metric

        now, step = int(1000 * time()), int(row[axis])
        self.waiting += [Metric(name, row[name], now, step) for name in row if name != axis]

    def send(self) -> None:
        """Send the points."""
        for first in range(0, len(self.waiting), self.most):
            part = self.waiting[first : first + self.most]
            self.logger.experiment.log_batch(self.logger.run_id, metrics=part)
        self.waiting = []

    def show(
        self, pictures: Mapping[str, Pixels], histograms: Histograms, results: Sequence[Result]
    ) -> None:
        """Pictures, and files with the histograms and the table of results."""
        client, run = self.logger.experiment, self.logger.run_id
        for name, picture in pictures.items():
            client.log_image(run, picture, artifact_file=f"figures/{name}.png")
        bins = {name: {"shares": one, "edges": edges} for name, (one, edges) in histograms.items()}
        client.log_text(run, json.dumps(bins), "histograms.json")
        columns, cells = _table(results)
        lines = [columns, *(["" if value is None else value for value in row] for row in cells)]
        text = "".join(",".join(map(str, line)) + "\n" for line in lines)
        client.log_text(run, text, "results.csv")


def _table(results: Sequence[Result]) -> tuple[list[str | int], list[list[Any]]]:
    """The columns and cells of the table of results."""
    columns: list[str | int] = ["method", "T", measure_of(results).name, "n", "seconds"]
    return columns, [[r.method, r.timesteps, r.accuracy, r.n, r.seconds] for r in results]


WAYS: dict[type[Logger], type[Plain]] = {
    WandbLogger: WeightsAndBiases,
    TensorBoardLogger: TensorBoard,
    MLFlowLogger: MLflow,
}
"""What each kind of logger is given; one more is one line here, every other gets numbers alone."""


EXTRAS = {"TensorBoardLogger": ("tensorboard", "tensorboardX"), "MLFlowLogger": ("mlflow",)}
"""The packages of which a logger needs one; the first is the name of the extra, too."""


def check_installed(class_path: str) -> None:
    """Raise `UserError` where a logger's package is missing.

    >>> check_installed("lightning.pytorch.loggers.CSVLogger")
    """
    packages = EXTRAS.get(class_path.rpartition(".")[2], ())
    if packages and not any(map(find_spec, packages)):
        raise UserError(
            f"The logger {class_path} needs {packages[0]}, which is not installed: pip install "
            f"{packages[0]} (the extra `{packages[0]}` of this package)."
        )


def takers(loggers: Iterable[Logger]) -> list[Plain]:
    """The way of each logger."""
    return [
        next((way for kind, way in WAYS.items() if isinstance(logger, kind)), Plain)(logger)
        for logger in loggers
    ]


def log_rows(loggers: Iterable[Plain], rows: Iterable[dict[str, float]]) -> None:
    """Give rows of curves to every logger; the first name of a row is its axis."""
    loggers = list(loggers)
    for row in rows if loggers else ():
        for logger in loggers:
            logger.curve(next(iter(row)), row)
    for logger in loggers:
        logger.send()


def log(loggers: Iterable[Logger], module: SpikingClassifier, found: Measurements) -> None:
    """Log curves, pictures, histograms and summary; a picture is drawn once, if anyone shows it.

    Args:
        loggers: Of the trainer.
        module: Calibrated and evaluated.
        found: What was measured.
    """
    ways = takers(loggers)
    log_rows(ways, logged.by_timesteps(module))
    log_rows(ways, logged.by_timestep(module, found))
    pictures = {}
    if any(way.draws for way in ways):
        pictures = {picture.name: pixels(picture.figure) for picture in layer_pictures(found)}
    for way in ways:
        way.show(pictures, logged.histograms(found), module.results)
        way.summary(logged.summary(module, found))


@contextmanager
def finished_runs() -> Iterator[None]:
    """End the Weights & Biases run that is begun inside, and wait until its file is whole.

    To finish a run is not enough: it returns while the service process still writes the last rows
    and the summary. The service has written them when it is taken down. A run that was there
    before, in a notebook for instance, is left to whoever began it.
    """
    before = _wandb_run()
    failed = True
    try:
        yield
        failed = False
    finally:
        if before is None and _wandb_run() is not None:
            wandb = sys.modules["wandb"]
            wandb.finish(exit_code=int(failed))
            wandb.teardown(exit_code=int(failed))


def _wandb_run() -> Any:
    """The run that is open in this process; nothing is imported to find out."""
    return getattr(sys.modules.get("wandb"), "run", None)
