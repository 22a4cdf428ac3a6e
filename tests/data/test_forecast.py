"""Forecasts: windows by a slow loop, parts that share no value, and a run on the EEG."""

import csv

import pytest
import torch
from torch import nn

from ftbc_lightning import UserError
from ftbc_lightning.ann import MLP
from ftbc_lightning.cli import main
from ftbc_lightning.data import EEGDataModule, ForecastDataModule
from ftbc_lightning.data.forecast import PARTS, windows
from tests.conftest import ROOT


class Given(ForecastDataModule):
    """Series that a test gives."""

    def __init__(self, *series, window=5, horizon=2, calibration_samples=8, **settings):
        super().__init__(
            window=window, horizon=horizon, calibration_samples=calibration_samples, **settings
        )
        self.given = series

    def series(self):
        return self.given[0] if len(self.given) == 1 else self.given


class Oscillations(Given):
    """Two channels that beat, for the command line."""

    def __init__(self, *, window: int = 12, horizon: int = 2, **settings) -> None:
        times = torch.arange(600.0)
        both = torch.stack([torch.sin(times / 3) + torch.sin(times / 7), torch.cos(times / 4)], 1)
        super().__init__(both, window=window, horizon=horizon, **settings)


def parts(data):
    """Inputs and targets of the samples that train, that validate and that test."""
    data.setup()
    for samples in (data.calibration_pool, data.validation_set, data.test_set):
        inputs, targets = zip(*[samples[n] for n in range(len(samples))], strict=True)
        yield torch.stack(inputs), torch.stack(targets)


# Windows


@pytest.mark.parametrize("shape", [(20,), (20, 3)])
def test_windows_are_those_of_a_loop(shape):
    values = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    inputs, targets = windows(values, 5, 2)
    assert len(inputs) == len(targets) == 14
    for start in range(14):
        past, future = values[start : start + 5], values[start + 5 : start + 7]
        assert torch.equal(inputs[start], past.T if len(shape) == 2 else past)
        assert torch.equal(targets[start], future.T.flatten() if len(shape) == 2 else future)


@pytest.mark.parametrize("channels", [None, 1, 3])
def test_shapes_are_known_before_setup_and_are_those_of_the_samples(channels):
    shape = (200,) if channels is None else (200, channels)
    data = Given(torch.randn(shape, generator=torch.Generator().manual_seed(0)))
    assert data.input_shape == ((5,) if channels is None else (channels, 5))
    assert data.num_outputs == 2 * (channels or 1)
    for inputs, targets in parts(data):
        assert inputs.shape[1:] == data.input_shape
        assert targets.shape[1:] == (data.num_outputs,)


# Parts


def test_of_every_series_the_test_follows_what_validates_and_that_what_trains():
    data = Given(torch.arange(100.0), 1000 + torch.arange(60.0), validation_fraction=0.25)
    train, validation, test = (torch.cat(both, 1) for both in parts(data))
    assert [len(found) for found in (train, validation, test)] == [54 + 30, 14 + 6, 14 + 6]
    assert train.max() < validation.min()  # both series grow evenly
    assert validation.max() < test.min()


def test_every_value_of_a_series_is_in_one_part_alone():
    data = Given(torch.arange(100.0) ** 2, validation_fraction=0.25)
    train = torch.arange(60.0) ** 2
    found = [
        {round(float(value)) for value in torch.cat(both, 1).flatten() * train.std() + train.mean()}
        for both in parts(data)
    ]
    places = [range(60), range(60, 80), range(80, 100)]
    assert [sorted(each) for each in found] == [[n * n for n in part] for part in places]
    assert (len(data.train_indices), len(data.validation_indices), len(data.test_set)) == (
        60 - 6,
        20 - 6,
        20 - 6,
    )


def test_what_comes_after_the_training_part_changes_nothing_in_it():
    values = torch.randn(100, 2, generator=torch.Generator().manual_seed(0))
    later = values.clone()
    later[60:] *= 100
    one, other = (Given(each, validation_fraction=0.25) for each in (values, later))
    (inputs, targets), *_ = parts(one)
    (same, same_targets), *others = parts(other)
    assert torch.equal(inputs, same)
    assert torch.equal(targets, same_targets)
    assert all(float(found.std()) > 10 for found, _ in others)
    trained = ((values - values[:60].mean(0)) / values[:60].std(0))[:5]
    torch.testing.assert_close(inputs[0], trained.T)


