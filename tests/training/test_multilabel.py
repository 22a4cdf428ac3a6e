"""Several labels: loss and F1 by hand, and a run through every command."""

import csv
import math
import re

import pytest
import torch
from torch import nn
from torchmetrics.classification import MultilabelF1Score

from ftbc_lightning import UserError
from ftbc_lightning.cli import main
from ftbc_lightning.data import DiabetesDataModule, DigitsDataModule
from ftbc_lightning.report.measure import F1
from ftbc_lightning.report.rows import Result
from ftbc_lightning.report.verdict import recommend
from ftbc_lightning.training.metrics import StepF1
from ftbc_lightning.training.tasks import Classification, Multilabel, Regression
from tests.multilabel import LABELS, TopicsDataModule, TopicsNetwork
from tests.tables import rows


def command(subcommand, folder, *more, ending="none"):
    return [
        *(subcommand, "--data", "tests.multilabel.TopicsDataModule", "--data.named", "true"),
        *("--model.network", "tests.multilabel.TopicsNetwork", "--model.task", "multilabel"),
        *("--model.network.ending", ending, "--model.optimizer", "Adam"),
        *("--model.optimizer.lr", "0.003", "--data.batch_size", "32", "--timesteps", "2,8"),
        *("--calibration.methods", "[exact,weights+exact]", "--trainer.max_epochs", "12"),
        *("--trainer.default_root_dir", str(folder), "--trainer.accelerator", "cpu"),
        *("--trainer.enable_progress_bar", "false", *more),
    ]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """`ftbc fit` and `ftbc test` of a network that returns logits and one that ends in sigmoid."""
    folders = {}
    for ending in ("none", "sigmoid"):
        folder = folders[ending] = tmp_path_factory.mktemp(ending)
        assert main(command("fit", folder, ending=ending)) == 0
        ckpt = ("--ckpt_path", str(folder / "snn.ckpt"))
        assert main(command("test", folder, *ckpt, ending=ending)) == 0
    return folders


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# By hand


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize("ending", ["none", "sigmoid"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_is_the_mean_binary_cross_entropy(ending, smoothing):
    network, images = TopicsNetwork(ending=ending), drawn(4, 20)
    task = Multilabel(network, label_smoothing=smoothing)
    logits, labels = drawn(4, LABELS, seed=1), (drawn(4, LABELS, seed=2) > 0).long()
    outputs = logits.sigmoid() if ending == "sigmoid" else logits

    def by_hand(s):
        losses = []
        for row, wanted in zip(logits.tolist(), labels.tolist(), strict=True):
            for x, y in zip(row, wanted, strict=True):
                target = y * (1 - s) + s / 2
                losses.append(
                    -target * math.log(sigmoid(x)) - (1 - target) * math.log(1 - sigmoid(x))
                )
        return sum(losses) / len(losses)

    assert float(task.loss(outputs, labels, images)) == pytest.approx(by_hand(smoothing), 1e-4)
    assert float(task.evaluation_loss(outputs, labels, images)) == pytest.approx(by_hand(0), 1e-4)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_the_divergence_is_the_binary_one_and_none_from_itself(temperature):
    task, images = Multilabel(TopicsNetwork()), drawn(4, 20)
    outputs, wanted = drawn(4, LABELS, seed=1), drawn(4, LABELS, seed=2)
    found = []
    for x, y in zip(outputs.flatten().tolist(), wanted.flatten().tolist(), strict=True):
        p, q = sigmoid(y / temperature), sigmoid(x / temperature)
        found.append(p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q)))
    expected = temperature**2 * sum(found) / len(found)
    reached = task.divergence(outputs, wanted, images, temperature=temperature)
    assert float(reached) == pytest.approx(expected, 1e-4)
    same = task.divergence(wanted, wanted, images, temperature=temperature)
    assert float(same) == pytest.approx(0, abs=1e-6)


def f1_by_loop(logits, targets):
    hits = said = true = 0
    for row, wanted in zip(logits.tolist(), targets.tolist(), strict=True):
        for x, y in zip(row, wanted, strict=True):
            hits += x > 0 and y == 1
            said += x > 0
            true += y == 1
    return 2 * hits / (said + true)


def test_the_score_after_each_step_is_that_of_a_loop_and_of_torchmetrics():
    steps, targets = drawn(3, 50, LABELS), (drawn(50, LABELS, seed=1) > 0.5).long()
    metric = StepF1(timesteps=3)
    for part in (slice(0, 40), slice(40, 50)):
        metric.update(steps[:, part], targets[part].float())
    assert metric.curve() == pytest.approx([f1_by_loop(step, targets) for step in steps])
    theirs = MultilabelF1Score(num_labels=LABELS, average="micro")
    expected = [float(theirs(step.sigmoid(), targets)) for step in steps]
    assert metric.curve() == pytest.approx(expected)
    assert metric.samples == 50


