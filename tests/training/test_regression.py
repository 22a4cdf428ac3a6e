"""Regression: its loss and error by hand, and a run on the diabetes data through every command."""

import ast
import re

import pytest
import torch
from torch import nn

from ftbc_lightning import UserError
from ftbc_lightning.cli import main
from ftbc_lightning.data import DiabetesDataModule, DigitsDataModule
from ftbc_lightning.report.measure import MEASURES, RMSE, measure_of
from ftbc_lightning.report.predicted_values import value_summary
from ftbc_lightning.report.rows import Result
from ftbc_lightning.report.verdict import recommend
from ftbc_lightning.training.metrics import StepAccuracy, StepMeanIoU, StepRMSE
from ftbc_lightning.training.tasks import TASKS, Regression
from tests.conftest import ROOT
from tests.tables import rows

CONFIG = ROOT / "configs" / "diabetes_mlp.yaml"


def command(subcommand, folder, *more):
    """A quiet command on the diabetes data."""
    words = [subcommand, "--config", str(CONFIG), "--trainer.default_root_dir", str(folder)]
    words += ["--trainer.enable_progress_bar", "false"]
    return [*words, "--calibration.methods", "[exact,weights+exact]", *more]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """`ftbc fit` and `ftbc test` with the configuration as it is shipped."""
    folder = tmp_path_factory.mktemp("diabetes")
    assert main(command("fit", folder)) == 0
    assert main(command("test", folder, "--ckpt_path", str(folder / "snn.ckpt"))) == 0
    return folder


# By hand


def test_the_loss_is_the_mean_squared_error_over_samples_and_outputs():
    task = Regression(nn.Linear(2, 2))
    outputs, targets = (
        torch.tensor([[1.0, 2.0], [3.0, 4.0]]),
        torch.tensor([[1.0, 0.0], [0.0, 4.0]]),
    )
    assert float(task.loss(outputs, targets, outputs)) == (0 + 4 + 9 + 0) / 4
    assert task.divergence(outputs, targets, outputs, temperature=3.0) == 13 / 4
    one = torch.tensor([[1.0], [3.0]])
    assert float(task.loss(one, torch.tensor([0, 1]), one)) == (1 + 4) / 2  # targets `[B]`


def test_the_error_after_each_step_over_batches_of_two_sizes():
    metric = StepRMSE(timesteps=2)
    targets = torch.tensor([[1.0, 0.0], [0.0, 0.0], [2.0, 2.0]])
    steps = torch.stack([torch.zeros(3, 2), targets + torch.tensor([1.0, -1.0])])
    for part in (slice(0, 2), slice(2, 3)):
        metric.update(steps[:, part], targets[part])
    assert metric.curve() == pytest.approx([(9 / 6) ** 0.5, 1.0])
    assert metric.samples == 3
    alone = StepRMSE(timesteps=1)
    alone.update(torch.zeros(1, 4, 1), torch.full((4,), 3.0))
    assert (alone.curve(), alone.samples) == ([3.0], 4)


def test_a_sample_with_more_targets_than_outputs_is_named():
    with pytest.raises(UserError, match="as many targets as outputs"):
        StepRMSE(timesteps=1).update(torch.zeros(1, 4, 1), torch.zeros(4, 2))


def error(method, timesteps, value, n=400):
    return Result("val", method, timesteps, value, n, 0, 0.0, measure="rmse")


def test_the_smallest_t_within_five_percent_of_the_anns_error_is_recommended():
    results = [error("ann", None, 1.0), error("snn_uncalibrated", 4, 1.2)]
    results += [error("snn_ftbc_exact", 2, 1.06), error("snn_ftbc_exact", 8, 0.9)]
    results += [error("snn_ftbc_exact", 4, 1.049), error("snn_static", 4, 1.04)]
    found = recommend(results)
    assert (found.chosen.timesteps, found.chosen.method) == (4, "snn_static")
    assert found.reason.endswith("It is the smallest T within 5 % (0.05) of the ANN.")
    assert "changes RMSE by -0.16 at T = 4 (uncalibrated 1.200)" in found.gain
    assert "chance" not in found.gain


