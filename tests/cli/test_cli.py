"""The command line as a person meets it."""

import csv
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ftbc_lightning.cli import main
from ftbc_lightning.cli.arguments import timesteps
from tests.conftest import DIGITS, ROOT, digits

CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))


def test_fit_leaves_its_files_and_says_what_is_next(fitted):
    for name in ("ann.ckpt", "snn.ckpt", "accuracy_by_step.png", "bias_curves.png"):
        assert (fitted.folder / name).stat().st_size > 0
    with (fitted.folder / "results.csv").open() as file:
        reader = csv.DictReader(file)
        found = list(reader)
    expected = ["split", "method", "timesteps", "accuracy", "n", "seed", "seconds", "neuron"]
    expected += ["labels", "measure"]
    assert reader.fieldnames == expected
    assert [row["method"] for row in found[:5]] == [
        "ann",
        "snn_uncalibrated",
        "snn_static",
        "snn_ftbc_iterative",
        "snn_ftbc_exact",
    ]
    assert {row["n"] for row in found} == {"360"}
    assert {row["seed"] for row in found} == {"0"}


def test_the_ann_file_holds_the_weights_that_were_converted(fitted):
    state = torch.load(fitted.folder / "ann.ckpt", weights_only=True)["state_dict"]
    own = fitted.cli.model.ann.state_dict()
    assert all(torch.equal(state[f"ann.{key}"], value) for key, value in own.items())


def test_no_half_written_file_is_left(fitted):
    assert [path.name for path in fitted.folder.iterdir() if path.name.startswith(".")] == []


def test_calibrate_takes_a_trained_ann(fitted, tmp_path, capsys):
    command = fitted.args("calibrate", folder=tmp_path)
    command += ["--ckpt_path", str(fitted.folder / "ann.ckpt"), "--timesteps", "3"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "T=3" in printed
    assert "Next: ftbc test" in printed
    assert (tmp_path / "snn.ckpt").exists()


def test_predict_runs_on_the_snn_file(fitted, tmp_path):
    from ftbc_lightning.cli import run

    path = str(fitted.folder / "snn.ckpt")
    cli = run(fitted.args("predict", "--ckpt_path", path, folder=tmp_path))
    assert cli.model.phase == "calibrated"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_configuration_parses(path, capsys):
    with pytest.raises(SystemExit) as left:
        main(["fit", "--config", str(path), "--print_config"])
    assert left.value.code == 0
    assert "class_path" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("value", "expected"), [("4", [4]), ("1,2,4", [1, 2, 4]), (8, [8]), ([1, 2], [1, 2])]
)
def test_time_steps_are_read_in_every_form(value, expected):
    assert timesteps(value) == expected


def test_the_module_is_a_program(tmp_path):
    command = [sys.executable, "-m", "ftbc_lightning", "--help"]
    finished = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert finished.returncode == 0
    assert "calibrate" in finished.stdout


# A user's mistakes: one clear line, and an exit code that is not 0.


def mistake(capsys, command):
    """The error of a command that must fail, as the one line it has to be."""
    try:
        code = main([str(word) for word in command])
    except SystemExit as left:
        code = left.code
    assert code not in (0, None)
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if "error" in line.lower()]
    assert "Traceback" not in captured.err
    assert len(lines) == 1, captured.err
    assert captured.err.splitlines()[-1] == lines[0]
    return lines[0]


def test_a_missing_configuration(capsys, tmp_path):
    line = mistake(capsys, ["fit", "--config", tmp_path / "none.yaml"])
    assert "none.yaml" in line


def test_less_than_one_time_step(capsys, tmp_path):
    line = mistake(capsys, [*digits("fit", tmp_path), "--timesteps", "0"])
    assert line == "ftbc: error: timesteps is 0; a spiking network needs at least 1 time step."


def test_time_steps_that_are_no_numbers(capsys, tmp_path):
    assert "timesteps" in mistake(capsys, [*digits("fit", tmp_path), "--timesteps", "many"])


