"""Figures depend on seed and settings, on nothing else."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from ftbc_lightning.cli import run
from ftbc_lightning.data import ImageFolderDataModule
from tests.conftest import digits
from tests.training.test_load_paths import rows


@pytest.mark.parametrize("batch_size", [7, 1000])
def test_evaluation_does_not_depend_on_the_batch_size(fitted, tmp_path, batch_size):
    path = str(fitted.folder / "snn.ckpt")
    command = fitted.args("validate", "--ckpt_path", path, folder=tmp_path)
    run([*command, "--data.batch_size", str(batch_size)])
    assert rows(tmp_path, "val") == rows(fitted.folder, "val")


@pytest.mark.parametrize(("given", "expected"), [([], 3), (["--data.seed", "5"], 5)])
def test_seed_everything_covers_division_and_calibration_draw(given, expected, tmp_path):
    command = digits("inspect", tmp_path)
    cli = run([*command, "--seed_everything", "3", *given])
    assert cli.datamodule.seed == expected
    # the record of a run, which other commands read, holds the seed that was used
    assert cli.config["inspect"].data.init_args.seed == expected


def test_a_trained_network_keeps_its_division_of_samples(tmp_path):
    few = ["--calibration.methods", "[static]", "--timesteps", "2", "--trainer.max_epochs", "1"]
    few += ["--trainer.limit_train_batches", "2", "--trainer.limit_val_batches", "1"]
    few += ["--trainer.limit_test_batches", "1"]
    fit = [*digits("fit", tmp_path), *few]
    expected = run([*fit, "--seed_everything", "2"]).datamodule.validation_indices
    ann, snn = str(tmp_path / "ann.ckpt"), str(tmp_path / "snn.ckpt")
    commands = [
        [*digits("calibrate", tmp_path / "1"), *few, "--ckpt_path", ann, "--data.seed", "5"],
        [*digits("calibrate", tmp_path / "2"), *few, "--model.weights", ann],
        [*digits("test", tmp_path / "3"), *few, "--ckpt_path", str(tmp_path / "1" / "snn.ckpt")],
        [*digits("diagnose", tmp_path / "4"), *few, "--ckpt_path", snn],
        [*fit, "--ckpt_path", "last"],
    ]
    for command in commands:
        data = run([*command, "--seed_everything", "1"]).datamodule
        assert (data.division_seed, data.seed) == (2, 5 if "--data.seed" in command else 1)
        data.setup()
        assert data.validation_indices == expected
    # the draw of the calibration samples is that of the command
    assert len({state(tmp_path / name) for name in ("1", "2")}) == 2


def state(folder):
    content = torch.load(folder / "snn.ckpt", weights_only=True)["state_dict"]
    return float(sum(v.sum() for k, v in content.items() if "temporal_bias" in k))


def test_splits_do_not_depend_on_the_order_in_which_files_were_made(tmp_path):
    found = []
    for name, order in (("one", range(10)), ("two", reversed(range(10)))):
        for index in order:
            for label in ("dog", "cat"):
                folder = tmp_path / name / label
                folder.mkdir(parents=True, exist_ok=True)
                sample = np.full((8, 8, 3), index, dtype=np.uint8)
                Image.fromarray(sample).save(folder / f"{index}.png")
        data = ImageFolderDataModule(root=str(tmp_path / name), image_size=8, num_workers=0)
        data.prepare_data()
        data.setup()
        files = [str(path).replace(f"/{name}/", "/") for path, _ in data.samples("train")]
        found.append((files, data.train_indices, data.validation_indices))
    assert found[0] == found[1]


def test_a_run_records_what_its_figures_depend_on(fitted):
    record = json.loads((fitted.folder / "run.json").read_text())["val"]
    assert record["seed"] == 0
    assert record["processes"] == 1
    assert record["versions"].keys() >= {"ftbc-lightning", "torch", "lightning"}
    assert record["config"]["timesteps"] == [1, 2]
    assert record["config"]["data"]["init_args"]["calibration_samples"] == 128
    assert "git_revision" in record
