"""Every way to load a checkpoint, before and after conversion, gives the network of the file."""

import csv
from zipfile import ZipFile

import pytest
import torch

from ftbc_lightning import SpikingClassifier, Trainer, UserError
from ftbc_lightning.ann import SmallCNN
from ftbc_lightning.cli import run
from ftbc_lightning.data import DigitsDataModule
from ftbc_lightning.training.callbacks import ForwardTemporalBiasCorrection
from tests.conftest import digits


def rows(folder, split):
    """Results without the seconds."""
    with (folder / "results.csv").open() as file:
        return [
            (row["method"], row["timesteps"], row["accuracy"], row["n"])
            for row in csv.DictReader(file)
            if row["split"] == split
        ]


def quiet(tmp_path, **settings):
    return Trainer(
        accelerator="cpu",
        default_root_dir=tmp_path,
        enable_progress_bar=False,
        enable_model_summary=False,
        logger=False,
        **settings,
    )


@pytest.fixture(scope="module")
def validated(fitted, tmp_path_factory):
    """What `ftbc validate` of the file leaves elsewhere."""
    folder = tmp_path_factory.mktemp("validated")
    run(fitted.args("validate", "--ckpt_path", str(fitted.folder / "snn.ckpt"), folder=folder))
    return folder


def test_validating_the_snn_file_gives_the_calibrated_figures_again(fitted, validated):
    assert rows(validated, "val") == rows(fitted.folder, "val")
    assert len(rows(validated, "val")) == 1 + 2 * 5


def test_validating_a_file_does_not_write_it_again(validated):
    assert not (validated / "snn.ckpt").exists()


def test_testing_the_snn_file_evaluates_every_network_on_the_test_split(fitted, tmp_path):
    path = str(fitted.folder / "snn.ckpt")
    first = run(fitted.args("test", "--ckpt_path", path, folder=tmp_path))
    assert first.model.phase == "calibrated"
    found = rows(tmp_path, "test")
    run(fitted.args("test", "--ckpt_path", path, folder=tmp_path))
    assert rows(tmp_path, "test") == found
    assert len(found) == 1 + 2 * 5


def test_testing_an_ann_file_evaluates_the_ann_alone(fitted, tmp_path):
    path = str(fitted.folder / "ann.ckpt")
    cli = run(fitted.args("test", "--ckpt_path", path, folder=tmp_path))
    assert cli.model.phase == "ann"
    assert [row.method for row in cli.model.results] == ["ann"]


ONE_NETWORK = {"timesteps": [2], "methods": ["exact"]}


def fit(tmp_path, *, calibration=None, **checkpoint):
    from lightning.pytorch.callbacks import ModelCheckpoint

    module = SpikingClassifier(SmallCNN(in_channels=1))
    trainer = quiet(
        tmp_path,
        max_epochs=1,
        callbacks=[
            ForwardTemporalBiasCorrection(**(calibration or ONE_NETWORK)),
            ModelCheckpoint(tmp_path, **checkpoint),
        ],
    )
    data = DigitsDataModule(calibration_samples=64)
    trainer.fit(module, datamodule=data)
    assert module.phase == "converted"
    trainer.validate(module, datamodule=data, verbose=False)
    assert module.phase == "calibrated"
    return module, trainer, data


@pytest.mark.parametrize("which", ["best", "last"])
def test_testing_best_or_last_after_conversion_goes_back_to_the_ann(tmp_path, which):
    module, trainer, data = fit(tmp_path, save_last=True)
    trainer.test(module, datamodule=data, ckpt_path=which, verbose=False)
    assert module.phase == "ann"
    assert len(module.snns) == 0


def test_a_second_fit_after_conversion_trains_the_ann_and_converts_again(tmp_path):
    module, trainer, data = fit(tmp_path)
    before = module.ann.conv1.weight.clone()
    trainer.fit_loop.max_epochs = 2
    trainer.fit(module, datamodule=data)
    assert module.phase == "converted"
    assert not torch.equal(before, module.ann.conv1.weight)
    trainer.validate(module, datamodule=data, verbose=False)
    assert module.phase == "calibrated"


def test_loading_an_ann_in_python_gives_an_ann(fitted):
    module = SpikingClassifier.load_from_checkpoint(fitted.folder / "ann.ckpt")
    assert module.phase == "ann"
    expected = fitted.cli.model.ann.state_dict()
    assert all(torch.equal(v.cpu(), expected[k]) for k, v in module.ann.state_dict().items())


def test_loading_an_snn_in_python_gives_the_same_logits(fitted):
    module = SpikingClassifier.load_from_checkpoint(fitted.folder / "snn.ckpt")
    assert module.phase == "calibrated"
    images = torch.rand(5, 1, 8, 8)
    for key, network in fitted.cli.model.snns.items():
        assert torch.equal(network(images), module.snns[key](images))


@pytest.mark.parametrize(("device", "is_read"), [(b"cuda:99", True), (b"nothing", False)])
def test_a_file_of_another_device_is_read_or_the_way_out_is_named(
    fitted, tmp_path, device, is_read
):
    path = tmp_path / "snn.ckpt"
    with ZipFile(fitted.folder / "snn.ckpt") as old, ZipFile(path, "w") as new:
        for entry in old.infolist():
            content = old.read(entry)
            if entry.filename.endswith("data.pkl"):
                # where each tensor was, as pickle writes a string
                assert content.count(b"X\x03\0\0\0cpu")
                content = content.replace(b"X\x03\0\0\0cpu", b"X\x07\0\0\0" + device)
            new.writestr(entry, content)
    if is_read and not torch.cuda.is_available():
        assert SpikingClassifier.load_from_checkpoint(path).phase == "calibrated"
    else:
        with pytest.raises(UserError, match="on a device that is not here; give map_location"):
            SpikingClassifier.load_from_checkpoint(path)
    module = SpikingClassifier.load_from_checkpoint(path, map_location="cpu")
    assert {value.device.type for value in module.state_dict().values()} == {"cpu"}


