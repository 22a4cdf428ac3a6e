"""Rows of plain values in CSV files: each kind of row is a dataclass, each field a column."""

import csv
from collections.abc import Callable, Sequence
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any, TypeVar, get_args

from ftbc_lightning.errors import UserError
from ftbc_lightning.files.whole_file import write_whole

Row = TypeVar("Row")

AGAIN = "run `ftbc validate` again to write it anew"


def write_rows(path: Path, rows: Sequence[Any]) -> Path:
    """Write rows of one kind, whole or not at all; None is an empty cell, a float has six digits.

    Args:
        path: The file; its folder is made.
        rows: At least one.
    """

    def write(beside: Path) -> None:
        with beside.open("w", newline="") as file:
            names = [column.name for column in fields(rows[0])]
            writer = csv.DictWriter(file, names, lineterminator="\n")
            writer.writeheader()
            writer.writerows({key: _short(v) for key, v in asdict(row).items()} for row in rows)

    path.parent.mkdir(parents=True, exist_ok=True)
    return write_whole(path, write)


def read_rows(path: Path, kind: type[Row], *, advice: str = AGAIN) -> list[Row]:
    """Read what `write_rows` wrote; nothing where there is no file.

    The last columns may be missing, if they have defaults: earlier programs did not write them.

    Args:
        path: The file.
        kind: The dataclass of its rows.
        advice: What to do with a file that is another one or damaged.

    Raises:
        UserError: The file has other columns, or a value is no number.
    """
    if not path.is_file():
        return []
    kinds = {column.name: _reader(column.type) for column in fields(kind)}  # type: ignore[arg-type]
    required = {column.name for column in fields(kind) if column.default is MISSING}  # type: ignore[arg-type]
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        try:
            there = list(reader.fieldnames or ())
            if there != list(kinds)[: len(there)] or not required <= set(there):
                raise UserError(
                    f"{path} has other columns than this program writes ({', '.join(kinds)}); "
                    f"{advice}."
                )
            return [kind(**{name: kinds[name](row[name]) for name in there}) for row in reader]
        except (TypeError, ValueError, csv.Error) as error:
            raise UserError(
                f"{path} is damaged in line {reader.line_num}: {error}; {advice}."
            ) from error


def _short(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _reader(kind: Any) -> Callable[[str], Any]:
    """From text to a field's type; an empty cell is None where the type allows it.

    >>> _reader(int | None)("4"), _reader(int | None)("")
    (4, None)
    """
    for inner in get_args(kind)[:1]:
        return lambda text: None if text == "" else inner(text)
    found: Callable[[str], Any] = kind
    return found
