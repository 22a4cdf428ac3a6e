"""From rows to tables, figures, a page and a dashboard. Reads, never computes."""

from ftbc_lightning.report.comparison import comparison_figure, comparison_table
from ftbc_lightning.report.style import label_of
from ftbc_lightning.report.tables import diagnosis_table, exit_table, inspection_table, table

__all__ = [
    "comparison_figure",
    "comparison_table",
    "diagnosis_table",
    "exit_table",
    "inspection_table",
    "label_of",
    "table",
]
