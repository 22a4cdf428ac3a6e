"""What loggers are sent: the same names and curves to each."""

import csv
import json
import sys
from types import SimpleNamespace

import pytest

from ftbc_lightning.cli import main, run
from ftbc_lightning.report.run_folder import read_run
from ftbc_lightning.training.callbacks import ftbc, loggers
from ftbc_lightning.training.callbacks.loggers import finished_runs
from ftbc_lightning.training.trainer import Trainer
from tests.conftest import ROOT
from tests.wandb_file import OfflineRun

LOGGERS = ROOT / "configs" / "logger"


def test_the_offline_run_of_wandb_holds_curves_axes_and_summary(fitted, tmp_path):
    # A calibration, and nothing between its end and the reading: the file is whole by then.
    path = str(fitted.folder / "ann.ckpt")
    config = ["--config", str(LOGGERS / "wandb.yaml"), "--timesteps", "1,2"]
    config += ["--calibration.methods", "[static, exact]"]
    cli = run(fitted.args("calibrate", *config, "--ckpt_path", path, folder=tmp_path))
    found, results = OfflineRun(tmp_path), cli.model.results
    expected = [(r.timesteps, r.accuracy) for r in results if r.method == "snn_ftbc_exact"]
    assert found.curve("acc_by_T/snn_ftbc_exact", "timesteps") == expected
    ann = results[0].accuracy
    assert found.curve("acc_by_T/ann", "timesteps") == [(1, ann), (2, ann)]
    assert [step for step, _ in found.curve("acc_by_step/snn_static", "timestep")] == [1, 2]
    bias = cli.model.network(cli.model.headline()).neurons()["act1"]
    middle = (bias.temporal_bias / bias.threshold).quantile(0.5, dim=1).tolist()
    drawn = [value for _, value in found.curve("bias/act1/q50", "timestep")]
    assert drawn == pytest.approx(middle, rel=1e-5, abs=1e-7)
    for name in ("error/act1/before", "error/act1/after", "firing_rate/act1"):
        assert found.curve(name, "timestep")
    layers = len(cli.model.network(cli.model.headline()).neurons())
    for when in ("before", "after"):
        went = found.curve(f"calibration/snn_ftbc_exact/T2/{when}", "calibration_layer")
        assert [place for place, _ in went] == list(range(1, layers + 1))
    assert found.axes["calibration/*"] == "calibration_layer"
    assert found.axes["acc_by_T/*"] == "timesteps"
    for name in ("acc_by_step/*", "bias/*", "error/*", "firing_rate/*"):
        assert found.axes[name] == "timestep"
    assert found.summary["acc/ann"] == ann
    assert found.summary["acc/snn_ftbc/T2"] == expected[-1][1]
    plain = next(r.accuracy for r in results if r.method == "snn_uncalibrated" and r.timesteps == 2)
    assert found.summary["acc/snn_uncalibrated/T2"] == plain
    assert found.summary["gain/T2"] == pytest.approx(100 * (expected[-1][1] - plain))
    assert found.summary["energy_nJ/snn_ftbc/T2"] > 0
    last = found.history[-1]
    assert last["figures/bias_maps/_type"] == "image-file"
    assert last["activation/act1/_type"] == last["membrane/act1/t1/_type"] == "histogram"
    assert list(tmp_path.glob("logs/version_*/metrics.csv"))
    assert not (ROOT / "wandb").exists()


