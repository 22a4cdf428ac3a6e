"""Every command in the pages is one that the program understands, with files that exist."""

import shlex
import shutil
from pathlib import Path

import pytest

from ftbc_lightning.cli.arguments import with_configuration
from ftbc_lightning.cli.configurations import with_paths
from ftbc_lightning.cli.parsers import parsers
from ftbc_lightning.errors import UserError
from tests.conftest import ROOT
from tests.docs.pages import PAGES, blocks, commands

NETWORK = "from ftbc_lightning.ann import SmallCNN as MyNetwork\n"
GIVEN = {(page, command) for page in PAGES[:1] + PAGES[2:] for command in commands(page)}


@pytest.fixture(scope="module")
def known():
    return parsers()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the configurations and a package of one's own."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    examples = blocks(ROOT / "docs" / "howto" / "task.md", "python")
    (tmp_path / "my_package.py").write_text("\n".join([NETWORK, *examples]))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def parse(known, command: str, folder: Path) -> None:
    """Parse a command as the program does; raises `UserError` where it would end in an error."""
    words = shlex.split(command)
    for word in words:
        if word.endswith(".ckpt"):  # a run that has left its checkpoint and its configuration
            path = folder / word
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            shutil.copy(ROOT / "configs" / "digits_cnn.yaml", path.parent / "config.yaml")
    subcommand, *options = with_configuration(with_paths(words))
    if subcommand not in known:
        raise UserError(f"There is no subcommand {subcommand}.")
    if options in ([], ["--help"]):  # named, not shown
        return
    known[subcommand].parse_args(options)


@pytest.mark.parametrize(
    ("page", "command"), [(p.relative_to(ROOT), c) for p, c in sorted(GIVEN)], ids=str
)
def test_the_program_understands_a_command_of_the_pages(known, folder, page, command):
    parse(known, command, folder)


@pytest.mark.parametrize(
    "command",
    [
        "frobnicate --config configs/digits_cnn.yaml",
        "fit --config configs/no_such.yaml",
        "fit --config configs/digits_cnn.yaml --calibration.thresholds mse",
        "fit --config configs/digits_cnn.yaml --calibration.scope neuron",
        "export --ckpt_path snn.ckpt --bias hdf5",
    ],
)
def test_a_command_that_the_program_refuses_would_be_noticed(known, folder, command):
    with pytest.raises(UserError):
        parse(known, command, folder)


def test_pages_have_commands():
    assert len(GIVEN) > 40
    assert {command.split()[0] for _, command in GIVEN} >= {"fit", "test", "calibrate", "compare"}