def test_a_module_made_in_python_is_loaded_with_its_network(tmp_path):
    module, trainer, _ = fit(tmp_path)
    trainer.save_checkpoint(tmp_path / "snn.ckpt", weights_only=True)
    loaded = SpikingClassifier.load_from_checkpoint(
        tmp_path / "snn.ckpt", network=SmallCNN(in_channels=1)
    )
    images = torch.rand(5, 1, 8, 8)
    key = next(iter(module.snns))
    assert torch.equal(module.snns[key](images), loaded.snns[key](images))


def test_networks_with_weights_and_membranes_of_their_own_come_back_from_the_file(tmp_path):
    methods = ["exact", "weights+exact", "potential+static"]
    calibration = {"timesteps": [2], "methods": methods}
    module, trainer, data = fit(tmp_path, calibration=calibration, save_last=True)
    trainer.save_checkpoint(tmp_path / "snn.ckpt", weights_only=True)
    torch.load(tmp_path / "snn.ckpt", weights_only=True)
    snns = module.snns
    assert list(snns) == [
        "snn_uncalibrated_T2",
        "snn_ftbc_exact_T2",
        "snn_weights_ftbc_exact_T2",
        "snn_potential_static_T2",
    ]
    shared, own = (snns[f"snn_{name}_T2"].layers.conv2 for name in ("ftbc_exact", METHOD))
    assert not torch.equal(shared.weight, own.weight)
    images = torch.rand(5, 1, 8, 8)
    expected = {key: network(images) for key, network in snns.items()}
    loaded = SpikingClassifier.load_from_checkpoint(
        tmp_path / "snn.ckpt", network=SmallCNN(in_channels=1)
    )
    trainer.test(module, datamodule=data, ckpt_path="last", verbose=False)
    assert module.phase == "ann"  # and back again
    trainer.test(module, datamodule=data, ckpt_path=tmp_path / "snn.ckpt", verbose=False)
    for key, logits in expected.items():
        assert torch.equal(loaded.snns[key](images), logits)
        assert torch.equal(module.snns[key](images), logits)


METHOD = "weights_ftbc_exact"


def test_an_anytime_network_is_stored_once_and_reported_for_every_t(tmp_path):
    calibration = {"timesteps": [1, 2, 4], "threshold_rule": "max", "anytime": True}
    module, trainer, data = fit(tmp_path, calibration={**calibration, "methods": ["exact"]})
    trainer.save_checkpoint(tmp_path / "snn.ckpt", weights_only=True)
    assert list(module.snns) == ["snn_uncalibrated_T4", "snn_ftbc_exact_T4"]
    found = [(row.method, row.timesteps) for row in module.results]
    methods = ("snn_uncalibrated", "snn_ftbc_exact")
    assert found == [("ann", None), *((m, t) for m in methods for t in (1, 2, 4))]
    again = SpikingClassifier.load_from_checkpoint(
        tmp_path / "snn.ckpt", network=SmallCNN(in_channels=1)
    )
    trainer.validate(again, datamodule=data, verbose=False)
    assert [r.accuracy for r in again.results] == [r.accuracy for r in module.results]


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({}, "calibration.threshold_rule mse depends on T"),
        ({"threshold_rule": "max", "half_threshold": "per_step"}, "per_step depends on T"),
    ],
)
def test_anytime_is_refused_where_the_network_depends_on_t(settings, found):
    with pytest.raises(UserError, match=found):
        ForwardTemporalBiasCorrection(anytime=True, **settings)


def test_checkpoints_load_in_safe_mode(fitted):
    for name in ("ann.ckpt", "snn.ckpt"):
        torch.load(fitted.folder / name, weights_only=True)


def test_no_inference_tensor_is_left_in_the_module(fitted):
    state = fitted.cli.model.state_dict()
    assert any("temporal_bias" in key for key in state)
    assert not any(value.is_inference() for value in state.values())


def test_linear_layers_are_stored_once(fitted):
    state = torch.load(fitted.folder / "snn.ckpt", weights_only=True)["state_dict"]
    storages = {v.untyped_storage().data_ptr() for k, v in state.items() if "conv2.weight" in k}
    own = [key for key in state if key.startswith("ann.") and "conv2.weight" in key]
    corrected = sum("weights" in variant.method for variant in fitted.cli.model.variants.values())
    # the ANN's, one folded copy of each, and those of every network with weights of its own
    assert len(storages) == (2 + corrected) * len(own)


def test_testing_a_converted_network_without_calibration_is_refused(tmp_path):
    module = SpikingClassifier(SmallCNN(in_channels=1))
    data = DigitsDataModule()
    callback = ForwardTemporalBiasCorrection(timesteps=[2])
    trainer = quiet(tmp_path, max_epochs=1, callbacks=[callback], enable_checkpointing=False)
    trainer.fit(module, datamodule=data)
    with pytest.raises(UserError, match="converted but not calibrated"):
        trainer.test(module, datamodule=data)


def test_bytes_of_the_results_do_not_depend_on_the_run(fitted, tmp_path):
    again = run(digits("fit", tmp_path)).model.state_dict()
    first = torch.load(fitted.folder / "snn.ckpt", weights_only=True)["state_dict"]
    assert again.keys() == first.keys()
    assert all(torch.equal(value, first[key]) for key, value in again.items())
    assert rows(tmp_path, "val") == rows(fitted.folder, "val")