def test_where_no_t_is_near_the_one_with_the_smallest_error_is_named():
    results = [error("ann", None, 1.0), error("snn_static", 4, 1.2), error("snn_static", 2, 1.5)]
    found = recommend(results)
    assert found.headline == "Use T = 4 with SNN + static bias"
    assert found.reason.endswith("this one is nearest, 0.2 above.")


def test_a_file_in_an_unknown_measure_is_one_line():
    with pytest.raises(UserError, match="'miles', which is not known here; there are: accuracy"):
        measure_of([Result("val", "ann", None, 1.0, 1, 0, 0.0, measure="miles")])


# On the diabetes data


def test_the_shares_are_apart_and_standardised_without_the_test_split():
    data = DiabetesDataModule(seed=3)
    data.setup()
    sizes = [len(data.train_indices), len(data.validation_indices), len(data.test_set)]
    assert sizes == [266, 88, 88]
    assert not set(data.train_indices) & set(data.validation_indices)
    targets = data.targets("train")
    assert float(targets.mean()) == pytest.approx(0, abs=1e-6)
    assert float(targets.std()) == pytest.approx(1)
    assert float(data.targets("test").mean()) != pytest.approx(0, abs=1e-3)
    batch, labels = next(iter(data.train_dataloader()))
    assert (batch.shape, labels.shape) == ((32, 10), (32, 1))


def test_at_sixteen_steps_the_error_is_within_five_percent_of_the_anns(trained):
    for split in ("val", "test"):
        found = [row for row in rows(trained / "results.csv") if row["split"] == split]
        reached = {(row["method"], row["timesteps"]): float(row["accuracy"]) for row in found}
        ann = reached["ann", ""]
        assert ann < 0.8  # always saying the mean: 1
        for method in ("snn_ftbc_exact", "snn_weights_ftbc_exact"):
            assert reached[method, "16"] <= 1.05 * ann
        assert {row["measure"] for row in found} == {"rmse"}


