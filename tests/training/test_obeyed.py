"""What a person asks of the Trainer is done or refused, never ignored."""

import csv

import pytest

from ftbc_lightning.cli import main
from tests.conftest import digits


@pytest.mark.parametrize("subcommand", ["compare", "diagnose"])
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
