"""From results to a table, a CSV file and figures. Reads, never computes."""

from pathlib import Path

from ftbc_lightning.module import SpikingClassifier
from ftbc_lightning.report.comparison import comparison_figure, comparison_table
from ftbc_lightning.report.figures import accuracy_figure, bias_figure
from ftbc_lightning.report.results_file import read_results, write_results
from ftbc_lightning.report.tables import inspection_table, table
from ftbc_lightning.whole_file import write_whole

__all__ = ["comparison_figure", "comparison_table", "inspection_table", "table", "write"]


def write(folder: Path, module: SpikingClassifier, *, split: str) -> list[Path]:
    """Write `results.csv` and the figures of one split into a folder; returns their paths."""
    path = folder / "results.csv"
    rows = [*(row for row in read_results(path) if row.split != split), *module.results]
    written = [write_whole(path, lambda beside: write_results(beside, rows))]
    if split == "val":
        figures = {
            "accuracy_by_step.png": accuracy_figure(module, split=split),
            "bias_curves.png": bias_figure(module),
        }
        for name, figure in figures.items():
            written.append(write_whole(folder / name, figure.savefig))
    return written
