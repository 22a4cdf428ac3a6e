"""Files that version 0.1.0 wrote are read: checkpoints, configurations, results, option names."""

import csv
import shutil

import pytest
import torch

from ftbc_lightning.cli import main
from ftbc_lightning.training.reload import datamodule, reload
from tests.conftest import ROOT

RUN = ROOT / "tests" / "fixtures" / "run_of_0_1_0"
CONFIG = RUN / "logs" / "version_0" / "config.yaml"


@pytest.fixture
def run(tmp_path):
    return shutil.copytree(RUN, tmp_path / "run")


def accuracies(folder):
    with (folder / "results.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
    return {(row["method"], row["timesteps"]): float(row["accuracy"]) for row in rows}


def test_a_checkpoint_gives_the_accuracies_that_it_gave(run):
    (run / "results.csv").unlink()
    words = ["--ckpt_path", str(run / "snn.ckpt"), "--trainer.default_root_dir", str(run)]
    assert main(["test", *words, "--quiet"]) == 0
    # another processor rounds differently, which may move a sample or two of 355
    assert accuracies(run) == pytest.approx(accuracies(RUN), abs=0.01)
    assert len(accuracies(RUN)) == 7


def test_its_networks_are_rebuilt_from_the_file_alone():
    module = reload(RUN / "snn.ckpt")
    assert set(module.variants) == {
        f"snn_{name}_T{t}"
        for name in ("uncalibrated", "ftbc_exact", "weights_ftbc_exact")
        for t in (1, 4)
    }


def test_its_configuration_tells_the_data_module():
    assert datamodule(CONFIG).calibration_samples == 128


def test_a_shipped_configuration_of_then_trains_the_same_network(tmp_path, capsys):
    command = ["fit", "--config", str(RUN / "digits_cnn.yaml"), "--trainer.max_epochs", "6"]
    command += ["--timesteps", "1,4", "--model.network.init_args.width", "4", "--quiet"]
    command += ["--calibration.methods", "[exact]", "--data.calibration_pictures", "128"]
    assert main([*command, "--trainer.default_root_dir", str(tmp_path)]) == 0
    said = capsys.readouterr().err
    assert "Note: calibration_pictures is called calibration_samples now." in said
    assert "Note: --data.calibration_pictures is called --data.calibration_samples now." in said
    then, now = (
        torch.load(folder / "ann.ckpt", weights_only=True)["state_dict"]
        for folder in (RUN, tmp_path)
    )
    assert then.keys() == now.keys()


def test_options_of_subcommands_keep_their_old_names(run, capsys):
    words = ["diagnose", "--ckpt_path", str(run / "snn.ckpt"), "--pictures", "32"]
    words += ["--trainer.default_root_dir", str(run)]
    assert main(words) == 0
    found = capsys.readouterr()
    assert "Note: --pictures is called --samples now." in found.err
    assert "32 validation samples" in found.out


def test_the_page_of_a_run_is_written(run, capsys):
    assert main(["report", str(run)]) == 0
    assert (run / "report.html").is_file()