def test_tensorboard_and_csv_hold_the_same_curves(fitted, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    path = str(fitted.folder / "ann.ckpt")
    config = ["--config", str(LOGGERS / "tensorboard.yaml"), "--calibration.rounds", "2"]
    config += ["--calibration.methods", "[iterative, exact]"]
    cli = run(fitted.args("calibrate", *config, "--ckpt_path", path, folder=tmp_path))
    (folder,) = (tmp_path / "tensorboard").iterdir()
    events = EventAccumulator(str(folder)).Reload()
    expected = {r.timesteps: r.accuracy for r in cli.model.results if r.method == "snn_ftbc_exact"}
    found = {e.step: e.value for e in events.Scalars("acc_by_T/snn_ftbc_exact")}
    assert found == pytest.approx(expected)
    assert "figures/energy" in events.Tags()["images"]
    assert {"activation/act1", "membrane/act1/t1"} <= set(events.Tags()["histograms"])
    layers = len(cli.model.network(cli.model.headline()).neurons())
    went = {
        when: [e.value for e in events.Scalars(f"calibration/snn_ftbc_iterative/T2/{when}")]
        for when in ("before", "after")
    }
    assert len(went["before"]) == len(went["after"]) == 2 * layers  # two rounds
    assert sum(went["after"][layers:]) < sum(went["before"][:layers])
    (metrics,) = tmp_path.glob("logs/version_*/metrics.csv")
    with metrics.open() as file:
        rows = list(csv.DictReader(file))
    written = {
        int(float(row["timesteps"])): float(row["acc_by_T/snn_ftbc_exact"])
        for row in rows
        if row["timesteps"]
    }
    assert written == pytest.approx(expected)
    assert any(row["acc/snn_ftbc/T2"] for row in rows)
    for when, values in went.items():
        column = [row[f"calibration/snn_ftbc_iterative/T2/{when}"] for row in rows]
        assert [float(value) for value in column if value] == pytest.approx(values)


def test_mlflow_holds_the_same_curves_with_pictures_table_and_settings(
    fitted, tmp_path, monkeypatch
):
    pytest.importorskip("mlflow")
    from mlflow import MlflowClient

    monkeypatch.chdir(tmp_path)
    path = str(fitted.folder / "ann.ckpt")
    config = ["--config", str(LOGGERS / "mlflow.yaml"), "--calibration.methods", "[exact]"]
    folder = tmp_path / "run"
    cli = run(fitted.args("calibrate", *config, "--ckpt_path", path, folder=folder))
    client = MlflowClient("sqlite:///mlflow.db")
    (made,) = client.search_runs([client.get_experiment_by_name("ftbc").experiment_id])
    results, number = cli.model.results, made.info.run_id

    def curve(name):
        return {point.step: point.value for point in client.get_metric_history(number, name)}

    expected = {r.timesteps: r.accuracy for r in results if r.method == "snn_ftbc_exact"}
    assert curve("acc_by_T/snn_ftbc_exact") == expected
    assert set(curve("acc_by_step/snn_ftbc_exact")) == {1, 2}
    assert {*curve("bias/act1/q50")} == {*curve("error/act1/after")} == {1, 2}
    layers = len(cli.model.network(cli.model.headline()).neurons())
    for when in ("before", "after"):
        went = curve(f"calibration/snn_ftbc_exact/T2/{when}")
        assert list(went) == list(range(1, layers + 1))
    assert made.data.metrics["acc/ann"] == results[0].accuracy
    assert made.data.metrics["acc/snn_ftbc/T2"] == expected[2]
    assert made.data.metrics["energy_nJ/snn_ftbc/T2"] > 0
    assert "SmallCNN" in made.data.params["network/class_path"]
    assert made.info.status == "FINISHED"
    kept = tmp_path / made.info.artifact_uri
    assert (kept / "figures" / "energy.png").stat().st_size > 0
    assert "activation/act1" in json.loads((kept / "histograms.json").read_text())
    with (kept / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    found = {int(row["T"]): row for row in rows if row["method"] == "snn_ftbc_exact"}
    assert {t: float(row["accuracy"]) for t, row in found.items()} == expected


def test_what_waits_for_mlflow_is_sent_in_requests_that_it_takes(monkeypatch):
    sent = []
    client = SimpleNamespace(log_batch=lambda run, metrics: sent.append((run, metrics)))
    entities = SimpleNamespace(Metric=lambda *values: values)
    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace(entities=entities))
    monkeypatch.setitem(sys.modules, "mlflow.entities", entities)
    way = loggers.MLflow(SimpleNamespace(experiment=client, run_id="a"))
    loggers.log_rows([way], ({"timestep": step, "x": 1.0, "y": 2.0} for step in range(600)))
    assert [(run, len(metrics)) for run, metrics in sent] == [("a", 1000), ("a", 200)]
    assert [point[0] for point in sent[0][1][:3]] == ["x", "y", "x"]
    assert [point[3] for point in sent[0][1][:3]] == [0, 0, 1]
    way.send()
    assert len(sent) == 2


@pytest.mark.parametrize("name", ["mlflow", "tensorboard"])
def test_a_logger_whose_package_is_missing_is_one_line(fitted, tmp_path, monkeypatch, capsys, name):
    monkeypatch.setattr(loggers, "find_spec", lambda package: None)
    config = ["--config", str(LOGGERS / f"{name}.yaml")]
    assert main(fitted.args("calibrate", *config, folder=tmp_path)) == 2
    said = capsys.readouterr().err
    assert f"needs {name}, which is not installed: pip install {name} (the extra" in said
    assert said.count("\n") == 1


def test_a_run_of_wandb_that_was_there_before_is_left_open(monkeypatch):
    calls = []
    wandb = SimpleNamespace(run=None, finish=lambda **k: calls.append(k), teardown=calls.append)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    wandb.run = "begun in a notebook"
    with finished_runs():
        pass
    assert calls == []
    wandb.run, wandb.teardown = None, lambda **k: calls.append("teardown")

    @finished_runs()
    def command():
        wandb.run = "begun by the command"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        command()
    assert calls == [{"exit_code": 1}, "teardown"]


def test_only_the_first_process_logs_how_the_calibration_went(fitted, tmp_path, monkeypatch):
    rows = []
    monkeypatch.setattr(ftbc, "log_rows", lambda loggers, found: rows.append(loggers))
    monkeypatch.setattr(Trainer, "is_global_zero", False)
    command = fitted.args("calibrate", "--calibration.methods", "[exact]", folder=tmp_path)
    run([*command, "--ckpt_path", str(fitted.folder / "ann.ckpt")])
    assert rows == [[]] * len(rows) != []


def test_an_evaluation_of_an_ann_measures_nothing(fitted, tmp_path):
    path = str(fitted.folder / "ann.ckpt")
    run(fitted.args("validate", "--ckpt_path", path, folder=tmp_path))
    assert not (tmp_path / "curves").exists()


class Noted(loggers.Plain):
    def __init__(self, draws):
        self.draws, self.logger, self.samples = draws, None, {}

    def curve(self, axis, row): ...

    def summary(self, numbers): ...

    def show(self, samples, histograms, results):
        self.samples = samples


@pytest.mark.parametrize(("draws", "times"), [([True, True], 7), ([False], 0)])
def test_a_sample_is_drawn_once_for_all_loggers_and_not_at_all_for_none(
    fitted, monkeypatch, draws, times
):
    drawn, noted = [], [Noted(each) for each in draws]
    monkeypatch.setattr(loggers, "pixels", drawn.append)
    monkeypatch.setattr(loggers, "takers", lambda _: noted)
    loggers.log([], fitted.cli.model, read_run(fitted.folder).measured)
    assert [len(each.samples) for each in noted] == [times] * len(noted)
    assert len(drawn) == times
