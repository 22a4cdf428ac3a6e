"""Two runs never write into one folder at the same time."""

import json
import os
import signal
import subprocess
import sys

import pytest

from ftbc_lightning import UserError
from ftbc_lightning.cli import main
from ftbc_lightning.files.folder_lock import HOLDER, LOCK, folder_locked
from tests.conftest import digits

HOLD = """
import sys, time
from pathlib import Path
from ftbc_lightning.files.folder_lock import folder_locked
with folder_locked(Path(sys.argv[1]), ["fit", "--config", "mine.yaml"]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holding(tmp_path):
    """Another process that holds the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_the_second_run_is_told_who_the_first_is(holding, tmp_path, capsys):
    assert main(digits("fit", tmp_path)) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"{tmp_path} is being written by process {holding.pid} on " in said
    assert "(ftbc fit --config mine.yaml); wait for it, or write elsewhere" in said
    assert {path.name for path in tmp_path.iterdir()} == {LOCK, HOLDER}


def test_what_only_reads_is_not_held_up(holding, tmp_path, capsys):
    assert main(digits("inspect", tmp_path)) == 0


def test_a_run_that_was_killed_holds_nothing(holding, tmp_path):
    os.kill(holding.pid, signal.SIGKILL)
    holding.wait()
    assert (tmp_path / HOLDER).is_file()
    with folder_locked(tmp_path, ["fit"]):
        assert json.loads((tmp_path / HOLDER).read_text())["process"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_a_run_on_another_machine_is_not_taken_over(tmp_path):
    holder = {"machine": "elsewhere", "process": 7, "since": "yesterday", "command": "ftbc fit"}
    (tmp_path / HOLDER).write_text(json.dumps(holder))
    wanted = r"process 7 on elsewhere, since yesterday .* has ended, delete .*running\.json"
    with pytest.raises(UserError, match=wanted), folder_locked(tmp_path, ["fit"]):
        pass
    assert json.loads((tmp_path / HOLDER).read_text()) == holder


def test_a_command_leaves_no_lock_whether_it_ends_well_or_not(fitted, tmp_path):
    assert not {LOCK, HOLDER} & {path.name for path in fitted.folder.iterdir()}
    assert main([*digits("calibrate", tmp_path), "--ckpt_path", str(tmp_path / "no.ckpt")]) == 2
    assert not {LOCK, HOLDER} & {path.name for path in tmp_path.iterdir()}
