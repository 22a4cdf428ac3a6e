"""What begins a command: the overview, and how little is imported for it."""

import logging
import subprocess
import sys

import pytest

from ftbc_lightning.cli import main
from ftbc_lightning.cli.command_line import FTBCCLI, SPEAKERS
from ftbc_lightning.cli.file_subcommands import FILE_SUBCOMMANDS
from ftbc_lightning.cli.program import SUBCOMMANDS
from ftbc_lightning.version import __version__

HEAVY = {"torch", "lightning", "torchvision", "wandb", "sklearn", "matplotlib", "numpy"}


def imported(*words):
    """The heavy packages that a command imports."""
    code = (
        "import sys\nfrom ftbc_lightning.cli import main\ncode = 0\n"
        f"try:\n    main({list(words)!r})\nexcept SystemExit:\n    pass\n"
        f"print('imported', *sorted({HEAVY!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.rpartition("imported")[2].split())


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["configs"], ["nonsense"], []])
def test_what_needs_no_network_imports_none(words):
    assert imported(*words) == set()


@pytest.mark.parametrize("subcommand", ["report", "export"])
def test_help_on_files_needs_no_lightning(subcommand):
    unneeded = {"lightning", "torchvision", "wandb", "sklearn"}
    assert not imported(subcommand, "--help") & unneeded


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
