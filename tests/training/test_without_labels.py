"""Runs without labels: networks are held to the ANN's own answers."""

import pytest
import torch
from PIL import Image

from ftbc_lightning import UserError, simulate
from ftbc_lightning.cli import main
from ftbc_lightning.data import DiabetesDataModule, DigitsDataModule, ImageFolderDataModule
from ftbc_lightning.training.metrics import StepR2
from ftbc_lightning.training.reload import reload
from tests.conftest import ROOT
from tests.tables import rows

DIGITS = ["--config", str(ROOT / "configs/digits_cnn.yaml"), "--timesteps", "2"]
DIGITS += ["--calibration.methods", "[exact]", "--trainer.enable_progress_bar", "false"]
UNLABELLED = [*DIGITS, "--data.labelled", "false"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """An ANN that was trained with labels, and is calibrated without."""
    folder = tmp_path_factory.mktemp("unlabelled")
    trained = ["--trainer.default_root_dir", str(folder / "fit"), "--trainer.max_epochs", "2"]
    assert main(["fit", *DIGITS, *trained]) == 0
    own = ["--trainer.default_root_dir", str(folder / "run")]
    ann = str(folder / "fit" / "ann.ckpt")
    assert main(["calibrate", *UNLABELLED, *own, "--ckpt_path", ann]) == 0
    return folder / "run"


def command(subcommand, run, *more):
    words = [subcommand, *UNLABELLED, "--trainer.default_root_dir", str(run)]
    return [*words, "--ckpt_path", str(run / "snn.ckpt"), *more]


def test_no_loader_of_evaluation_or_calibration_gives_labels():
    data = DigitsDataModule(labelled=False)
    data.setup()
    for loader in (data.val_dataloader(), data.test_dataloader(), data.calibration_dataloader()):
        assert all(labels is None for _, labels in loader)


@pytest.mark.parametrize("split", ["val", "test"])
def test_the_measure_is_the_share_of_samples_of_which_the_ann_says_the_same(run, split):
    if split == "test":
        assert main(command("test", run)) == 0
    found = [row for row in rows(run / "results.csv") if row["split"] == split]
    assert {row["measure"] for row in found} == {"agreement"}
    assert [row["method"] for row in found] == ["ann", "snn_uncalibrated", "snn_ftbc_exact"]
    module, data = reload(run / "snn.ckpt"), DigitsDataModule(labelled=False)
    data.setup()
    loader = data.val_dataloader() if split == "val" else data.test_dataloader()
    batches = list(loader)
    assert all(labels is None for _, labels in batches)
    images = torch.cat([images for images, _ in batches])
    with torch.no_grad():
        said = module.ann.eval()(images).argmax(1)
        shares = [1.0]
        for variant in module.variants.values():
            logits = simulate(module.network(variant), images)[-1]
            shares.append(float((logits.argmax(1) == said).double().mean()))
    assert [float(row["accuracy"]) for row in found] == pytest.approx(shares, abs=1e-6)
    assert all(int(row["n"]) == len(images) for row in found)


def test_the_other_subcommands_work_without(run, capsys):
    assert main(command("compare", run, "--seeds", "1")) == 0
    assert {row["measure"] for row in rows(run / "compare" / "results.csv")} == {"agreement"}
    assert main(command("predict", run, "--early_exit", "auto")) == 0
    assert "true_class" not in (run / "predictions.csv").read_text()
    assert main(command("diagnose", run)) == 0
    assert main(command("finetune", run, "--at", "2", "--trainer.limit_train_batches", "2")) == 0
    tuned = rows(run / "finetuned" / "results.csv")
    assert {row["measure"] for row in tuned} == {"agreement"}
    assert {row["labels"] for row in tuned} == {"0"}
    assert main(["report", str(run)]) == 0
    assert "Agreement with the ANN in %" in (run / "report.html").read_text()
    capsys.readouterr()
    assert main(command("finetune", run, "--at", "2", "--loss", "labels")) == 2
    assert "loss is labels, which reads labels, and the data has none" in capsys.readouterr().err


def test_a_training_is_refused(tmp_path, capsys):
    assert main(["fit", *UNLABELLED, "--trainer.default_root_dir", str(tmp_path)]) == 2
    assert "fit trains on labels, and DigitsDataModule leaves them out" in capsys.readouterr().err
    assert not (tmp_path / "ann.ckpt").exists()


def test_real_targets_are_left_out_too(tmp_path):
    words = ["--config", str(ROOT / "configs/diabetes_mlp.yaml"), "--timesteps", "2,16"]
    words += ["--calibration.methods", "[exact]", "--trainer.enable_progress_bar", "false"]
    fit = ["--trainer.default_root_dir", str(tmp_path / "fit"), "--trainer.max_epochs", "3"]
    assert main(["fit", *words, *fit]) == 0
    own = ["--trainer.default_root_dir", str(tmp_path / "run"), "--data.labelled", "false"]
    ann = str(tmp_path / "fit" / "ann.ckpt")
    assert main(["calibrate", *words, *own, "--ckpt_path", ann]) == 0
    found = rows(tmp_path / "run" / "results.csv")
    assert {row["measure"] for row in found} == {"r2"}
    reached = {(row["method"], row["timesteps"]): float(row["accuracy"]) for row in found}
    assert reached["ann", ""] == 1
    assert reached["snn_ftbc_exact", "2"] < reached["snn_ftbc_exact", "16"] < 1
    data = DiabetesDataModule(labelled=False)
    data.setup()
    assert next(iter(data.test_dataloader()))[1] is None


def test_r2_after_each_step_over_batches_of_two_sizes():
    generator = torch.Generator().manual_seed(0)
    outputs, targets = torch.randn(3, 7, 2, generator=generator), torch.randn(7, 2)
    metric = StepR2(timesteps=3)
    for part in (slice(0, 5), slice(5, 7)):
        metric.update(outputs[:, part], targets[part])
    spread = float(((targets - targets.mean()) ** 2).sum())
    wanted = [1 - float(((step - targets) ** 2).sum()) / spread for step in outputs]
    assert metric.curve() == pytest.approx(wanted, abs=1e-5)
    assert metric.samples == 7
    alone, other = StepR2(timesteps=1), StepR2(timesteps=1)
    large = 10_000 + targets
    alone.update(large[None] + 0.5, large)
    other.update(targets[None].double() + 0.5, targets)
    assert alone.curve() == pytest.approx(other.curve(), abs=1e-3)  # float32 would give 0
    same = StepR2(timesteps=1)
    same.update(torch.ones(1, 3, 1), torch.ones(3, 1))
    assert same.curve() != same.curve()  # NaN: nothing to explain


def folder_of_images(root, count=30):
    for number in range(count):
        place = root / ("deep/er" if number % 3 else ".") / f"{number:02}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(place)
    return root


def test_a_folder_needs_no_classes(tmp_path):
    data = ImageFolderDataModule(
        root=str(folder_of_images(tmp_path)),
        labelled=False,
        validation_fraction=0.25,
        calibration_samples=10,
        num_workers=0,
    )
    data.setup()
    parts = {
        "train": [data.samples("train")[index][0] for index in data.train_indices],
        "validation": [data.samples("train")[index][0] for index in data.validation_indices],
        "test": [path for path, _ in data.samples("test")],
    }
    assert [len(part) for part in parts.values()] == [18, 6, 6]
    assert len({path for part in parts.values() for path in part}) == 30
    assert data.class_names is None
    for loader in (data.val_dataloader(), data.test_dataloader(), data.calibration_dataloader()):
        images, labels = next(iter(loader))
        assert images.shape[1:] == (3, 8, 8)
        assert labels is None


def test_an_empty_folder_is_named(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(UserError, match=r"has no images \(.*png"):
        ImageFolderDataModule(root=str(tmp_path), labelled=False).setup()


def test_maps_are_held_to_those_of_the_ann(tmp_path):
    words = ["--config", str(ROOT / "configs/shapes_unet.yaml"), "--model.network.width", "4"]
    words += ["--timesteps", "4", "--calibration.methods", "[exact]", "--trainer.max_epochs", "1"]
    words += ["--trainer.limit_train_batches", "4", "--trainer.limit_val_batches", "1"]
    words += ["--data.calibration_samples", "24"]
    words += ["--trainer.logger", "false", "--trainer.enable_progress_bar", "false"]
    assert main(["fit", *words, "--trainer.default_root_dir", str(tmp_path / "fit")]) == 0
    own = ["--trainer.default_root_dir", str(tmp_path / "run"), "--data.labelled", "false"]
    own += ["--ckpt_path", str(tmp_path / "fit" / "ann.ckpt")]
    assert main(["calibrate", *words, *own]) == 0
    found = rows(tmp_path / "run" / "results.csv")
    assert {row["measure"] for row in found} == {"miou_to_ann"}
    assert float(found[0]["accuracy"]) == 1
    assert all(0 < float(row["accuracy"]) <= 1 for row in found[1:])
