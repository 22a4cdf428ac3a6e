"""Tones: eight kinds of sound, drawn when they are first needed; nothing is downloaded."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import Dataset

from ftbc_lightning.data.base import ClassificationDataModule, Split
from ftbc_lightning.data.in_memory import InMemorySamples
from ftbc_lightning.data.sounds import KINDS, SAMPLE_RATE, make_sounds
from ftbc_lightning.errors import UserError, check_counts


class TonesDataModule(ClassificationDataModule):
    """Sounds of one second at 8 kHz, as waves: tones, sweeps, bursts and clicks in noise.

    The kinds are those of `ftbc_lightning.data.sounds`. Their training and test sounds come from
    two random generators, so no number is in both. Unless told otherwise a quarter of the training
    sounds validates: of 1,600 sounds 960 train, 320 validate and 320 test.

    Args:
        samples: How many sounds; a fifth of them tests.
        noise: Deviation of the white noise under each sound, whose tones reach 0.25 to 1.
        settings: Those of `ClassificationDataModule`.

    Raises:
        UserError: A setting is out of range.
    """

    def __init__(
        self,
        *,
        samples: int = 1600,
        noise: float = 0.2,
        batch_size: int = 32,
        validation_fraction: float = 0.25,
        **settings: Any,
    ) -> None:
        super().__init__(batch_size=batch_size, validation_fraction=validation_fraction, **settings)
        check_counts(samples=samples)
        if samples < 5 * len(KINDS):
            raise UserError(
                f"samples is {samples}; at least {5 * len(KINDS)} are needed, so that a sound of "
                "each kind tests."
            )
        if not noise >= 0:
            raise UserError(f"noise is {noise}; it must be 0 or more.")
        self.samples, self.noise = samples, noise
        self.num_classes, self.input_shape = len(KINDS), (1, SAMPLE_RATE)
        self.class_names = list(KINDS)
        self._samples: dict[Split, InMemorySamples] = {}

    def check_available(self) -> None:
        """Make the sounds."""
        if self._samples:
            return
        test = self.samples // 5
        counts: dict[Split, int] = {"train": self.samples - test, "test": test}
        for place, (split, count) in enumerate(counts.items()):
            generator = torch.Generator().manual_seed(2 * self.division_seed + place)
            made = make_sounds(count, noise=self.noise, generator=generator)
            self._samples[split] = InMemorySamples(*made)

    def labels(self, split: Split) -> Sequence[int]:
        """The class of every sound of a split, in order."""
        self.check_available()
        return self._samples[split].labels.tolist()

    def dataset(self, split: Split, *, augmented: bool) -> Dataset[Any]:
        """The sounds of a split; nothing is augmented."""
        self.check_available()
        return self._samples[split]
