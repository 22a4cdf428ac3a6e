"""What `ftbc_lightning` exports is listed, documented, typed, and shown in an example that runs."""

import inspect
import re
import subprocess
import sys

import pytest

import ftbc_lightning
from tests.conftest import ROOT

NAMES = [name for name in ftbc_lightning.__all__ if name != "__version__"]
FUNCTIONS = [name for name in NAMES if inspect.isfunction(getattr(ftbc_lightning, name))]


def test_the_page_lists_the_public_names_and_no_others():
    page = (ROOT / "docs" / "reference" / "api" / "index.md").read_text()
    listed = {
        name
        for row in page.splitlines()
        if row.startswith("| ")
        for name in re.findall(r"`(\w+)`(?:\]| \|)", row.split(" | ")[0] + " |")
    }
    assert listed == set(ftbc_lightning.__all__)


def test_public_names_are_listed_before_they_are_imported():
    code = (
        "import ftbc_lightning, sys\nassert {*ftbc_lightning.__all__} <= {*dir(ftbc_lightning)}\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_has_a_docstring_and_a_page(name):
    found = getattr(ftbc_lightning, name)
    assert inspect.getdoc(found)
    pages = "".join(path.read_text() for path in (ROOT / "docs" / "reference" / "api").glob("*.md"))
    assert f"::: {found.__module__}.{name}\n" in pages


def test_no_file_or_folder_of_the_package_has_a_public_name():
    # `import ftbc_lightning.name as x` would give the function or class in place of the module
    found = {path.stem for path in (ROOT / "ftbc_lightning").iterdir()}
    assert found & set(ftbc_lightning.__all__) == set()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_public_function_is_typed_and_shown_in_an_example(name):
    function = getattr(ftbc_lightning, name)
    hints = function.__annotations__
    assert set(inspect.signature(function).parameters) | {"return"} == set(hints)
    assert not any(
        parameter.kind is parameter.VAR_KEYWORD
        for parameter in inspect.signature(function).parameters.values()
    )
    examples = f"{ftbc_lightning.__doc__}{function.__doc__}{ftbc_lightning.load.__doc__}"
    examples += ftbc_lightning.export.__doc__ or ""
    shown = [line for line in examples.splitlines() if line.strip().startswith((">>>", "..."))]
    assert any(f"{name}(" in line for line in shown)