def test_a_folder_that_is_not_there(capsys, tmp_path):
    path = ROOT / "configs" / "cifar10_resnet20.yaml"
    line = mistake(capsys, ["fit", "--config", path, "--data.root", tmp_path / "none"])
    assert "CIFAR10 cannot be read from" in line
    assert "--data.download true" in line


def test_a_unlabelled_folder_that_is_not_there(capsys, tmp_path):
    path = ROOT / "configs" / "imagenet_resnet34.yaml"
    line = mistake(capsys, ["fit", "--config", path, "--data.root", tmp_path / "none"])
    assert "There is no folder" in line


def test_a_checkpoint_that_is_not_there(capsys, tmp_path):
    command = [*digits("test", tmp_path), "--ckpt_path", tmp_path / "none.ckpt"]
    assert "There is no file" in mistake(capsys, command)


@pytest.mark.parametrize("subcommand", ["test", "calibrate"])
def test_a_truncated_checkpoint(capsys, fitted, tmp_path, subcommand):
    cut = tmp_path / "cut.ckpt"
    cut.write_bytes((fitted.folder / "ann.ckpt").read_bytes()[:5000])
    line = mistake(capsys, [*digits(subcommand, tmp_path), "--ckpt_path", cut])
    assert "cut.ckpt cannot be read as a checkpoint" in line


@pytest.mark.parametrize("subcommand", ["test", "calibrate"])
def test_a_checkpoint_of_another_network(capsys, fitted, tmp_path, subcommand):
    command = [*digits(subcommand, tmp_path), "--ckpt_path", fitted.folder / "ann.ckpt"]
    line = mistake(capsys, [*command, "--model.network.width", "8"])
    assert "The checkpoint holds another network than SmallCNN" in line


class Evil:
    def __reduce__(self):
        return (Path.touch, (Path("executed"),))


def test_a_checkpoint_with_code_is_refused_and_not_executed(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {}, "evil": Evil()}, "evil.ckpt")
    line = mistake(capsys, [*digits("test", tmp_path), "--ckpt_path", "evil.ckpt"])
    assert "evil.ckpt was refused" in line
    assert not Path("executed").exists()


def test_an_empty_calibration_set(capsys, tmp_path):
    line = mistake(capsys, [*digits("fit", tmp_path), "--data.calibration_samples", "0"])
    assert "calibration set is empty" in line


def test_more_calibration_samples_than_there_are(capsys, fitted, tmp_path):
    command = fitted.args("calibrate", "--data.calibration_samples", "5000", folder=tmp_path)
    line = mistake(capsys, [*command, "--ckpt_path", fitted.folder / "ann.ckpt"])
    assert "calibration_samples is 5000, but the training part has 1082" in line


def test_a_sample_of_the_wrong_size(capsys, tmp_path):
    images = np.zeros((40, 2, 2, 3), dtype=np.uint8)
    labels = np.arange(40) % 4
    np.savez(
        tmp_path / "small.npz",
        train_images=images,
        train_labels=labels,
        test_images=images,
        test_labels=labels,
    )
    config = tmp_path / "vgg.yaml"
    config.write_text(
        "model:\n  network:\n    class_path: ftbc_lightning.ann.VGG11\n"
        "data:\n  class_path: ftbc_lightning.data.ArrayDataModule\n"
        f"  init_args:\n    path: {tmp_path}/small.npz\n"
        f"trainer:\n  default_root_dir: {tmp_path}\n  max_epochs: 1\n  logger: false\n"
    )
    line = mistake(capsys, ["fit", "--config", config])
    assert "An input of shape [1, 3, 2, 2] does not pass features.7 (AvgPool2d)" in line


