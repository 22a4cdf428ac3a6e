"""Files are written whole or not at all, and what a killed run left is removed."""

import errno
import os
import platform
import subprocess
import sys
from types import SimpleNamespace

import pytest

from ftbc_lightning import UserError
from ftbc_lightning.cli import run
from ftbc_lightning.cli.failures import explain
from ftbc_lightning.files.whole_file import beside_of, make_folder, remove_leftovers, write_whole
from ftbc_lightning.training.callbacks import Safeguard, safeguard
from ftbc_lightning.training.callbacks.safeguard import FIGURES, check_writable
from tests.conftest import digits


def half(path, error):
    path.write_text("half of the new")
    raise error


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), UserError),
        (OSError(errno.EROFS, "Read-only file system"), UserError),
        (RuntimeError("[enforce fail at inline_container.cc:672]"), UserError),
        (Exception("Error while serializing: I/O error: File too large"), UserError),
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
        "from ftbc_lightning.files.whole_file import write_whole;"
        "write_whole(Path(sys.argv[1]), lambda b: (b.write_text('half'), os.kill(os.getpid(), 9)))"
    )
    finished = subprocess.run([sys.executable, "-c", code, str(path)])
    assert finished.returncode == -9
    assert path.read_text() == "the earlier one"
    [rest] = [p for p in tmp_path.iterdir() if p != path]
    assert remove_leftovers(tmp_path) == [rest]
    assert list(tmp_path.iterdir()) == [path]


THIS = platform.node()


def rest_of(path, process=2**22 + 1, machine=None):
    """What a killed process left; the default is above the largest number of a process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(platform, "node", lambda: THIS if machine is None else machine)
        rest = beside_of(path)
    rest = rest.with_name(rest.name.replace(f".{os.getpid()}", f".{process}"))
    rest.write_text("half")
    return rest


@pytest.mark.parametrize("name", ["a.csv", "predictions"])
def test_whoever_writes_a_file_next_removes_its_rest_and_no_other(tmp_path, name):
    rest_of(tmp_path / name)
    other = rest_of(tmp_path / "b.csv")
    write_whole(tmp_path / name, lambda beside: beside.write_text("whole"))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([other.name, name])


@pytest.mark.parametrize("machine", ["x.local", "", "a[b]*", "node-7"])
def test_machines_of_any_name_find_their_own(tmp_path, monkeypatch, machine):
    rest = rest_of(tmp_path / "ann.ckpt", machine=machine)
    rest_of(tmp_path / "ann.ckpt", machine="elsewhere")
    monkeypatch.setattr(platform, "node", lambda: machine)
    assert remove_leftovers(tmp_path) == [rest]


def test_files_of_running_processes_other_machines_and_others_are_left_alone(tmp_path):
    for name in (".hidden.txt", ".env.7", "ann.ckpt.3.ckpt", ".ann.ckpt.4194305.ckpt"):
        (tmp_path / name).write_text("")
    rest_of(tmp_path / "ann.ckpt", process=os.getpid())
    rest_of(tmp_path / "ann.ckpt", machine="elsewhere")
    assert remove_leftovers(tmp_path) == []
    assert len(list(tmp_path.iterdir())) == 6


def test_too_little_space_is_refused(tmp_path):
    with pytest.raises(UserError, match="MB free, and this run may write"):
        check_writable(tmp_path, needed=10**18)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def asked(monkeypatch):
    """What runs ask for before they begin, in bytes."""
    found = []
    monkeypatch.setattr(safeguard, "check_writable", lambda folder, needed: found.append(needed))
    return found


@pytest.mark.parametrize("method", ["exact", "weights+exact", "potential+exact"])
def test_the_space_that_is_asked_for_holds_the_files_of_a_run(tmp_path, asked, method):
    """After an earlier run, whose files stay until the new ones are whole."""
    run([*digits("fit", tmp_path), "--calibration.methods", f"[{method}]"])
    written = sum((tmp_path / name).stat().st_size for name in ("ann.ckpt", "snn.ckpt"))
    for needed in asked:  # of the training, and of the validation run after it
        assert 2 * written < needed < 3 * written + FIGURES


def test_a_run_that_writes_no_checkpoint_needs_no_space_for_one(fitted, tmp_path, asked):
    path = str(fitted.folder / "snn.ckpt")
    run(fitted.args("test", "--ckpt_path", path, folder=tmp_path))
    assert asked == [FIGURES]


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


def test_a_file_where_a_folder_should_be_is_told_in_one_error(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "x.csv", tmp_path / ("x" * 300)):
        with pytest.raises(UserError, match="cannot be written"):
            write_whole(path, lambda beside: beside.write_text("x"))
    with pytest.raises(UserError, match=r"The folder .*file cannot be made"):
        make_folder(tmp_path / "file")
