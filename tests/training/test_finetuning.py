"""`ftbc finetune` and its module: the loss, what it leaves, and every way it is refused."""

import csv
import shutil

import pytest
import torch
from torch import nn

from ftbc_lightning import UserError, calibrate, convert, load, simulate
from ftbc_lightning.cli import main, run
from ftbc_lightning.files.run_configuration import run_configuration
from ftbc_lightning.report.rows import Result
from ftbc_lightning.report.tables import training_note
from ftbc_lightning.training.finetuning import FineTuning
from ftbc_lightning.training.reload import reload
from ftbc_lightning.training.tasks import Classification
from tests.conftest import digits
from tests.networks import residual_net, samples

NAME = "snn_weights_ftbc_exact_finetuned"
METHOD = "weights+exact+finetuned"


def module(**settings):
    net, images = residual_net(), samples(12)
    snn = convert(net, images[:1], [images], timesteps=2)
    calibrate(net, snn, [images])
    made = FineTuning(net, snn, task=Classification(net), **settings)
    made.log = lambda *_, **__: None  # there is no trainer
    return made, net, snn, (images, torch.arange(12) % 4)


def test_the_divergence_is_that_of_softened_probabilities():
    tuning, net, snn, batch = module(temperature=2.0)
    wanted = (net(batch[0]) / 2).softmax(1)
    found = (simulate(snn, batch[0])[-1] / 2).softmax(1)
    by_hand = 4 * (wanted * (wanted.log() - found.log())).sum(1).mean()
    assert tuning.training_step(batch, 0).item() == pytest.approx(by_hand.item(), rel=1e-9)


def test_labels_alone_and_both():
    losses = {kind: module(loss=kind) for kind in ("kl", "labels", "both")}
    values = {kind: made[0].training_step(made[3], 0).item() for kind, made in losses.items()}
    _, _, snn, (images, labels) = losses["labels"]
    crossed = nn.functional.cross_entropy(simulate(snn, images)[-1], labels)
    assert values["labels"] == pytest.approx(crossed.item(), rel=1e-9)
    assert values["both"] == pytest.approx(values["kl"] + values["labels"], rel=1e-9)
    assert [made[0].uses_labels for made in losses.values()] == [False, True, True]


def test_the_ann_is_neither_trained_nor_saved():
    tuning, net, _, batch = module()
    tuning.training_step(batch, 0).backward()
    assert all(p.grad is None for p in net.parameters())
    assert not any(name.startswith("reference") for name in tuning.state_dict())


@pytest.mark.parametrize(
    "settings",
    [{"loss": "mse"}, *({"temperature": value} for value in (0.0, float("nan"), float("inf")))],
)
def test_settings_out_of_range(settings):
    with pytest.raises(UserError, match=next(iter(settings))):
        module(**settings)


def finetune(folder, *more):
    return [*digits("finetune", folder), "--ckpt_path", str(folder / "snn.ckpt"), *more]


@pytest.fixture(scope="module")
def tuned(fitted, tmp_path_factory):
    """Three epochs from weights+exact at T = 2, in a copy of the short run."""
    folder = tmp_path_factory.mktemp("tuned") / "run"
    shutil.copytree(fitted.folder, folder)
    more = ("--at", "2", "--method", "weights+exact", "--epochs", "3")
    cli = run(finetune(folder, *more))
    return folder, cli


def results(folder):
    with (folder / "results.csv").open() as file:
        return {row["method"]: row for row in csv.DictReader(file) if row["split"] == "val"}


def test_a_fine_tuned_network_is_better_than_its_start(tuned):
    folder, _ = tuned
    found = results(folder / "finetuned")
    start, end = (float(found[n]["accuracy"]) for n in ("snn_weights_ftbc_exact", NAME))
    assert end > start
    assert float(found[NAME]["seconds"]) > float(found["snn_weights_ftbc_exact"]["seconds"])
    assert found[NAME]["labels"] == "0"


def test_the_run_itself_stays_as_it_is(tuned, fitted):
    folder, _ = tuned
    for name in ("ann.ckpt", "snn.ckpt", "results.csv", "steps.csv"):
        assert (folder / name).read_bytes() == (fitted.folder / name).read_bytes()


def test_the_file_holds_the_networks_of_that_t_and_the_start_is_unchanged(tuned):
    folder, cli = tuned
    before, after = reload(folder / "snn.ckpt"), reload(folder / "finetuned" / "snn.ckpt")
    assert {v.timesteps for v in after.every_variant()} == {2}
    assert {v.method for v in after.every_variant()} == {
        *(v.method for v in before.every_variant()),
        METHOD,
    }
    images = torch.rand(4, 1, 8, 8)
    for variant in before.every_variant():
        if variant.timesteps == 2:
            pair = (
                simulate(before.network(variant), images),
                simulate(after.network(variant), images),
            )
            assert torch.equal(*pair)
    for name, value in after.ann.state_dict().items():
        assert torch.equal(value, before.ann.state_dict()[name])
    network = after.network(next(v for v in after.every_variant() if v.method == METHOD))
    assert torch.equal(simulate(network, images), simulate(cli.model.snns[f"{NAME}_T2"], images))


