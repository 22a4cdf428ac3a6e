"""A transformer through the command line, with neurons before its layers."""

import csv
import re
from types import SimpleNamespace

import pytest
import torch

from ftbc_lightning import SpikingClassifier, UserError, simulate
from ftbc_lightning.cli import main
from ftbc_lightning.data import DigitsDataModule
from ftbc_lightning.training.callbacks import ForwardTemporalBiasCorrection
from ftbc_lightning.training.callbacks.safeguard import checkpoint_space
from ftbc_lightning.training.reload import reload
from tests.conftest import ROOT
from tests.smooth_network import Smooth

SMALL = ["--config", str(ROOT / "configs/digits_vit.yaml"), "--trainer.max_epochs", "6"]
SMALL += ["--model.network.depth", "1", "--timesteps", "2,8"]
SMALL += ["--calibration.methods", "[exact]", "--trainer.enable_progress_bar", "false"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("transformer")
    assert main(["fit", *SMALL, "--trainer.default_root_dir", str(folder)]) == 0
    return folder


def test_every_subcommand_takes_it(run, capsys):
    words = [*SMALL, "--trainer.default_root_dir", str(run)]
    few = ["--trainer.limit_test_batches", "1", "--trainer.limit_predict_batches", "1"]
    for subcommand in ("test", "predict", "diagnose"):
        assert main([subcommand, *words, *few, "--ckpt_path", str(run / "snn.ckpt")]) == 0
    compared = ["--ckpt_path", str(run / "ann.ckpt"), "--seeds", "1", "--samples", "50"]
    assert main(["compare", *words, *few, *compared]) == 0
    tuned = [
        "--ckpt_path",
        str(run / "snn.ckpt"),
        "--at",
        "2",
        "--trainer.limit_train_batches",
        "2",
    ]
    assert main(["finetune", *words, *tuned]) == 0
    assert main(["report", str(run)]) == 0
    assert main(["inspect", *words]) == 0
    said = capsys.readouterr().out
    page = (run / "report.html").read_text()
    assert "--format torch_export" in page  # safetensors has no place for encoders
    assert re.search(r"of these multiplications, and [\d,]+ evaluations of functions", page)
    assert "ViT converts: yes, 5 layers of neurons" in said
    assert "encoder" in said
    with (run / "results.csv").open() as file:
        reached = {
            (row["method"], row["timesteps"]): float(row["accuracy"])
            for row in csv.DictReader(file)
            if row["split"] == "val"
        }
    assert reached["ann", ""] > 0.5
    assert reached["snn_ftbc_exact", "8"] > reached["ann", ""] - 0.1


def test_its_checkpoint_builds_it_again(run):
    module, data = reload(run / "snn.ckpt"), DigitsDataModule()
    data.setup()
    images, _ = next(iter(data.val_dataloader()))
    for variant in module.variants.values():
        network = module.network(variant)
        assert network.functions == "encoded"
        assert simulate(network, images).shape == (variant.timesteps, len(images), 10)


def test_without_the_setting_it_is_refused_before_it_is_trained(tmp_path, capsys):
    words = [*SMALL, "--calibration.functions", "refuse"]
    assert main(["fit", *words, "--trainer.default_root_dir", str(tmp_path)]) == 2
    assert "--calibration.functions encoded" in capsys.readouterr().err
    assert not (tmp_path / "ann.ckpt").exists()


def test_what_a_run_checks_beforehand_knows_its_functions():
    callback = ForwardTemporalBiasCorrection(
        methods=["potential+exact"], timesteps=[2], functions="encoded"
    )
    trainer = SimpleNamespace(callbacks=[callback], datamodule=DigitsDataModule())
    module = SpikingClassifier(Smooth())
    plain = SimpleNamespace(callbacks=[], datamodule=trainer.datamodule)
    assert checkpoint_space(trainer, module) > checkpoint_space(plain, module)
    with pytest.raises(UserError, match="GELU"):
        ForwardTemporalBiasCorrection().structure(module, torch.zeros(1, 1, 8, 8), None)
