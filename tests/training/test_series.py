"""Nothing assumes a sample: a Conv1d network on a time series goes all the way."""

import csv

from ftbc_lightning.cli import main


def accuracies(folder, split):
    with (folder / "results.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == split]
    return {(row["method"], row["timesteps"]): float(row["accuracy"]) for row in rows}


def series(subcommand, folder, *more):
    return [
        *(subcommand, "--data", "tests.series.SeriesDataModule"),
        *("--model.network", "tests.series.SeriesNetwork", "--timesteps", "2,4"),
        *("--trainer.default_root_dir", str(folder), "--trainer.accelerator", "cpu"),
        *("--trainer.enable_progress_bar", "false", "--trainer.max_epochs", "8", *more),
    ]


def test_a_time_series_is_fitted_converted_calibrated_and_tested(tmp_path, capsys):
    assert main(series("inspect", tmp_path)) == 0
    assert "SeriesNetwork converts: yes, 3 layers of neurons." in capsys.readouterr().out
    assert main(series("fit", tmp_path)) == 0
    assert main(series("test", tmp_path, "--ckpt_path", str(tmp_path / "snn.ckpt"))) == 0
    found = accuracies(tmp_path, "test")
    assert found["ann", ""] > 0.95
    assert found["snn_ftbc_exact", "4"] > found["ann", ""] - 0.05
    again = tmp_path / "again"
    assert main(series("calibrate", again, "--ckpt_path", str(tmp_path / "ann.ckpt"))) == 0
    assert accuracies(again, "val") == accuracies(tmp_path, "val")
