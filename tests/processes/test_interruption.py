"""Runs that are killed, interrupted or out of space: what is finished stays, and work goes on."""

import csv
import os
import shutil
import subprocess
import sys

import pytest
import torch
from PIL import Image

from tests.processes import kills
from tests.processes.launch import LIMIT, PROGRAM, command, failing, finish, ftbc, start

pytestmark = pytest.mark.processes

ONE_METHOD = ("--calibration.methods", "[exact]")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that nothing has interrupted; tests work on copies."""
    folder = tmp_path_factory.mktemp("finished")
    ftbc("fit", folder, *ONE_METHOD)
    return folder


# ANN, uncalibrated and exact; the last two after each of two steps
ROWS = {"results.csv": 3, "steps.csv": 4}


def check_files(folder):
    """Every file under its final name is whole."""
    found = set()
    for path in folder.glob("[!.]*"):
        if path.suffix == ".ckpt":
            assert torch.load(path, weights_only=True)["state_dict"]
        elif path.suffix == ".png":
            Image.open(path).load()
        elif path.suffix == ".csv":
            with path.open() as file:
                assert len(list(csv.DictReader(file))) == ROWS[path.name]
        found.add(path.name)
    return found


def test_a_killed_training_goes_on_from_its_last_epoch(tmp_path):
    place = "ftbc_lightning.training.module:SpikingClassifier.training_step"
    code, _ = failing("kill@25", place, "fit", tmp_path, *ONE_METHOD)
    assert code == -9
    assert check_files(tmp_path) == {"ann.ckpt", "logs"}
    assert torch.load(tmp_path / "ann.ckpt", weights_only=True)["epoch"] == 0
    output = ftbc("fit", tmp_path, *ONE_METHOD, "--ckpt_path", "last")
    assert output.count("Restoring states from the checkpoint path") == 1
    assert torch.load(tmp_path / "ann.ckpt", weights_only=True)["epoch"] == 1
    assert {"snn.ckpt", "results.csv", "run.json"} <= check_files(tmp_path)


def tuned(folder):
    return torch.load(folder / "finetuned" / "snn.ckpt", weights_only=True)["state_dict"]


def test_a_killed_fine_tuning_goes_on_from_its_last_epoch_as_if_nothing_had_been(
    finished, tmp_path
):
    place = "ftbc_lightning.training.finetuning:FineTuning.training_step"
    for name in ("run", "whole"):
        shutil.copytree(finished, tmp_path / name)
    epochs = ("--epochs", "2")
    begin = {name: ("--ckpt_path", str(tmp_path / name / "snn.ckpt")) for name in ("run", "whole")}
    code, output = failing("kill@25", place, "finetune", tmp_path / "run", *begin["run"], *epochs)
    assert code == -9, output
    left = tmp_path / "run" / "finetuned"
    assert {path.name for path in left.glob("[!.]*")} == {"finetuning.ckpt", "logs"}
    output = ftbc("finetune", tmp_path / "run", "--ckpt_path", "last", *epochs)
    assert output.count("Restoring states from the checkpoint path") == 1
    ftbc("finetune", tmp_path / "whole", *begin["whole"], *epochs)
    own, others = tuned(tmp_path / "run"), tuned(tmp_path / "whole")
    assert own.keys() == others.keys()
    assert all(torch.equal(value, others[name]) for name, value in own.items())


def test_ctrl_c_in_a_fine_tuning_says_how_to_go_on(finished, tmp_path):
    place = "ftbc_lightning.training.finetuning:FineTuning.training_step"
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    begin = ("--ckpt_path", str(tmp_path / "snn.ckpt"), "--epochs", "2")
    code, output = failing("interrupt@25", place, "finetune", tmp_path, *begin)
    assert code == 1, output
    assert f"Interrupted. Finished and kept: {tmp_path}/finetuned/finetuning.ckpt." in output
    assert "--ckpt_path last" in output
    assert "Traceback" not in output
    assert not (tmp_path / "finetuned" / "snn.ckpt").exists()


def test_half_written_files_are_removed_with_a_message(tmp_path):
    # 1 and 3 test the folder, 2 says who holds it, 4 is config.yaml, 5 is ann.ckpt
    code, output = failing("kill@5", "os:fsync", "fit", tmp_path, *ONE_METHOD)
    assert code == -9, output
    assert list(tmp_path.glob(".ann.ckpt.being-written.*.ckpt"))
    output = ftbc("fit", tmp_path, *ONE_METHOD)
    assert "Removed half-written files of a run that was killed: .ann.ckpt." in output
    assert {"snn.ckpt", "results.csv", "run.json", "bias_curves.png"} <= check_files(tmp_path)
    assert not list(tmp_path.rglob(".*"))


def test_ctrl_c_in_the_training_keeps_and_names_what_is_finished(tmp_path):
    place = "ftbc_lightning.training.module:SpikingClassifier.training_step"
    code, output = failing("interrupt@25", place, "fit", tmp_path)
    assert code == 1
    assert f"Interrupted. Finished and kept: {tmp_path}/ann.ckpt." in output
    assert "--ckpt_path last" in output
    assert "Traceback" not in output
    assert check_files(tmp_path) == {"ann.ckpt", "logs"}


@pytest.mark.parametrize(
    ("subcommand", "fault", "place", "said"),
    [
        (
            "compare",
            "interrupt@3",
            "ftbc_lightning.training.comparison.run:Comparison.evaluate",
            "2 rows",
        ),
        ("diagnose", "interrupt", "ftbc_lightning.training.subcommands.diagnose:diagnose", ""),
        ("report", "interrupt", "ftbc_lightning.report.page:page", ""),
    ],
)
def test_ctrl_c_in_a_command_without_training_is_one_line(
    finished, tmp_path, subcommand, fault, place, said
):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    code, output = finish(
        start(
            [
                *(sys.executable, "-m", "tests.processes.faulty", fault, place, "--"),
                *kills.SUBCOMMANDS[subcommand](tmp_path),
            ]
        )
    )[0]
    assert code == 130
    assert output.splitlines()[-1] == "ftbc: interrupted; every file that was finished is kept."
    assert "Traceback" not in output
    assert said in output


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 400 kB: less than a fit writes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a file system cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_is_too_small_is_refused_before_the_training(small_disk):
    process = start([*PROGRAM, *command("fit", small_disk, "--model.network.width", "64")])
    output, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == 2
    assert "MB free, and this run may write" in output.splitlines()[-1]
    assert not list(small_disk.glob("*.ckpt"))


def test_a_disk_that_fills_up_while_a_file_is_written_gives_one_line(tmp_path):
    code, output = failing("full@6", "os:fsync", "fit", tmp_path, *ONE_METHOD)
    assert code == 2
    line = f"{tmp_path}/ann.ckpt cannot be written (No space left on device)"
    assert output.splitlines()[-1].startswith(f"ftbc: error: {line}")
    assert torch.load(tmp_path / "ann.ckpt", weights_only=True)["epoch"] == 0
    assert not list(tmp_path.glob(".*"))


def test_a_folder_that_cannot_be_written_is_refused_at_once(tmp_path):
    (tmp_path / "file").write_text("in the way")
    process = start([*PROGRAM, *command("fit", tmp_path / "file" / "run")])
    output, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == 2
    assert "Nothing can be written into" in output.splitlines()[-1]
    assert "Traceback" not in output


def test_a_file_system_that_is_mounted_read_only_is_refused_at_once(small_disk):
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    process = start([*PROGRAM, *command("fit", small_disk / "run")])
    output, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == 2
    assert "(Read-only file system)" in output.splitlines()[-1]
    assert "Traceback" not in output
