"""Dense classification: cross entropy at each place, and mean intersection over union."""

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ftbc_lightning.data.dense_classification import IGNORED
from ftbc_lightning.errors import UserError
from ftbc_lightning.report.measure import MIOU, MIOU_TO_ANN
from ftbc_lightning.report.predicted_maps import map_summary, write_maps
from ftbc_lightning.training.metrics import StepMeanIoU, places_like
from ftbc_lightning.training.tasks.classification import Classification


class DenseClassification(Classification):
    """One class for each place of a sample, as in semantic segmentation.

    Labels are integers `[B, H, W]`; places labelled 255 neither train nor are judged.

    Args:
        ann: The network; it returns logits, log-probabilities or probabilities
            `[B, classes, H, W]`.
        label_smoothing: Of the cross entropy, 0 to 1.
    """

    against_labels, against_ann = MIOU, MIOU_TO_ANN

    def answers(self, outputs: Tensor, images: Tensor) -> Tensor:
        """The class of the largest output at each place."""
        return outputs.argmax(1)

    def loss(self, outputs: Tensor, labels: Tensor, images: Tensor) -> Tensor:
        """What training lowers: cross entropy with smoothed labels, averaged over places."""
        return self._cross_entropy(outputs, labels, images, smoothing=self.label_smoothing)

    def evaluation_loss(self, outputs: Tensor, labels: Tensor, images: Tensor) -> Tensor:
        """What is logged of an evaluation: cross entropy, averaged over places."""
        return self._cross_entropy(outputs, labels, images, smoothing=0.0)

    def divergence(
        self, outputs: Tensor, wanted: Tensor, images: Tensor, *, temperature: float
    ) -> Tensor:
        """temperature^2 * KL(softmax(wanted / temperature) || softmax(outputs / temperature)).

        The softmax is over the classes, axis 1; KL is averaged over samples and places.
        """
        found, target = (self.scores(each, images) / temperature for each in (outputs, wanted))
        divergence = F.kl_div(
            found.log_softmax(1), target.log_softmax(1), reduction="none", log_target=True
        )
        return divergence.sum(1).mean() * temperature**2

    def metric(self, timesteps: int) -> StepMeanIoU:
        """Mean intersection over union after each of T steps; an ANN has one."""
        return StepMeanIoU(timesteps=timesteps)

    def check_outputs(self, shape: Sequence[int], wanted: int | None, *, name: str) -> None:
        """Raise `UserError` unless there is one output for each class at each place."""
        if len(shape) != 4:
            raise UserError(
                f"{name} returns {list(shape)} for one input; [1, classes, H, W] is needed. For "
                "one class a sample give --model.task classification."
            )
        if shape[1] > IGNORED:
            raise UserError(
                f"{name} has {shape[1]} outputs at each place; at most {IGNORED} classes are "
                f"possible, because {IGNORED} labels what is left out."
            )
        if wanted is not None and shape[1] != wanted:
            raise UserError(
                f"{name} has {shape[1]} outputs at each place, but the data has {wanted} classes; "
                f"set model.network.init_args.num_classes to {wanted}."
            )

    def predictions(self, outputs: Tensor, images: Tensor) -> dict[str, Tensor]:
        """What is found in each sample, from outputs `[T, B, classes, H, W]`.

        Returns:
            `label`, the class of each place after the last step, uint8 `[1, B, H, W]`; `share`,
            the share of places that each class has after the last step, `[1, B, classes]`;
            `confidence`, the largest softmax probability after each step, averaged over places,
            `[T, B]`.
        """
        best = self.scores(outputs, images).float().softmax(2).amax(2)
        label = outputs[-1:].argmax(2)
        found = F.one_hot(label.flatten(2), outputs.shape[2])
        return {
            "label": label.to(torch.uint8),
            "share": found.float().mean(2),
            "confidence": best.mean((2, 3)),
        }

    def check_early_exit(self) -> None:
        """Refuse: the places of a sample are not sure at the same step."""
        raise UserError(
            "early_exit stops a sample when the network is sure of its class; dense "
            "classification has a class for each place. Leave it out, and choose fewer steps "
            "with --at."
        )

    def write(
        self,
        path: Path,
        predictions: dict[str, Tensor],
        names: Sequence[str],
        classes: Sequence[str] | None,
    ) -> None:
        """Write shares and confidences, or the maps themselves, see `write_maps`."""
        write_maps(path, predictions, names, classes)

    def summary(self, predictions: dict[str, Tensor]) -> str:
        """Samples, steps, and how good the maps are where the classes are known."""
        return map_summary(predictions)

    def _cross_entropy(
        self, outputs: Tensor, labels: Tensor, images: Tensor, *, smoothing: float
    ) -> Tensor:
        """Averaged over the places that are labelled; 0 where none is."""
        wanted = places_like(outputs, labels)
        total = F.cross_entropy(
            self.scores(outputs, images),
            wanted,
            ignore_index=IGNORED,
            label_smoothing=smoothing,
            reduction="sum",
        )
        return total / (wanted != IGNORED).sum().clamp_min(1)
