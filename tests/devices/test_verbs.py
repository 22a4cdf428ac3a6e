"""Every subcommand of the command line on a device gives what it gives on a CPU."""

import csv
import json
from pathlib import Path

import pytest
import torch

from ftbc_lightning.cli import main
from tests import pretend_device
from tests.conftest import ROOT
from tests.devices.conftest import PLACES, Finished, command

METHODS = "[exact, weights+potential+static]"


def rows(path: Path) -> list[dict[str, str]]:
    """A table without what a clock says."""
    with path.open() as file:
        found = list(csv.DictReader(file))
    assert found
    return [{k: v for k, v in row.items() if k not in ("seconds", "settings")} for row in found]


def state(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True, map_location="cpu")["state_dict"]


def same_state(path: Path, other: Path) -> bool:
    own, others = state(path), state(other)
    assert own.keys() == others.keys()
    return all(torch.equal(value, others[name]) for name, value in own.items())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Run a command in one place; returns its folder and what it printed."""

    def run(capsys, subcommand: str, place: str, *more: str) -> Finished:
        folder = tmp_path_factory.mktemp(f"{subcommand}-{place}")
        assert main(command(subcommand, folder, place, *more)) == 0
        return Finished(folder, capsys.readouterr().out.replace(str(folder), "FOLDER"))

    return run


@pytest.fixture(scope="module")
def fits(tmp_path_factory):
    """`ftbc fit` in both places."""
    folders = {}
    for place in ("cpu", "pretend"):
        folders[place] = tmp_path_factory.mktemp(f"fit-{place}")
        assert main(command("fit", folders[place], place, "--calibration.methods", METHODS)) == 0
    return folders


@pytest.fixture(scope="module")
def both(run, fits):
    """Run a subcommand in both places, on a file that was written on the device."""

    def both(capsys, subcommand: str, *more: str, file: str = "snn.ckpt") -> list[Finished]:
        given = ["--ckpt_path", str(fits["pretend"] / file)] if file else []
        return [run(capsys, subcommand, place, *given, *more) for place in ("cpu", "pretend")]

    return both


def test_fit_trains_converts_and_calibrates_the_same_to_the_bit(fits):
    for name in ("ann.ckpt", "snn.ckpt"):
        assert same_state(fits["cpu"] / name, fits["pretend"] / name)


@pytest.mark.parametrize(
    "name", ["results.csv", "steps.csv", "curves/layers.csv", "curves/operations.csv"]
)
def test_fit_leaves_the_same_tables(fits, name):
    assert rows(fits["cpu"] / name) == rows(fits["pretend"] / name)


def test_validate(both, capsys):
    here, there = both(capsys, "validate")
    assert rows(here.folder / "results.csv") == rows(there.folder / "results.csv")


@pytest.mark.parametrize("more", [(), ("--early_exit", "auto"), ("--early_exit", "0.4")], ids=str)
def test_predict(both, capsys, more):
    here, there = both(capsys, "predict", *more)
    assert rows(here.folder / "predictions.csv") == rows(there.folder / "predictions.csv")


def test_calibrate_for_any_time(both, capsys):
    here, there = both(capsys, "calibrate", "--calibration.anytime", "true", file="ann.ckpt")
    assert same_state(here.folder / "snn.ckpt", there.folder / "snn.ckpt")
    for name in ("results.csv", "curves/operations.csv"):
        assert rows(here.folder / name) == rows(there.folder / name)


@pytest.mark.parametrize(("precision", "method"), [("bf16-true", "static"), ("64-true", "exact")])
def test_calibrate_in_another_precision(both, capsys, precision, method):
    more = ("--trainer.precision", precision, "--calibration.methods", f"[{method}]")
    here, there = both(capsys, "calibrate", *more, file="ann.ckpt")
    assert same_state(here.folder / "snn.ckpt", there.folder / "snn.ckpt")
    assert rows(here.folder / "results.csv") == rows(there.folder / "results.csv")


FEW = ["--calibration.methods", METHODS]  # of the cheapest kind all that a fit takes by itself

SMALL_TONES = ["--data.samples", "80", "--data.calibration_samples", "16"]
SMALL_TONES += ["--model.network.width", "4", *FEW]


SMALL_SHAPES = ["--model.network.width", "4", "--data.calibration_samples", "8", *FEW]
SMALL_SHAPES += ["--trainer.limit_train_batches", "2", "--trainer.limit_val_batches", "1"]


def shipped(name: str) -> list[str]:
    return ["--config", str(ROOT / "configs" / f"{name}.yaml")]


LABELLED = ["--data", "tests.multilabel.TopicsDataModule", "--model.task", "multilabel"]
LABELLED += ["--model.network", "tests.multilabel.TopicsNetwork"]
KINDS = {
    "values": shipped("diabetes_mlp"),
    "forecasts": [*shipped("eeg_mlp"), *FEW],
    "sounds": shipped("tones_cnn") + SMALL_TONES,
    "places": shipped("shapes_unet") + SMALL_SHAPES,
    "several labels": [*LABELLED, *FEW],
    "several labels by sigmoid": [*LABELLED, *FEW, "--model.network.ending", "sigmoid"],
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_fit_of_another_kind_of_data(tmp_path, kind):
    words = [*kind, "--timesteps", "2"]
    words += ["--trainer.max_epochs", "2", "--trainer.enable_progress_bar", "false"]
    for place, where in PLACES.items():
        folder = ("--trainer.default_root_dir", str(tmp_path / place), "--trainer.logger", "false")
        assert main(["fit", *words, *folder, *where]) == 0
    assert same_state(tmp_path / "cpu" / "snn.ckpt", tmp_path / "pretend" / "snn.ckpt")
    for name in ("results.csv", "steps.csv"):
        found = rows(tmp_path / "pretend" / name)
        assert found == rows(tmp_path / "cpu" / name)


def test_finetune(both, capsys):
    # SGD: torch's Adam adds in another order on devices that it has joined operations for
    more = ("--at", "2", "--thresholds", "true", "--checkpointing", "true")
    here, there = both(capsys, "finetune", *more, "--optimizer", "SGD", "--optimizer.lr", "0.01")
    for name in ("snn.ckpt", "finetuning.ckpt"):
        assert same_state(here.folder / "finetuned" / name, there.folder / "finetuned" / name)
    for name in ("results.csv", "steps.csv"):
        own, others = (rows(found.folder / "finetuned" / name) for found in (here, there))
        assert own == others


def test_compare_over_several_draws(both, capsys):
    more = ("--seeds", "2", "--calibration.methods", "[exact, weights]")
    here, there = both(capsys, "compare", *more, file="ann.ckpt")
    assert rows(here.folder / "compare/results.csv") == rows(there.folder / "compare/results.csv")


@pytest.mark.parametrize(("subcommand", "file"), [("diagnose", "snn.ckpt"), ("inspect", "")])
def test_what_is_printed(both, capsys, subcommand, file):
    here, there = (found.printed.splitlines() for found in both(capsys, subcommand, file=file))
    assert [line for line in here if not line.startswith("Device")] == [
        line for line in there if not line.startswith("Device")
    ]


@pytest.mark.slow
def test_benchmark(both, capsys):
    pytest.importorskip("neurobench")
    here, there = both(capsys, "benchmark", "--samples", "50")
    written = [
        json.loads(next((found.folder / "neurobench").glob("*.json")).read_text())
        for found in (here, there)
    ]
    assert written[0] == written[1]
    assert written[0]["results"]["SynapticOperations"]["Effective_ACs"] > 0


def test_a_machine_without_the_device_exports_and_reports_what_was_run_there(
    fits, capsys, tmp_path
):
    written = []
    with pretend_device.unplugged():
        for place in ("cpu", "pretend"):
            output = tmp_path / f"{place}.safetensors"
            file = str(fits[place] / "snn.ckpt")
            assert main(["export", "--ckpt_path", file, "--output", str(output)]) == 0
            assert main(["report", str(fits[place])]) == 0
            assert (fits[place] / "report.html").is_file()
            written.append(output.read_bytes())
    assert written[0] == written[1]


def test_a_machine_without_the_device_goes_on_with_what_was_run_there(run, fits, capsys):
    with pretend_device.unplugged():
        there = run(capsys, "test", "cpu", "--ckpt_path", str(fits["pretend"] / "snn.ckpt"))
    here = run(capsys, "test", "pretend", "--ckpt_path", str(fits["cpu"] / "snn.ckpt"))
    assert rows(here.folder / "results.csv") == rows(there.folder / "results.csv")