def test_every_command_takes_it(tuned, tmp_path, capsys):
    path = str(tuned[0] / "finetuned" / "snn.ckpt")
    where = ("--trainer.default_root_dir", str(tmp_path))
    quiet = ("--trainer.enable_progress_bar", "false")
    assert main(["test", "--ckpt_path", path, *where, *quiet]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "SNN + weights + FTBC exact + fine-tuned" in printed
    assert "fine-tuned: trained by back-propagation after the calibration, T = 2 in" in printed
    for subcommand in ("predict", "diagnose"):
        assert main([subcommand, "--ckpt_path", path, "--method", METHOD, *where, *quiet]) == 0
        assert "fine-tuned" in capsys.readouterr().out
    output = str(tmp_path / "x.safetensors")
    assert main(["export", "--ckpt_path", path, "--method", METHOD, "--output", output]) == 0
    network = tuned[1].model.snns[f"{NAME}_T2"]
    images = torch.rand(3, 1, 8, 8)
    torch.testing.assert_close(load(output)(images), simulate(network, images))
    capsys.readouterr()
    assert main(["report", str(tuned[0] / "finetuned")]) == 0
    page = (tuned[0] / "finetuned" / "report.html").read_text()
    assert "fine-tuned: trained by back-propagation after the calibration, T = 2 in" in page
    assert "ftbc finetune --config" in page


def test_a_comparison_has_a_row_of_it_with_its_seconds(tuned, tmp_path, capsys):
    path = str(tuned[0] / "finetuned" / "snn.ckpt")
    words = [*digits("compare", tmp_path), "--ckpt_path", path, "--seeds", "2", "--samples", "60"]
    words += ["--timesteps", "2", "--calibration.methods", "[exact]"]
    for _ in range(2):
        assert main(words) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "SNN + weights + FTBC exact + fine-tuned" in printed
    assert "fine-tuned: trained by back-propagation after the calibration, T = 2 in" in printed
    with (tmp_path / "compare" / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [r["method"] for r in rows].count("snn_ftbc_exact") == 2
    (row,) = [r for r in rows if r["method"] == NAME]
    assert row["seed"] == ""
    variant = next(v for v in reload(path).every_variant() if v.method == METHOD)
    assert float(row["seconds"]) == pytest.approx(variant.seconds, abs=0.01)


def test_labels_are_counted_where_they_were_read(fitted, tmp_path):
    shutil.copytree(fitted.folder, tmp_path / "run")
    more = ("--at", "1", "--method", "exact", "--loss", "both", "--optimizer", "SGD")
    folder = tmp_path / "run"
    run(finetune(folder, *more, "--optimizer.lr", "0.01"))
    row = results(folder / "finetuned")["snn_ftbc_exact_finetuned"]
    assert int(row["labels"]) > 1000
    (variant,) = [v for v in reload(folder / "finetuned" / "snn.ckpt").every_variant() if v.labels]
    assert variant.labels == int(row["labels"])


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--epochs", "0"), "epochs is 0"),
        (("--surrogate", "square"), "triangle"),
        (("--width", "0"), "width is 0"),
        (("--temperature", "0"), "temperature is 0"),
        (("--at", "3"), "no network with T = 3"),
        (("--method", "static+finetuned"), "no network with method static+finetuned"),
    ],
)
def test_a_mistake_is_one_line(fitted, tmp_path, capsys, more, said):
    shutil.copy(fitted.folder / "snn.ckpt", tmp_path)
    assert main(finetune(tmp_path, *more)) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error


def test_a_second_training_does_not_write_over_the_first(tuned, capsys):
    folder, _ = tuned
    before = (folder / "finetuned" / "snn.ckpt").read_bytes()
    assert main(finetune(folder, "--at", "1", "--method", "exact")) == 2
    assert f"holds {NAME}_T2, which this fine-tuning would write over" in capsys.readouterr().err
    assert (folder / "finetuned" / "snn.ckpt").read_bytes() == before
    assert main(finetune(folder, "--trainer.limit_val_batches", "0")) == 2
    assert "leaves finetune nothing to evaluate" in capsys.readouterr().err


def test_what_is_gone_on_with_stays_what_it_was(tuned, capsys):
    words = [*digits("finetune", tuned[0]), "--ckpt_path", "last"]
    for more in (("--at", "1"), ("--method", "exact"), ("--thresholds", "true")):
        assert main([*words, *more]) == 2
        assert f"has {more[0].removeprefix('--')} " in capsys.readouterr().err


