"""The examples in Python in the pages run."""

from functools import partial

import pytest
import torch
from PIL import Image

from ftbc_lightning import (
    ForwardTemporalBiasCorrection,
    SpikingClassifier,
    calibrate,
    convert,
    simulate,
)
from ftbc_lightning.ann import MLP, SmallCNN, UNet
from ftbc_lightning.training.trainer import Trainer
from tests.conftest import ROOT
from tests.docs.pages import blocks

PAGES = [
    "README.md",
    "docs/howto/network.md",
    "docs/howto/export.md",
    "docs/howto/hub.md",
    "docs/howto/predict.md",
    "docs/howto/finetune.md",
]


@pytest.fixture(scope="module")
def given():
    """What the text around an example has made before it."""
    torch.manual_seed(0)
    ann, samples = SmallCNN(in_channels=1).eval(), torch.rand(32, 1, 8, 8)
    snn = convert(ann, samples[:1], [samples], timesteps=4)
    calibrate(ann, snn, [samples])
    labels = simulate(snn, samples)[-1].argmax(-1)
    return {
        **{"ann": ann, "snn": snn, "samples": samples, "simulate": simulate},
        **{"calibration_samples": samples, "calibration_labels": labels},
        "batches": [(samples, labels)],
    }


def example_of(page, name):
    """The example on a page that makes a class."""
    found = blocks(ROOT / "docs" / "howto" / page, "python")
    return next(example for example in found if f"class {name}(" in example)


@pytest.mark.parametrize("page", PAGES)
def test_the_examples_of_a_page_run_and_give_logits_after_every_step(
    given, page, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "example", **given}
    for example in blocks(ROOT / page, "python"):
        exec(example, names)
    assert names["logits"].shape[-2:] == (len(names["samples"]), 10)
    assert names["logits"].isfinite().all()


def test_the_example_of_a_data_module_divides_and_calibrates():
    names = {}
    (example,) = blocks(ROOT / "docs" / "howto" / "data.md", "python")
    exec(example, names)
    data = names["Pulses"](calibration_samples=64)
    drawn = [labels for _, labels in data.calibration_dataloader()]
    assert len(torch.cat(drawn)) == 64
    samples, labels = next(iter(data.val_dataloader()))
    assert samples.shape == (40, 1, 32)
    assert torch.equal((samples[:, 0, 24] > samples[:, 0, 8]).long(), labels)


def test_the_example_of_a_forecast_divides_in_time_and_is_trained_and_calibrated(tmp_path):
    names = {}
    example = example_of("task.md", "Waves")
    exec(example, names)
    data = names["Waves"](batch_size=64, validation_fraction=0.2)
    data.setup()
    sizes = [len(data.train_indices), len(data.validation_indices), len(data.test_set)]
    assert sizes == [1280 - 27, 320 - 27, 400 - 27]
    assert data.persistence_error("validation") > 0.5
    adam = partial(torch.optim.Adam, lr=1e-3)
    module = SpikingClassifier(MLP(in_features=24, outputs=4), task="regression", optimizer=adam)
    methods = ForwardTemporalBiasCorrection(timesteps=[16], methods=["exact"])
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(
        max_epochs=8, callbacks=[methods], default_root_dir=tmp_path, accelerator="cpu", **quiet
    )
    trainer.fit(module, datamodule=data)
    trainer.validate(module, datamodule=data, verbose=False)
    reached = {row.method: row.accuracy for row in module.results}
    assert reached["ann"] < 0.3  # always saying the mean: 1
    assert reached["snn_ftbc_exact"] < 0.3


def test_the_example_of_several_labels_is_trained_and_calibrated(tmp_path):
    names = {}
    exec(example_of("task.md", "Topics"), names)
    adam = partial(torch.optim.Adam, lr=3e-3)
    module = SpikingClassifier(MLP(in_features=20, outputs=5), task="multilabel", optimizer=adam)
    methods = ForwardTemporalBiasCorrection(timesteps=[8], methods=["exact"])
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(
        max_epochs=12, callbacks=[methods], default_root_dir=tmp_path, accelerator="cpu", **quiet
    )
    data = names["Topics"]()
    trainer.fit(module, datamodule=data)
    trainer.validate(module, datamodule=data, verbose=False)
    reached = {row.method: row.accuracy for row in module.results}
    assert reached["ann"] > 0.75  # always saying every label: 0.56
    assert reached["snn_ftbc_exact"] > 0.75


def test_the_example_of_pictures_with_masks_gives_a_class_for_each_pixel(tmp_path):
    names = {}
    exec(example_of("task.md", "Masks"), names)
    for split in ("train", "test"):
        for kind in ("images", "masks"):
            (tmp_path / split / kind).mkdir(parents=True)
            for value in range(8):
                pixels = Image.new("L", (32, 32), value % 4)
                pixels.save(tmp_path / split / kind / f"{value}.png")
    data = names["Masks"](root=str(tmp_path), calibration_samples=4, validation_fraction=0.25)
    data.setup()
    samples, labels = next(iter(data.test_dataloader()))
    assert samples.shape == (8, 1, 32, 32)
    assert torch.equal((255 * samples[:, 0]).round().to(torch.uint8), labels)
    network = UNet(num_classes=4, in_channels=1, width=2)
    module = SpikingClassifier(network, task="dense_classification")
    assert module.task.loss(network(samples), labels, samples).isfinite()
    assert sum(len(labels) for _, labels in data.calibration_dataloader()) == 4


def test_the_example_of_the_tutorial_reads_the_biases_of_a_run(fitted, capsys):
    (example,) = blocks(ROOT / "docs" / "tutorial.md", "python")
    path = "runs/digits_resnet20/snn.ckpt"
    assert path in example
    exec(example.replace(path, str(fitted.folder / "snn.ckpt")).replace("_T8", "_T2"), {})
    shown = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in shown][:2] == ["act1", "block1_act1"]
    assert len(shown) == 6
