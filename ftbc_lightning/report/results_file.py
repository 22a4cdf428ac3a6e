"""`results.csv`: one row for each split, method and T."""

import csv
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

from ftbc_lightning.variant import Result

COLUMNS = [field.name for field in fields(Result)]


def write_results(path: Path, rows: Sequence[Result]) -> None:
    """Write rows as CSV; the ANN has an empty `timesteps`."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({**asdict(row), "seconds": round(row.seconds, 3)})


def read_results(path: Path) -> list[Result]:
    """Read what `write_results` wrote; nothing where there is no file or another one."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        if reader.fieldnames != COLUMNS:
            return []
        return [
            Result(
                row["split"],
                row["method"],
                int(row["timesteps"]) if row["timesteps"] else None,
                float(row["accuracy"]),
                int(row["n"]),
                int(row["seed"]) if row["seed"] else None,
                float(row["seconds"]),
            )
            for row in reader
        ]
