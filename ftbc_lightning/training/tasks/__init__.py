"""What a network is trained for and judged by: one file a task, one line here."""

from ftbc_lightning.training.tasks.classification import Classification

__all__ = ["TASKS", "Classification"]

TASKS: dict[str, type[Classification]] = {
    "classification": Classification,
}
"""Every task by its name. A task has the methods of `Classification`."""
