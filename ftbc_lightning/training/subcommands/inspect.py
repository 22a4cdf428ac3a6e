"""`ftbc inspect`: what becomes of each node of a network."""

from typing import Any

import lightning
from lightning import Callback, LightningDataModule
from rich.console import Console

from ftbc_lightning import report
from ftbc_lightning.analysis.inspection import Inspection, inspect
from ftbc_lightning.training.callbacks import ForwardTemporalBiasCorrection
from ftbc_lightning.training.callbacks.ftbc import example_of
from ftbc_lightning.training.module import SpikingClassifier


class InspectTrainer(lightning.Trainer):
    """A Trainer that looks at a network before conversion."""

    def inspect(
        self, model: SpikingClassifier, datamodule: LightningDataModule | None = None
    ) -> Inspection:
        """Say of every node of the ANN what it becomes, or why it cannot be converted.

        Args:
            model: Holds the ANN.
            datamodule: Its `input_shape`, if it has one, answers a network that asks for it.

        Returns:
            The report, which has been printed.

        Raises:
            UserError: The network cannot be traced.
        """
        shape = getattr(datamodule, "input_shape", None)
        example = None if shape is None else example_of(datamodule)
        callbacks: list[Callback] = self.callbacks  # type: ignore[attr-defined]
        asked = [c for c in callbacks if isinstance(c, ForwardTemporalBiasCorrection)]
        chosen: dict[str, Any] = {}
        if asked:
            settings = asked[0].settings
            chosen = {"scope": settings.scope, "neurons": settings.neurons}
            chosen["functions"] = asked[0].functions
        found = inspect(model.ann, example, **chosen)
        console = Console()
        console.print(report.inspection_table(found))
        console.print(found.verdict)
        return found