def test_the_division_does_not_depend_on_the_seed():
    values = torch.randn(100, generator=torch.Generator().manual_seed(0))
    one, other = (Given(values, seed=seed) for seed in (0, 7))
    for both in zip(parts(one), parts(other), strict=True):
        assert torch.equal(both[0][0], both[1][0])


@pytest.mark.parametrize("shape", [(100,), (100, 3)])
def test_persistence_is_the_error_of_saying_the_last_value_again(shape):
    data = Given(torch.randn(shape, generator=torch.Generator().manual_seed(0)))
    for part, (inputs, targets) in zip(PARTS, parts(data), strict=True):
        squares = [
            (float(values[-1]) - float(target)) ** 2
            for row, wanted in zip(inputs, targets, strict=True)
            for channel, values in enumerate(row.reshape(-1, 5))
            for target in wanted[2 * channel : 2 * channel + 2]
        ]
        expected = (sum(squares) / len(squares)) ** 0.5
        assert data.persistence_error(part) == pytest.approx(expected, rel=1e-6)


# Mistakes


@pytest.mark.parametrize(
    ("series", "said"),
    [
        ((torch.zeros(9, 9, 9),), "of shape [9, 9, 9]; [N] or [N, channels] is needed"),
        ((torch.zeros(100, 0),), "of shape [100, 0]"),
        ((torch.arange(100.0), torch.zeros(100, 2)), "of shape [100, 2]"),
        ((torch.arange(100.0).log(),), "NaN or infinite; fill the gaps first"),
        ((torch.arange(60.0),), "60 values, 5 of them in the part 'validation'; one window"),
        ((torch.zeros(100),), "never changes in the part 'train'"),
        (((),), "Given has no series"),
    ],
)
def test_a_series_that_gives_no_forecast_is_one_line(series, said):
    with pytest.raises(UserError) as caught:
        Given(*series).prepare_data()
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"window": 0}, "window is 0; it must be a whole number from 1"),
        ({"horizon": 1.5}, "horizon is 1.5; it must be a whole number from 1"),
        ({"test_fraction": 1.0}, "test_fraction is 1.0; it must lie between 0 and 1"),
    ],
)
def test_a_setting_out_of_range_is_named(setting, said):
    with pytest.raises(UserError) as caught:
        Given(torch.arange(100.0), **setting)
    assert said in str(caught.value)


def test_missing_sample_data_of_matplotlib_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(
        "matplotlib.cbook.get_sample_data", lambda name, asfileobj: str(tmp_path / name)
    )
    with pytest.raises(UserError, match="without its sample data"):
        EEGDataModule().prepare_data()


# Runs


def test_several_channels_go_from_fit_to_test(tmp_path):
    words = ["--data", "tests.data.test_forecast.Oscillations", "--timesteps", "8"]
    words += ["--model.task", "regression", "--model.network", "ftbc_lightning.ann.MLP"]
    words += ["--model.network.in_features", "24", "--model.network.outputs", "4"]
    words += ["--trainer.default_root_dir", str(tmp_path), "--trainer.accelerator", "cpu"]
    words += ["--trainer.max_epochs", "3", "--trainer.enable_progress_bar", "false"]
    assert main(["fit", *words]) == 0
    assert main(["test", *words, "--ckpt_path", str(tmp_path / "snn.ckpt")]) == 0


def test_a_fully_connected_network_takes_a_sample_of_any_shape():
    network = MLP(in_features=24, outputs=4)
    samples = torch.rand(3, 2, 12)
    assert torch.equal(network(samples), network(nn.Flatten()(samples)))


def test_the_eeg_is_foretold_better_than_by_persistence(tmp_path):
    words = ["--config", str(ROOT / "configs" / "eeg_mlp.yaml")]
    words += ["--calibration.methods", "[exact]", "--timesteps", "16"]
    words += ["--trainer.default_root_dir", str(tmp_path), "--trainer.enable_progress_bar", "false"]
    assert main(["fit", *words]) == 0
    assert main(["test", *words, "--ckpt_path", str(tmp_path / "snn.ckpt")]) == 0
    data = EEGDataModule()
    data.setup()
    with (tmp_path / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    for split, part in (("val", "validation"), ("test", "test")):
        reached = {r["method"]: float(r["accuracy"]) for r in rows if r["split"] == split}
        assert reached["ann"] < 0.9 * data.persistence_error(part)
        assert reached["snn_ftbc_exact"] < 1.05 * reached["ann"]
