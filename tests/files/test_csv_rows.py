"""One way to write and read rows, for results, comparisons and curves."""

import pytest

from ftbc_lightning.errors import UserError
from ftbc_lightning.files.csv_rows import read_rows, write_rows
from ftbc_lightning.report.comparison_rows import Row
from ftbc_lightning.report.rows import LayerRow, OperationRow, Result, StepRow

ANN = ("test", "ann", None, 0.987654, 360, None, None)
SNN = ("val", "snn_ftbc_exact", 4, 1 / 3, 360, 0, 1.25)


@pytest.mark.parametrize(
    "rows",
    [
        [Result(*ANN), Result(*SNN)],
        [Row(*ANN, settings="0123abcd"), Row(*SNN, settings="0123abcd")],
        [StepRow("val", "snn_static", 2, 1, 0.5)],
        [LayerRow("snn_static", 2, "act, 1", 1, *(0.25,) * 7, "clipping")],
        [OperationRow("ann", 1, 0.5, *(1e6,) * 9, "45nm-fp32")],
    ],
    ids=lambda rows: type(rows[0]).__name__,
)
def test_every_kind_of_row_comes_back_as_it_was_but_for_the_seventh_digit(tmp_path, rows):
    path = write_rows(tmp_path / "new" / "rows.csv", rows)
    found = read_rows(path, type(rows[0]))
    text = path.read_text()
    write_rows(path, found)
    assert path.read_text() == text
    for row, back in zip(rows, found, strict=True):
        assert {**vars(back), "accuracy": 0} == {**vars(row), "accuracy": 0}
        if hasattr(row, "accuracy"):
            assert back.accuracy == pytest.approx(row.accuracy, abs=1e-6)


def test_a_comparison_has_the_columns_of_a_result_and_its_settings(tmp_path):
    first = write_rows(tmp_path / "a.csv", [Result(*SNN)]).read_text().splitlines()
    second = (
        write_rows(tmp_path / "b.csv", [Row(*SNN, settings="0123abcd")]).read_text().splitlines()
    )
    assert second == [f"{first[0]},settings", f"{first[1]},0123abcd"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("accuracy", "share"), "has other columns than"),
        (lambda text: text.replace("360", "many"), "damaged in line 2"),
        (lambda text: text.replace(",1.25", ""), "damaged in line 2"),
    ],
)
def test_a_file_that_is_another_one_or_damaged_is_named_with_advice(tmp_path, change, message):
    path = write_rows(tmp_path / "rows.csv", [Result(*SNN)])
    path.write_text(change(path.read_text()))
    with pytest.raises(UserError, match=f"rows.csv (is )?{message}.*; throw it away"):
        read_rows(path, Result, advice="throw it away")


def test_a_file_without_the_last_columns_has_their_defaults(tmp_path):
    row = LayerRow("snn_static", 2, "act1", 1, *(0.25,) * 7, "clipping", 0.5)
    path = write_rows(tmp_path / "rows.csv", [row])
    earlier = "\n".join(line.rpartition(",")[0] for line in path.read_text().splitlines())
    path.write_text(earlier + "\n")
    assert read_rows(path, LayerRow) == [LayerRow(*list(vars(row).values())[:-1])]
    path.write_text("\n".join(line.rpartition(",")[0] for line in earlier.splitlines()) + "\n")
    with pytest.raises(UserError, match="other columns"):
        read_rows(path, LayerRow)
