"""The notebooks run from top to bottom, and are committed without outputs."""

import nbformat
import pytest

from tests.conftest import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
QUICK = "convert_your_own"


def code(path):
    cells = nbformat.read(path, as_version=4).cells
    return [cell.source for cell in cells if cell.cell_type == "code"]


def test_there_are_four():
    names = ["bias_curves", "calibrated_vs_uncalibrated", "convert_your_own"]
    names += ["neurons_and_energy"]
    assert [path.stem for path in NOTEBOOKS] == names


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_committed_without_outputs_and_reads_like_a_lesson(path):
    cells = nbformat.read(path, as_version=4).cells
    assert cells[0].source.startswith("# ")
    kinds = [cell.cell_type for cell in cells]
    assert kinds.count("markdown") >= kinds.count("code")
    for cell in cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None


def test_the_quick_one_runs_in_this_process(capsys):
    names = {"__name__": "notebook"}
    for source in code(ROOT / "notebooks" / f"{QUICK}.ipynb"):
        exec(compile(source, QUICK, "exec"), names)
    printed = capsys.readouterr().out
    assert "MyNet converts: yes, 2 layers of neurons." in printed
    assert "GELU" in printed
    assert "the same logits" in printed


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_in_a_kernel(path, monkeypatch):
    from nbclient import NotebookClient

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    book = nbformat.read(path, as_version=4)
    NotebookClient(book, timeout=300, resources={"metadata": {"path": ROOT}}).execute()
    outputs = [output for cell in book.cells for output in cell.get("outputs", [])]
    assert outputs
    assert not [output for output in outputs if output.output_type == "error"]
    if path.stem in ("bias_curves", "neurons_and_energy"):
        assert any("image/png" in output.get("data", {}) for output in outputs)
