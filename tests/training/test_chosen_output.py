"""A network with several outputs through the command line: the answer is named."""

import csv

import torch
from torch import nn

from ftbc_lightning.ann import SmallCNN
from ftbc_lightning.cli import main
from tests.conftest import ROOT


class WithFeatures(nn.Module):
    """A classifier that returns its logits beside another head's."""

    def __init__(self) -> None:
        super().__init__()
        self.network, self.other = SmallCNN(in_channels=1), nn.Linear(64, 3)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"aside": self.other(x.flatten(1)), "logits": self.network(x)}


def test_it_is_trained_tested_predicted_and_exported_by_its_name(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["--config", str(ROOT / "configs/digits_cnn.yaml"), "--trainer.max_epochs", "1"]
    words += ["--model.network", "tests.training.test_chosen_output.WithFeatures"]
    words += ["--timesteps", "2", "--calibration.methods", "[exact]"]
    assert main(["fit", *words]) == 2
    said = capsys.readouterr().err
    assert "WithFeatures.forward returns a dictionary (aside, logits)" in said
    assert "--model.output aside" in said
    words += ["--model.output", "logits"]
    assert main(["fit", *words]) == 0
    checkpoint = "runs/digits_cnn/snn.ckpt"
    for subcommand in ("test", "predict", "diagnose"):
        assert main([subcommand, *words, "--ckpt_path", checkpoint]) == 0
    assert main(["export", "--ckpt_path", checkpoint]) == 0
    with (tmp_path / "runs/digits_cnn/results.csv").open() as file:
        reached = [row for row in csv.DictReader(file) if row["split"] == "test"]
    assert [row["method"] for row in reached] == ["ann", "snn_uncalibrated", "snn_ftbc_exact"]
    assert all(float(row["accuracy"]) > 0.2 for row in reached)
