"""What a person asks of the Trainer is done or refused, never ignored."""

import csv

import pytest

from ftbc_lightning.cli import main
from tests.conftest import digits


@pytest.mark.parametrize("subcommand", ["compare", "diagnose", "benchmark"])
@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("limit_test_batches", "2"),
        ("limit_val_batches", "0.5"),
        ("overfit_batches", "1"),
        ("fast_dev_run", "true"),
    ],
)
def test_limits_that_have_no_effect_are_refused(
    subcommand, option, value, fitted, tmp_path, capsys
):
    command = [*digits(subcommand, tmp_path), "--ckpt_path", str(fitted.folder / "snn.ckpt")]
    assert main([*command, f"--trainer.{option}", value]) == 2
    said = capsys.readouterr().err
    assert f"--trainer.{option} has no effect on {subcommand}; leave it out. --samples N" in said


def test_validate_and_predict_obey_limits(fitted, tmp_path):
    ckpt = ["--ckpt_path", str(fitted.folder / "snn.ckpt"), "--data.batch_size", "50"]
    limit = ["--trainer.limit_val_batches", "2", "--trainer.limit_predict_batches", "2"]
    assert main([*digits("validate", tmp_path), *ckpt, *limit]) == 0
    with (tmp_path / "results.csv").open() as file:
        assert {row["n"] for row in csv.DictReader(file)} == {"100"}
    assert main([*digits("predict", tmp_path), *ckpt, *limit]) == 0
    with (tmp_path / "predictions.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 100


@pytest.mark.parametrize(
    ("subcommand", "limit"),
    [
        ("calibrate", "limit_val_batches"),
        ("fit", "limit_val_batches"),
        ("test", "limit_test_batches"),
    ],
)
def test_a_limit_that_leaves_nothing_is_refused(subcommand, limit, fitted, tmp_path, capsys):
    ckpt = [] if subcommand == "fit" else ["--ckpt_path", str(fitted.folder / "ann.ckpt")]
    assert main([*digits(subcommand, tmp_path), *ckpt, f"--trainer.{limit}", "0"]) == 2
    assert f"--trainer.{limit} 0 leaves {subcommand} nothing to evaluate" in capsys.readouterr().err


def test_quiet_in_a_configuration_counts(fitted, tmp_path, capsys):
    (tmp_path / "quiet.yaml").write_text("quiet: true\n")
    ckpt = [
        "--ckpt_path",
        str(fitted.folder / "ann.ckpt"),
        "--config",
        str(tmp_path / "quiet.yaml"),
    ]
    assert main([*digits("calibrate", tmp_path), *ckpt]) == 0
    assert capsys.readouterr().out.lstrip().startswith("Accuracy in %")


def test_a_trial_run_writes_beside_the_real_one(fitted, tmp_path):
    real = tmp_path / "results.csv"
    real.write_text("the real one\n")
    assert main([*digits("fit", tmp_path), "--trainer.fast_dev_run", "true"]) == 0
    assert real.read_text() == "the real one\n"
    assert (tmp_path / "fast_dev_run" / "results.csv").is_file()
    assert not (tmp_path / "snn.ckpt").exists()