def test_a_network_with_unsupported_layers(capsys, tmp_path, monkeypatch):
    shutil.copy(ROOT / "tests" / "smooth_network.py", tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    command = [*digits("fit", tmp_path), "--model.network", "smooth_network.Smooth"]
    line = mistake(capsys, command)
    assert "2 of its nodes" in line
    assert "hidden.0 (GELU)" in line
    assert "last (Softmax)" in line


def test_an_unknown_method(capsys, tmp_path):
    line = mistake(capsys, [*digits("fit", tmp_path), "--calibration.methods", "[best]"])
    assert "best" in line


def test_inspect_prints_the_report_and_answers_with_its_exit_code(capsys, tmp_path, monkeypatch):
    assert main(digits("inspect", tmp_path)) == 0
    printed = capsys.readouterr().out
    assert "block1.act2" in printed
    assert "spikes: 0 and 1" in " ".join(printed.split())
    assert "SmallCNN converts: yes, 6 layers of neurons." in printed
    monkeypatch.syspath_prepend(ROOT / "tests")
    with pytest.raises(SystemExit) as left:
        main([*digits("inspect", tmp_path), "--model.network", "smooth_network.Smooth"])
    assert left.value.code == 1
    assert "Smooth converts: no, 2 nodes stand in the way." in capsys.readouterr().out


def test_a_network_of_ones_own_can_be_named_by_a_function(capsys, tmp_path):
    command = [*digits("inspect", tmp_path), "--model.network", "torchvision.models.mobilenet_v2"]
    assert main(command) == 0
    assert "MobileNetV2 converts: yes, 35 layers" in capsys.readouterr().out


def test_outputs_that_do_not_fit_the_classes(capsys, tmp_path):
    line = mistake(capsys, [*digits("fit", tmp_path), "--model.network.num_classes", "7"])
    assert "SmallCNN has 7 outputs, but the data has 10 classes" in line


def test_calibrate_takes_a_state_dict(fitted, tmp_path, capsys):
    state = {f"module.{k}": v for k, v in fitted.cli.model.ann.state_dict().items()}
    torch.save(state, tmp_path / "weights.pth")
    command = fitted.args("calibrate", folder=tmp_path)
    assert main([*command, "--model.weights", str(tmp_path / "weights.pth")]) == 0
    with (tmp_path / "results.csv").open() as found, (fitted.folder / "results.csv").open() as own:
        accuracies = [[row["accuracy"] for row in csv.DictReader(file)] for file in (found, own)]
    assert accuracies[0] == accuracies[1][: len(accuracies[0])]


def test_weights_that_do_not_exist(capsys, tmp_path):
    line = mistake(capsys, [*digits("calibrate", tmp_path), "--model.weights", "none.pt"])
    assert "There is no file none.pt" in line
    name = "ResNet18_Weights.NONE"
    line = mistake(capsys, [*digits("calibrate", tmp_path), "--model.weights", name])
    assert f"torchvision has no weights '{name}'" in line


def test_two_sources_of_weights_are_refused(capsys, fitted, tmp_path):
    path = str(fitted.folder / "ann.ckpt")
    command = [*digits("calibrate", tmp_path), "--ckpt_path", path, "--model.weights", path]
    line = mistake(capsys, command)
    assert "--ckpt_path and --model.weights both give the ANN's weights" in line


def test_a_folder_that_cannot_be_written(capsys, tmp_path):
    (tmp_path / "file").write_text("in the way")
    line = mistake(capsys, digits("fit", tmp_path / "file" / "run"))
    assert "Nothing can be written into" in line


def test_more_time_steps_than_memory(capsys, tmp_path):
    line = mistake(capsys, [*digits("fit", tmp_path), "--timesteps", "100000000"])
    assert "T = 100000000 with 128 calibration samples needs at least" in line


def test_the_parts_for_trainers_parse_behind_a_configuration(capsys):
    parts = sorted((ROOT / "configs" / "trainer").glob("*.yaml"))
    assert [part.stem for part in parts] == ["cpu", "ddp", "gpu", "slurm"]
    for part in parts:
        with pytest.raises(SystemExit) as left:
            main(["fit", "--config", str(DIGITS), "--config", str(part), "--print_config"])
        assert left.value.code == 0
        assert "max_epochs: 25" in capsys.readouterr().out


def test_a_data_setting_that_is_left_empty_is_named(capsys, tmp_path):
    config = tmp_path / "config.yaml"
    given = Path(digits("fit", tmp_path)[2]).read_text()
    config.write_text(given.replace("batch_size: 64", "batch_size:"))
    assert main(["inspect", "--config", str(config)]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("ftbc: error: data.batch_size is left empty in the configuration;")
