"""What a network is trained for and judged by: one file a task, one line here."""

from ftbc_lightning.training.tasks.classification import Classification
from ftbc_lightning.training.tasks.regression import Regression
from ftbc_lightning.training.tasks.task import Task

__all__ = ["TASKS", "Classification", "Regression", "Task"]

TASKS: dict[str, type[Task]] = {
    "classification": Classification,
    "regression": Regression,
}
"""Every task by its name."""
