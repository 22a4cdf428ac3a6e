"""Files are written whole or not at all, and what a killed run left is removed."""

import errno
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from ftbc_lightning import UserError
from ftbc_lightning.callbacks import Safeguard
from ftbc_lightning.callbacks.safeguard import FIGURES, check_writable, space_needed
from ftbc_lightning.cli import run
from ftbc_lightning.failures import explain
from ftbc_lightning.whole_file import remove_leftovers, write_whole
from tests.conftest import digits


def half(path, error):
    path.write_text("half of the new")
    raise error


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), UserError),
        (OSError(errno.EROFS, "Read-only file system"), UserError),
        (KeyboardInterrupt(), KeyboardInterrupt),
        (ValueError("a bug"), ValueError),
    ],
)
def test_a_failed_write_leaves_the_earlier_file_and_nothing_else(tmp_path, error, raised):
    path = tmp_path / "ann.ckpt"
    path.write_text("the earlier one")
    with pytest.raises(raised):
        write_whole(path, lambda beside: half(beside, error))
    assert path.read_text() == "the earlier one"
    assert [p.name for p in tmp_path.iterdir()] == ["ann.ckpt"]


def test_a_killed_write_leaves_the_earlier_file_and_its_rest_is_removed(tmp_path):
    path = tmp_path / "ann.ckpt"
    path.write_text("the earlier one")
    code = (
        "import os, sys; from pathlib import Path;"
        "from ftbc_lightning.whole_file import write_whole;"
        "write_whole(Path(sys.argv[1]), lambda b: (b.write_text('half'), os.kill(os.getpid(), 9)))"
    )
    finished = subprocess.run([sys.executable, "-c", code, str(path)])
    assert finished.returncode == -9
    assert path.read_text() == "the earlier one"
    [rest] = [p for p in tmp_path.iterdir() if p != path]
    assert remove_leftovers(tmp_path) == [rest]
    assert list(tmp_path.iterdir()) == [path]


def test_whoever_writes_a_file_next_removes_its_rest_and_no_other(tmp_path):
    gone = 2**22 + 1  # above the largest number of a process
    rest, other = tmp_path / f".a.csv.{gone}.csv", tmp_path / f".b.csv.{gone}.csv"
    for path in (rest, other):
        path.write_text("half")
    write_whole(tmp_path / "a.csv", lambda beside: beside.write_text("whole"))
    assert sorted(path.name for path in tmp_path.iterdir()) == [other.name, "a.csv"]


def test_files_of_running_processes_and_of_others_are_left_alone(tmp_path):
    names = [f".ann.ckpt.{os.getpid()}.ckpt", ".hidden.txt", ".env.7", "ann.ckpt.3.ckpt"]
    for name in names:
        (tmp_path / name).write_text("")
    assert remove_leftovers(tmp_path) == []


def test_too_little_space_is_refused(tmp_path):
    with pytest.raises(UserError, match="MB free, and this run may write"):
        check_writable(tmp_path, needed=10**18)
    assert list(tmp_path.iterdir()) == []


def test_the_space_that_is_asked_for_holds_the_files_of_a_run(fitted, tmp_path):
    """Of a network whose weights are calibrated for each T, after an earlier run."""
    methods = ["--calibration.methods", "[weights+exact]"]
    cli = run([*digits("fit", tmp_path), *methods])
    needed = space_needed(cli.trainer, cli.model)
    written = sum((tmp_path / name).stat().st_size for name in ("ann.ckpt", "snn.ckpt"))
    weights = sum(p.numel() * p.element_size() for p in cli.model.ann.parameters())
    assert 2 * written < needed < 2 * written + FIGURES + 6 * weights
    plain = space_needed(fitted.cli.trainer, fitted.cli.model)
    assert needed == plain + 2 * 2 * weights  # at T = 1 and 2


def test_an_interruption_names_what_is_kept(tmp_path, capsys):
    (tmp_path / "ann.ckpt").write_text("")
    trainer = SimpleNamespace(
        is_global_zero=True,
        default_root_dir=str(tmp_path),
        state=SimpleNamespace(fn="fit"),
    )
    Safeguard().on_exception(trainer, None, ValueError())
    assert capsys.readouterr().err == ""
    Safeguard().on_exception(trainer, None, KeyboardInterrupt())
    assert capsys.readouterr().err == (
        f"Interrupted. Finished and kept: {tmp_path}/ann.ckpt. Go on with the same command and "
        "--ckpt_path last.\n"
    )


@pytest.mark.parametrize(
    ("error", "part"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "make room"),
        (PermissionError(errno.EACCES, "Permission denied", "/root/x"), "/root/x"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "not enough memory"),
        (RuntimeError("[gloo/pair.cc:561] Connection closed by peer"), "Another process"),
        (RuntimeError("shapes cannot be multiplied"), None),
    ],
)
def test_mishaps_are_explained_and_bugs_are_not(error, part):
    message = explain(error)
    assert (part in message) if part else message is None
