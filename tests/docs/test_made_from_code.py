"""The lists of the reference pages are those of the parser and of the converter."""

import importlib.util
import inspect
import re
from dataclasses import fields
from types import ModuleType

import pytest

from ftbc_lightning import ForwardTemporalBiasCorrection
from ftbc_lightning.cli.command_line import FTBCCLI
from ftbc_lightning.cli.file_subcommands import FILE_SUBCOMMANDS
from ftbc_lightning.graph.linear import LINEAR_FUNCTIONS, LINEAR_MODULES
from ftbc_lightning.graph.max_pooling import MAX_POOL_FUNCTIONS, MAX_POOL_MODULES
from ftbc_lightning.graph.operators import WAYS_OUT
from ftbc_lightning.training.callbacks.ftbc import Settings
from tests.conftest import ROOT
from tests.docs.pages import PAGES


@pytest.fixture(scope="module")
def hook() -> ModuleType:
    path = ROOT / "docs" / "made_from_code.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def built(hook: ModuleType, name: str) -> str:
    text = (ROOT / "docs" / "reference" / name).read_text()
    return hook.on_page_markdown(text, page=None, config=None, files=None)


def test_every_mark_has_a_table_and_every_table_a_mark(hook):
    marks = [mark for page in PAGES for mark in hook.MARK.findall(page.read_text())]
    assert sorted(marks) == sorted(hook.TABLES)
    assert sum(page.read_text().count("made from the code:") for page in PAGES) == len(marks)


def test_the_page_of_commands_has_every_subcommand_and_every_setting_of_calibration(hook):
    page = built(hook, "commands.md")
    for name in (*FTBCCLI.subcommands(), *FILE_SUBCOMMANDS):
        assert f"### ftbc {name}\n" in page
    own = inspect.signature(ForwardTemporalBiasCorrection).parameters.keys()
    assert "- `--timesteps` (default `[1,2,4,8,16]`):" in page
    for name in own - {"timesteps", "settings"} | {field.name for field in fields(Settings)}:
        assert re.search(rf"^- `--calibration\.{name}`( \(|: )", page, re.M), name
    for option in ("--trainer.devices", "--model.weights", "--data", "--seeds", "--early_exit"):
        assert f"`{option}`" in page
    assert "one of `channel`, `layer`; default `channel`" in page


def test_the_page_of_operations_has_every_name_of_the_converters_tables(hook):
    page = built(hook, "operations.md")
    for found in (*LINEAR_MODULES, *MAX_POOL_MODULES, *LINEAR_FUNCTIONS, *MAX_POOL_FUNCTIONS):
        assert f"`{found.__name__.lstrip('_')}`" in page
    for kind, advice in WAYS_OUT.items():
        assert any(f"`{kind}`" in row and advice in row for row in page.splitlines())