def test_table_and_page_say_rmse_and_never_accuracy(trained, capsys, tmp_path):
    assert main(command("validate", trained, "--ckpt_path", str(trained / "snn.ckpt"))) == 0
    said = capsys.readouterr().out
    assert "RMSE on 88 validation samples" in said
    assert "val/rmse" in said
    assert main(["report", str(trained), "--out", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text()
    assert "<h2>RMSE</h2>" in page
    assert "RMSE (validation, n = 88)" in page
    for text in (said, page):
        assert not re.search("accura", text, flags=re.IGNORECASE)
    assert "--data.folder" not in page  # rows of numbers are no images
    assert (trained / "rmse_by_step.png").is_file()


def test_the_training_logs_loss_and_error(trained):
    (path,) = trained.glob("logs/version_0/metrics.csv")
    header = path.read_text().splitlines()[0].split(",")
    assert {"val/loss", "val/rmse", "train/loss"} <= set(header)
    assert "rmse/snn_ftbc_exact/T16" in header
    assert not [name for name in header if "acc" in name]


def test_predictions_are_values_after_each_step(trained, tmp_path, capsys):
    path = tmp_path / "values.csv"
    words = ["predict", "--ckpt_path", str(trained / "snn.ckpt"), "--at", "4"]
    assert main([*words, "--output", str(path)]) == 0
    found = rows(path)
    assert list(found[0]) == [
        "file",
        "value",
        "target",
        "steps",
        *(f"value_{t}" for t in range(1, 5)),
    ]
    assert all(row["value"] == row["value_4"] for row in found)
    squares = [(float(row["value"]) - float(row["target"])) ** 2 for row in found]
    expected = (sum(squares) / len(squares)) ** 0.5
    reached = {(r["split"], r["method"], r["timesteps"]): r for r in rows(trained / "results.csv")}
    assert float(reached["test", "snn_ftbc_exact", "4"]["accuracy"]) == pytest.approx(
        expected, 1e-4
    )
    mean = sum(float(row["target"]) for row in found) / len(found)
    absolute = sum(abs(float(row["value"]) - float(row["target"])) for row in found) / len(found)
    explained = 1 - sum(squares) / sum((float(row["target"]) - mean) ** 2 for row in found)
    said = f"RMSE {RMSE.said(expected)}, MAE {RMSE.said(absolute)}, R2 {RMSE.said(explained)}"
    assert f"88 samples, 4 steps, {said}" in capsys.readouterr().out


def test_early_exit_is_refused_by_name(trained, capsys):
    for confidence in ("0.9", "auto"):
        words = ["predict", "--ckpt_path", str(trained / "snn.ckpt"), "--early_exit", confidence]
        assert main(words) == 2
        assert "early_exit stops a sample when the network is sure" in capsys.readouterr().err


def test_compare_diagnose_and_export_read_the_measure(trained, tmp_path, capsys):
    words = ["--timesteps", "2", "--ckpt_path", str(trained / "ann.ckpt")]
    assert main(command("compare", tmp_path, *words, "--seeds", "2")) == 0
    said = capsys.readouterr().out
    assert "RMSE on the test split, 88 samples" in said
    assert "accuracy" not in said.lower()
    assert {row["measure"] for row in rows(tmp_path / "compare" / "results.csv")} == {"rmse"}
    snn = ["--ckpt_path", str(trained / "snn.ckpt")]
    assert main(["diagnose", *snn]) == 0
    assert main(["export", *snn, "--format", "safetensors", "--output", str(tmp_path / "a")]) == 0


def test_a_network_is_fine_tuned_towards_the_anns_outputs(trained, tmp_path, capsys):
    words = ["--ckpt_path", str(trained / "snn.ckpt"), "--at", "2"]
    assert main(command("finetune", tmp_path, *words)) == 0
    assert "SNN + FTBC exact + fine-tuned" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--model.task", "classification"], "has real targets and no classes"),
        (["--model.network.outputs", "3"], "3 outputs, but a sample of the data has 1 targets"),
        (["--model.label_smoothing", "0.1"], "regression has no classes to smooth"),
    ],
)
def test_what_does_not_fit_the_task_is_one_line(tmp_path, capsys, more, said):
    assert main(command("fit", tmp_path, *more)) == 2
    assert said in capsys.readouterr().err


def test_data_with_classes_is_no_regression():
    with pytest.raises(UserError, match=r"give --model\.task classification"):
        Regression(nn.Linear(2, 2)).outputs_of(DigitsDataModule())


def test_one_sample_has_no_variance_to_explain():
    predictions = {"value": torch.zeros(2, 1, 1), "steps": torch.tensor([2])}
    assert value_summary(predictions) == "1 samples, 2 steps"
    predictions["target"] = torch.tensor([[3.0]])
    assert value_summary(predictions) == "1 samples, 2 steps, RMSE 3.000, MAE 3.000"


# Nothing else knows the tasks


def branches(source):
    """Comparisons with a task's name, and questions of its kind."""
    kinds = {kind.__name__ for kind in TASKS.values()}
    kinds |= {metric.__name__ for metric in (StepAccuracy, StepMeanIoU, StepRMSE)}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare):
            parts = [each for side in (node.left, *node.comparators) for each in ast.walk(side)]
            yield from (p for p in parts if isinstance(p, ast.Constant) and p.value in NAMED)
        elif isinstance(node, ast.MatchValue) and getattr(node.value, "value", None) in NAMED:
            yield node
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in (
            "isinstance",
            "issubclass",
        ):
            yield from (n for n in ast.walk(node) if isinstance(n, ast.Name) and n.id in kinds)


NAMED = {*TASKS, *MEASURES}


def test_nothing_outside_the_tasks_branches_on_the_task():
    package = ROOT / "ftbc_lightning"
    wrong = [
        f"{path.relative_to(package)}:{node.lineno}"
        for path in package.rglob("*.py")
        if "tasks" not in path.parts
        for node in branches(path.read_text())
    ]
    assert wrong == []
    assert list(branches("if task == 'regression': pass"))
    assert list(branches("match task:\n    case 'regression': pass"))
    assert list(branches("isinstance(task, Regression)"))