def test_a_trained_network_can_be_trained_on_and_keeps_its_labels(fitted, tmp_path):
    shutil.copytree(fitted.folder, tmp_path / "run")
    more = ("--at", "1", "--method", "exact", "--loss", "labels")
    run(finetune(tmp_path / "run", *more, "--trainer.limit_train_batches", "2"))
    folder = tmp_path / "run" / "finetuned"
    first = results(folder)["snn_ftbc_exact_finetuned"]
    assert first["labels"] == "128"
    path = str(folder / "snn.ckpt")
    where = ("--trainer.default_root_dir", str(folder), "--trainer.enable_progress_bar", "false")
    run(["finetune", "--ckpt_path", path, *where, "--method", "exact+finetuned"])
    second = results(folder)["snn_ftbc_exact_finetuned"]
    assert second["labels"] == "128"
    assert float(second["seconds"]) > float(first["seconds"])


def test_last_without_a_file_and_a_file_of_a_training_under_way(tuned, tmp_path, capsys):
    assert main([*digits("finetune", tmp_path), "--ckpt_path", "last"]) == 2
    assert "finetuned/finetuning.ckpt to go on with" in capsys.readouterr().err
    path = str(tuned[0] / "finetuned" / "finetuning.ckpt")
    assert main([*digits("test", tmp_path), "--ckpt_path", path]) == 2
    assert "a fine-tuning under way" in capsys.readouterr().err


def test_a_copied_run_has_the_configuration_of_the_run(tuned, tmp_path):
    shutil.copytree(tuned[0], tmp_path / "copy")
    found = run_configuration(tmp_path / "copy" / "snn.ckpt")
    assert found.relative_to(tmp_path / "copy").parts[0] == "logs"
    own = run_configuration(tmp_path / "copy" / "finetuned" / "snn.ckpt")
    assert own.relative_to(tmp_path / "copy").parts[0] == "finetuned"


def test_evaluations_in_python_add_to_what_a_fine_tuning_has_left(tuned):
    assert tuned[1].model.unsaved is False


def test_in_double_precision_and_stopped_early(fitted, tmp_path):
    shutil.copytree(fitted.folder, tmp_path / "run")
    stopping = "lightning.pytorch.callbacks.EarlyStopping"
    run(
        [
            *finetune(tmp_path / "run", "--at", "1", "--trainer.precision", "64-true"),
            *("--trainer.callbacks+", stopping, "--trainer.callbacks.monitor", "val/loss"),
            *("--thresholds", "true", "--epochs", "2"),
        ]
    )
    assert (tmp_path / "run" / "finetuned" / "snn.ckpt").is_file()


def test_two_fine_tuned_methods_are_told_apart():
    rows = [
        Result("val", f"snn_{start}_finetuned", 2, 0.9, 10, 0, seconds, labels=labels)
        for start, seconds, labels in (("ftbc_exact", 300.0, 500), ("weights_ftbc_exact", 9.0, 0))
    ]
    note = training_note(rows)
    assert "SNN + FTBC exact + fine-tuned, T = 2 in 300 seconds, 500 labels" in note
    assert "SNN + weights + FTBC exact + fine-tuned, T = 2 in 9 seconds, no labels" in note


def test_it_begins_with_a_calibrated_network(fitted, tmp_path, capsys):
    assert main(digits("finetune", tmp_path)) == 2
    assert "give --ckpt_path snn.ckpt" in capsys.readouterr().err
    words = digits("finetune", tmp_path)
    assert main([*words, "--ckpt_path", str(fitted.folder / "ann.ckpt")]) == 2
    assert "no calibrated network to choose" in capsys.readouterr().err


def test_a_training_whose_start_is_gone_says_so(tuned, tmp_path, capsys):
    shutil.copy(tuned[0] / "finetuned" / "finetuning.ckpt", tmp_path)
    content = torch.load(tmp_path / "finetuning.ckpt", weights_only=True)
    content["ftbc_finetuning"]["path"] = "/nowhere/snn.ckpt"
    torch.save(content, tmp_path / "finetuning.ckpt")
    words = [*digits("finetune", tmp_path), "--ckpt_path", str(tmp_path / "finetuning.ckpt")]
    assert main(words) == 2
    assert "began with /nowhere/snn.ckpt, which is not there any more" in capsys.readouterr().err


def test_no_calibration_makes_a_fine_tuned_network(fitted, tmp_path, capsys):
    net, images = residual_net(), samples(4)
    snn = convert(net, images[:1], [images], timesteps=2)
    with pytest.raises(UserError, match="ftbc finetune"):
        calibrate(net, snn, [images], method="exact+finetuned")
    words = [*digits("calibrate", tmp_path), "--ckpt_path", str(fitted.folder / "ann.ckpt")]
    assert main([*words, "--calibration.methods", "[exact+finetuned]"]) == 2
    assert "`ftbc finetune`" in capsys.readouterr().err


def test_tables_without_a_fine_tuned_network_have_no_note(fitted):
    assert training_note(fitted.cli.model.results) == ""
