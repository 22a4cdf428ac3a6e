"""`ftbc diagnose`: in which layer accuracy is lost, and by what."""

from collections.abc import Iterable
from typing import Any

import lightning
from lightning import LightningDataModule
from rich.console import Console
from torch import Tensor

from ftbc_lightning import report
from ftbc_lightning.analysis.diagnosis import Diagnosis, diagnose
from ftbc_lightning.errors import UserError
from ftbc_lightning.training.finished_networks import choose, given
from ftbc_lightning.training.module import SpikingClassifier
from ftbc_lightning.training.reload import fill
from ftbc_lightning.training.subcommands.obeyed import refuse_unobeyed


class DiagnoseTrainer(lightning.Trainer):
    """A Trainer that splits the error of each layer by its cause."""

    def diagnose(
        self,
        model: SpikingClassifier,
        datamodule: LightningDataModule | None = None,
        ckpt_path: str | None = None,
        at: int | None = None,
        method: str | None = None,
        samples: int = 256,
    ) -> Diagnosis:
        """Say in which layer accuracy is lost, by which cause, before and after calibration.

        Args:
            model: Holds the ANN.
            datamodule: Its validation samples are watched.
            ckpt_path: The file of calibrated networks, `snn.ckpt`.
            at: T of the networks to look at; the largest if not given.
            method: Whose calibration is looked at; exact, or the last in the file, if not given.
            samples: How many samples.

        Returns:
            The diagnosis of the calibrated network, which has been printed.

        Raises:
            UserError: The file is missing, or holds no calibrated network of that method and T.
        """
        refuse_unobeyed(self, "diagnose", instead="--samples N looks at N samples.")
        ckpt_path = given(ckpt_path)
        fill(model, ckpt_path)
        model.to(self.strategy.root_device)
        if model.phase != "calibrated" or datamodule is None:
            raise UserError(f"{ckpt_path} holds no calibrated network; run `ftbc calibrate` first.")
        best = choose(model, method=method, timesteps=at)
        plain = [v for v in model.every_variant() if v.timesteps == best.timesteps]
        first = next((v for v in plain if v.method == "none"), best)
        datamodule.prepare_data()
        datamodule.setup("validate")
        batches = _some(datamodule.val_dataloader(), samples)
        before, after = (diagnose(model.ann, model.network(v), batches) for v in (first, best))
        label = report.label_of(best.name)
        title = f"{label}, T = {best.timesteps}, {after.samples} validation samples"
        done = {"bias": best.stages.biases != "none", "weights": best.stages.weights is not None}
        console = Console()
        console.print(report.diagnosis_table(before, after, title=title))
        for rank, name in enumerate(after.worst()[:3], start=1):
            console.print(f"{rank}. {name}: {after.advice(name, **done)}", highlight=False)
        return after


def _some(loader: Iterable[Any], samples: int) -> list[Tensor]:
    """The first samples of a loader."""
    batches: list[Tensor] = []
    for batch in loader:
        missing = samples - sum(len(part) for part in batches)
        if missing <= 0:
            break
        batches.append(batch[0][:missing])
    return batches
