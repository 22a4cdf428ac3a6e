"""Tables that a run leaves, as the tests read them."""

import csv
from pathlib import Path


def rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file by the names of its columns."""
    with path.open() as file:
        return list(csv.DictReader(file))
