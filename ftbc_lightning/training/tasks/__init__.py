"""What a network is trained for and judged by: one file a task, one line here."""

from ftbc_lightning.training.tasks.classification import Classification
from ftbc_lightning.training.tasks.dense_classification import DenseClassification
from ftbc_lightning.training.tasks.multilabel import Multilabel
from ftbc_lightning.training.tasks.regression import Regression
from ftbc_lightning.training.tasks.task import Task

__all__ = ["TASKS", "Classification", "DenseClassification", "Multilabel", "Regression", "Task"]

TASKS: dict[str, type[Task]] = {
    "classification": Classification,
    "dense_classification": DenseClassification,
    "regression": Regression,
    "multilabel": Multilabel,
}
"""Every task by its name."""
