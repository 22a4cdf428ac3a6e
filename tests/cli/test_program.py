"""What begins a command: the overview, and how little is imported for it."""

import logging
import shutil
import subprocess
import sys

import pytest

from ftbc_lightning.cli import main
from ftbc_lightning.cli.command_line import FTBCCLI, SPEAKERS
from ftbc_lightning.cli.file_subcommands import FILE_SUBCOMMANDS
from ftbc_lightning.cli.program import SUBCOMMANDS
from ftbc_lightning.version import __version__
from tests.conftest import ROOT

RUN = ROOT / "tests" / "fixtures" / "run_of_0_1_0"
HEAVY = {
    *("torch", "lightning", "torchvision", "torchmetrics", "wandb", "sklearn", "scipy", "timm"),
    *("matplotlib", "jinja2", "numpy", "onnx"),
}


def imported(*commands):
    """The heavy packages that are there after commands in one fresh process."""
    code = (
        "import contextlib, sys\nfrom ftbc_lightning.cli import main\n"
        f"for words in {[list(map(str, words)) for words in commands]!r}:\n"
        "    with contextlib.suppress(SystemExit):\n        main(words)\n"
        f"print('imported', *sorted({HEAVY!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.rpartition("imported")[2].split())


def test_what_needs_no_network_imports_none():
    begun = [[], ["--help"], ["--version"], ["configs"], ["nonsense"]]
    asked = [
        ["report", "--help"],
        ["dashboard", "--help"],
        ["push", "--help"],
        ["report"],
        ["dashboard", "--nonsense"],
    ]
    assert imported(*begun, *asked) == set()


def test_a_finished_run_is_reported_and_exported_without_lightning(tmp_path):
    run = shutil.copytree(RUN, tmp_path / "run")
    words = ["export", "--ckpt_path", run / "snn.ckpt"]
    asked = [["export", "--help"], ["export"], [*words, "--method", "nonsense"]]
    assert imported(*asked, words) == {"torch", "numpy"}
    assert imported(["report", run]) == {"torch", "numpy", "matplotlib", "jinja2"}
    assert (run / "snn_ftbc_exact_T4.safetensors").is_file()
    assert (run / "report.html").is_file()


def test_a_network_is_pushed_without_lightning(tmp_path):
    words = ["push", RUN, "--repo", "me/net", "--out", tmp_path / "out"]
    assert imported(words) == {"torch", "numpy", "matplotlib"}
    assert (tmp_path / "out" / "README.md").is_file()


def test_the_overview_has_every_subcommand(capsys):
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert set(SUBCOMMANDS) == {*FTBCCLI.subcommands(), *FILE_SUBCOMMANDS}
    for name, purpose in SUBCOMMANDS.items():
        assert f"  {name} " in shown
        assert purpose in shown


def test_the_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"ftbc {__version__}\n"


def test_an_unknown_subcommand_is_one_line(capsys):
    assert main(["train"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("ftbc: error: There is no subcommand train; choose one of fit, validate")
    assert said.count("\n") == 1


class Listener(logging.Handler):
    """Keeps what is said."""

    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())


@pytest.mark.parametrize(("given", "heard"), [([], False), (["-v"], True), (["--quiet"], False)])
def test_lightning_is_heard_when_asked_for(given, heard, fitted, tmp_path):
    listener = Listener()
    speakers = [logging.getLogger(f"lightning.{speaker}") for speaker in SPEAKERS]
    for speaker in speakers:
        speaker.addHandler(listener)
    try:
        command = fitted.args("calibrate", *given, folder=tmp_path)
        assert main([*command, "--ckpt_path", str(fitted.folder / "ann.ckpt")]) == 0
    finally:
        for speaker in speakers:
            speaker.removeHandler(listener)
    said = " ".join(listener.lines)
    assert ("GPU available" in said) == heard
    assert ("Seed set to 0" in said) == heard
