"""One of each kind from outside the package is in the help, is refused by nobody, and runs."""

import csv

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from torch import nn

from ftbc_lightning import UserError, export
from ftbc_lightning.analysis.network_variants import Variant
from ftbc_lightning.calibration.layer import LayerError, correct_step_by_step
from ftbc_lightning.calibration.stage import Stage
from ftbc_lightning.calibration.stages import STAGES, of_kind
from ftbc_lightning.calibration.static import as_it_is, static
from ftbc_lightning.cli import main
from ftbc_lightning.data import DigitsDataModule
from ftbc_lightning.data.in_memory import InMemorySamples
from ftbc_lightning.graph import linear
from ftbc_lightning.interchange.formats import FORMATS, Format
from ftbc_lightning.snn.neurons import NEURON_MODELS
from ftbc_lightning.snn.neurons.integrate_and_fire import IFNeuron
from ftbc_lightning.snn.thresholds import RULES, Rule
from ftbc_lightning.training.callbacks import loggers
from ftbc_lightning.training.reload import reload
from ftbc_lightning.training.tasks import TASKS, Classification
from tests.conftest import DIGITS, digits


def shown(capsys, *words):
    with pytest.raises(SystemExit):
        main([*words, "--help"])
    return " ".join(capsys.readouterr().out.split())


def methods(folder):
    with (folder / "results.csv").open() as file:
        return {row["method"] for row in csv.DictReader(file)}


def calibrated(fitted, folder, *more):
    """`ftbc calibrate` of the digits' network into a folder; True if it went well."""
    command = [*digits("calibrate", folder), "--ckpt_path", str(fitted.folder / "ann.ckpt")]
    return main([*command, "--calibration.methods", "[exact]", *more]) == 0


def test_a_threshold_rule(fitted, tmp_path, monkeypatch, capsys):
    seen = []

    def twice_the_mean(layer):
        seen.append(layer.name)
        return 2 * layer.statistics.total / layer.statistics.count

    there = ", ".join(RULES)
    monkeypatch.setitem(RULES, "twice_the_mean", Rule(twice_the_mean))
    assert f"{there}, twice_the_mean." in shown(capsys, "fit")
    assert calibrated(fitted, tmp_path, "--calibration.threshold_rule", "twice_the_mean")
    assert len(seen) == 2 * 6  # T = 1 and 2, six layers; for none and exact together
    assert "snn_ftbc_exact" in methods(tmp_path)


class Silent(IFNeuron):
    """A neuron that never fires."""

    def forward(self, current, membrane=None, start=0, *, out=None):
        membrane = self.rest(current) if membrane is None else membrane
        return torch.zeros_like(current), membrane


def test_a_neuron(fitted, tmp_path, monkeypatch, capsys):
    there = ", ".join(NEURON_MODELS)
    monkeypatch.setitem(NEURON_MODELS, "silent", Silent)
    assert f"There are: {there}, silent." in shown(capsys, "fit")
    assert calibrated(fitted, tmp_path, "--calibration.neuron", "silent")
    with (tmp_path / "results.csv").open() as file:
        found = {row["method"]: float(row["accuracy"]) for row in csv.DictReader(file)}
    assert found["snn_ftbc_exact"] < 0.2 < 0.9 < found["ann"]
    network = reload(tmp_path / "snn.ckpt").network(Variant("exact", 2))
    assert all(type(neuron) is Silent for neuron in network.neurons().values())
    with pytest.raises(UserError, match="neurons of this network are silent"):
        export(network, tmp_path / "a.safetensors")


def test_a_calibration_stage(fitted, tmp_path, monkeypatch, capsys):
    def half_of_static(layer):
        _, first = static(layer)
        layer.neuron.temporal_bias /= 2
        trains, last = correct_step_by_step(layer, as_it_is)
        return trains, LayerError(first.before, last.after)

    stage = Stage("biases", "half", "half of the static bias", lambda settings: half_of_static, 3)
    there = ", ".join(of_kind("biases"))
    monkeypatch.setitem(STAGES, "half", stage)
    assert f"{there}, half." in shown(capsys, "fit")
    assert calibrated(fitted, tmp_path, "--calibration.methods", "[static,half,weights+half]")
    assert {"snn_static", "snn_half", "snn_weights_half"} <= methods(tmp_path)
    assert "SNN + weights + half of the static bias" in capsys.readouterr().out
    module = reload(tmp_path / "snn.ckpt")
    whole, half = (module.network(Variant(name, 2)).neurons() for name in ("static", "half"))
    first = next(iter(whole))
    assert torch.equal(half[first].temporal_bias, whole[first].temporal_bias / 2)