def test_states_of_two_processes_add_up():
    steps, targets = drawn(2, 30, LABELS), (drawn(30, LABELS, seed=1) > 0).long()
    whole, *parts = (StepF1(timesteps=2) for _ in range(3))
    whole.update(steps, targets)
    for part, own in zip(parts, (slice(0, 7), slice(7, 30)), strict=True):
        part.update(steps[:, own], targets[own])
    for name in ("hits", "said", "true", "seen"):
        setattr(parts[0], name, getattr(parts[0], name) + getattr(parts[1], name))
    assert parts[0].curve() == whole.curve()


def test_where_no_label_is_said_and_none_is_true_the_score_is_zero():
    metric = StepF1(timesteps=1)
    metric.update(-torch.ones(1, 3, 2), torch.zeros(3, 2))
    assert metric.curve() == [0.0]


def test_probabilities_are_judged_at_one_half():
    task, images = Multilabel(TopicsNetwork(ending="sigmoid")), drawn(8, 20)
    logits, labels = drawn(1, 8, LABELS, seed=1), (drawn(8, LABELS, seed=2) > 0).long()
    metric = task.metric(1)
    task.judge(metric, logits.sigmoid(), labels, images)
    assert metric.curve() == pytest.approx([f1_by_loop(logits[0], labels)])
    torch.testing.assert_close(
        task.predictions(logits.sigmoid(), images)["probability"], logits.sigmoid()
    )


def test_the_smallest_t_within_five_percent_of_the_anns_score_is_recommended():
    def score(method, timesteps, value):
        return Result("val", method, timesteps, value, 400, 0, 0.0, measure="f1")

    results = [score("ann", None, 0.8), score("snn_uncalibrated", 4, 0.6)]
    results += [score("snn_ftbc_exact", 2, 0.75), score("snn_ftbc_exact", 4, 0.77)]
    results += [score("snn_ftbc_exact", 8, 0.79)]
    found = recommend(results)
    assert (found.chosen.timesteps, found.chosen.method) == (4, "snn_ftbc_exact")
    assert found.reason.endswith("It is the smallest T within 5 % (0.04) of the ANN.")
    assert "changes micro F1 by +0.17 at T = 4 (uncalibrated 0.6000)" in found.gain


# Runs


@pytest.mark.parametrize("ending", ["none", "sigmoid"])
def test_at_eight_steps_the_score_is_within_five_percent_of_the_anns(trained, ending):
    for split in ("val", "test"):
        found = [row for row in rows(trained[ending] / "results.csv") if row["split"] == split]
        reached = {(row["method"], row["timesteps"]): float(row["accuracy"]) for row in found}
        assert reached["ann", ""] > 0.75  # always saying every label: 0.56
        for method in ("snn_ftbc_exact", "snn_weights_ftbc_exact"):
            assert reached[method, "8"] >= 0.95 * reached["ann", ""]
        assert {row["measure"] for row in found} == {"f1"}