@torch.fx.wrap
def backwards(values):
    """The channels in the opposite order: an operation that the package does not know."""
    return values.flip(1)


class Backwards(nn.Module):
    """It stands between two layers of neurons."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3)
        self.last = nn.Linear(64, 10)

    def forward(self, images):
        x = backwards(self.first(images).relu())
        return self.last(self.second(x).relu().flatten(1))


def test_an_operation_of_the_graph(tmp_path, monkeypatch, capsys):
    words = ["--config", str(DIGITS), "--model.network", f"{__name__}.Backwards"]
    words += ["--trainer.default_root_dir", str(tmp_path), "--data.calibration_samples", "64"]
    with pytest.raises(SystemExit):
        main(["inspect", *words])
    assert "backwards" in capsys.readouterr().out
    monkeypatch.setattr(linear, "LINEAR_FUNCTIONS", linear.LINEAR_FUNCTIONS | {backwards})
    assert main(["inspect", *words]) == 0
    assert main(["calibrate", *words, "--timesteps", "2", "--trainer.logger", "false"]) == 0
    assert "snn_ftbc_exact" in methods(tmp_path)


def test_an_export_format(fitted, tmp_path, monkeypatch, capsys):
    def thresholds_as_text(snn, path, bias, input_shape):
        path.write_text("\n".join(f"{n} {v.threshold.mean()}" for n, v in snn.neurons().items()))

    there = ", ".join(FORMATS)
    monkeypatch.setitem(FORMATS, "text", Format(".txt", "thresholds alone", thresholds_as_text))
    path = tmp_path / "thresholds.txt"
    words = ["--ckpt_path", str(fitted.folder / "snn.ckpt"), "--output", str(path)]
    assert main(["export", *words, "--format", "text"]) == 0
    assert path.read_text().startswith("act1 ")
    assert f"{there}, text" in shown(capsys, "export")


class Margin(Classification):
    """Hinge loss in place of cross entropy."""

    def loss(self, outputs, labels, images):
        return nn.functional.multi_margin_loss(outputs, labels)


def test_a_task(tmp_path, monkeypatch, capsys):
    there = ", ".join(TASKS)
    monkeypatch.setitem(TASKS, "margin", Margin)
    assert f"judged by. There are: {there}, margin." in shown(capsys, "fit")
    command = [*digits("fit", tmp_path), "--model.task", "margin"]
    assert main([*command, "--calibration.methods", "[exact]"]) == 0
    with (tmp_path / "results.csv").open() as file:
        found = {row["method"]: float(row["accuracy"]) for row in csv.DictReader(file)}
    assert found["ann"] > 0.8
    assert type(reload(tmp_path / "snn.ckpt").task) is Margin


class Told(CSVLogger):
    """A logger of somebody's own."""


def test_a_logger(fitted, tmp_path, monkeypatch, capsys):
    curves = []

    class Way(loggers.Plain):
        def curve(self, axis, row):
            curves.append(axis)

    monkeypatch.setitem(loggers.WAYS, Told, Way)
    logger = ["--trainer.logger", f"{__name__}.Told", "--trainer.logger.save_dir", str(tmp_path)]
    assert calibrated(fitted, tmp_path, *logger)
    assert {"timesteps", "timestep", "calibration_layer"} <= set(curves)


class Negatives(DigitsDataModule):
    """The digits, white on black."""

    def dataset(self, split, *, augmented):
        found = super().dataset(split, augmented=augmented)
        return InMemorySamples(1 - found.images, found.labels)


def test_a_data_set(fitted, tmp_path, capsys):
    assert calibrated(fitted, tmp_path, "--data", f"{__name__}.Negatives")
    with (tmp_path / "results.csv").open() as file:
        accuracy = {row["method"]: float(row["accuracy"]) for row in csv.DictReader(file)}
    assert accuracy["ann"] < 0.5  # a network trained on black digits reads white ones badly