def test_table_and_page_say_micro_f1_and_never_accuracy(trained, capsys, tmp_path):
    folder = trained["none"]
    assert main(command("validate", folder, "--ckpt_path", str(folder / "snn.ckpt"))) == 0
    said = capsys.readouterr().out
    assert "Micro F1 on 80 validation samples" in said
    assert "val/f1" in said
    assert main(["report", str(folder), "--out", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text()
    assert "<h2>Micro F1</h2>" in page
    for text in (said, page):
        assert not re.search("accura", text, flags=re.IGNORECASE)
    assert (folder / "f1_by_step.png").is_file()


@pytest.mark.parametrize("ending", ["none", "sigmoid"])
def test_predictions_are_a_probability_for_each_label(trained, tmp_path, capsys, ending):
    path, snn = tmp_path / "labels.csv", trained[ending] / "snn.ckpt"
    words = ["predict", "--ckpt_path", str(snn), "--at", "2", "--output", str(path)]
    assert main(words) == 0
    found = rows(path)
    topics = ["art", "law", "music", "news", "sport"]
    columns = [f"probability[{topic}]" for topic in topics]
    later = [f"probability_{t}[{topic}]" for t in (1, 2) for topic in topics]
    targets = [f"target[{topic}]" for topic in topics]
    assert list(found[0]) == ["file", *columns, *targets, "steps", *later]
    values = torch.tensor([[float(row[name]) for name in columns] for row in found])
    assert ((values >= 0) & (values <= 1)).all()
    wanted = torch.tensor([[float(row[name]) for name in targets] for row in found])
    score = f1_by_loop(values - 0.5, wanted)
    assert f"200 samples, 2 steps, micro F1 {F1.said(score)}" in capsys.readouterr().out
    reached = {
        (r["split"], r["method"], r["timesteps"]): r for r in rows(snn.parent / "results.csv")
    }
    assert float(reached["test", "snn_ftbc_exact", "2"]["accuracy"]) == pytest.approx(score, 1e-3)


def test_every_other_subcommand_goes_through(trained, tmp_path, capsys):
    folder = trained["none"]
    snn, ann = ("--ckpt_path", str(folder / "snn.ckpt")), ("--ckpt_path", str(folder / "ann.ckpt"))
    assert main(command("inspect", tmp_path)) == 0
    assert main(command("calibrate", tmp_path, *ann)) == 0
    assert main(command("compare", tmp_path, *ann, "--seeds", "2")) == 0
    said = capsys.readouterr().out
    assert "Micro F1 on the test split, 200 samples" in said
    assert main(["diagnose", *snn]) == 0
    assert main(["export", *snn, "--format", "safetensors", "--output", str(tmp_path / "a")]) == 0
    for loss in ("kl", "both"):
        words = (*snn, "--at", "2", "--epochs", "1", "--loss", loss)
        assert main(command("finetune", tmp_path / loss, *words)) == 0
    assert "accuracy" not in capsys.readouterr().out.lower()


# Mistakes


def test_early_exit_is_refused_by_name(trained, capsys):
    words = ["predict", "--ckpt_path", str(trained["none"] / "snn.ckpt"), "--early_exit", "0.9"]
    assert main(words) == 2
    assert "a sample of several labels has no one class" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "ending", "said"),
    [
        (["--model.task", "classification"], "none", "has several labels and no classes"),
        (["--model.task", "regression"], "none", "has several labels and no real targets"),
        ([], "softmax", "ends in softmax, of which one label takes from the others"),
    ],
)
def test_what_does_not_fit_the_task_is_one_line(tmp_path, capsys, more, ending, said):
    assert main(command("fit", tmp_path, *more, ending=ending)) == 2
    assert said in capsys.readouterr().err


def test_a_network_with_too_few_outputs_is_named():
    task = Multilabel(nn.Linear(2, 2))
    with pytest.raises(UserError, match="net has 2 outputs, but the data has 5 labels"):
        task.check_outputs([1, 2], task.outputs_of(TopicsDataModule()), name="net")
    with pytest.raises(UserError, match=r"net returns \[1, 2, 3\] for one input"):
        task.check_outputs([1, 2, 3], None, name="net")


@pytest.mark.parametrize("task", [Classification, Regression, Multilabel])
@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (DigitsDataModule, Classification),
        (DiabetesDataModule, Regression),
        (TopicsDataModule, Multilabel),
    ],
)
def test_every_task_refuses_the_data_of_another_by_name(task, data, wanted):
    asked = task(nn.Linear(2, 2))
    if task is wanted:
        assert asked.outputs_of(data()) in (10, 1, 5)
        return
    with pytest.raises(UserError, match=f"give --model.task {wanted.__name__.lower()}"):
        asked.outputs_of(data())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda targets: targets[:, :3], r"targets of shape \[800, 3\]; \[samples, 5\] is needed"),
        (lambda targets: targets * 2, "targets other than 0 and 1"),
        (lambda targets: targets / torch.zeros(1), "targets other than 0 and 1"),
    ],
)
def test_targets_that_are_no_labels_are_one_line(change, said):
    data = TopicsDataModule()
    inputs, targets = data.samples["train"]
    data.samples["train"] = (inputs, change(targets))
    with pytest.raises(UserError, match=said):
        data.setup()


@pytest.mark.parametrize("ending", ["none", "sigmoid"])
def test_without_labels_networks_are_held_to_those_that_the_ann_says(trained, tmp_path, ending):
    ann = str(trained[ending] / "ann.ckpt")
    own = ["--data.labelled", "false", "--ckpt_path", ann, "--timesteps", "8"]
    assert main(command("calibrate", tmp_path, *own, ending=ending)) == 0
    with (tmp_path / "results.csv").open() as file:
        found = list(csv.DictReader(file))
    assert {row["measure"] for row in found} == {"f1_to_ann"}
    assert float(found[0]["accuracy"]) == 1
    assert all(0.8 < float(row["accuracy"]) < 1 for row in found[1:])
