"""Samples with several labels for the tests, from scikit-learn's generator."""

from typing import Any

import torch
from sklearn.datasets import make_multilabel_classification
from torch import Tensor, nn
from torch.utils.data import Dataset

from ftbc_lightning.data import MultilabelDataModule
from ftbc_lightning.data.base import Split
from ftbc_lightning.data.in_memory import InMemorySamples

FEATURES, LABELS = 20, 5


class TopicsDataModule(MultilabelDataModule):
    """Counts of 20 words in 1,000 texts on none to five topics; 200 test."""

    def __init__(
        self, *, calibration_samples: int = 256, named: bool = False, **settings: Any
    ) -> None:
        super().__init__(calibration_samples=calibration_samples, **settings)
        self.num_labels, self.input_shape = LABELS, (FEATURES,)
        if named:
            self.class_names = ["art", "law", "music", "news", "sport"]
        words, topics = make_multilabel_classification(
            1000, FEATURES, n_classes=LABELS, length=200, random_state=0
        )
        counts = torch.tensor(words, dtype=torch.float32)
        counts = (counts - counts[:800].mean(0)) / counts[:800].std(0)
        self.samples: dict[Split, tuple[Tensor, Tensor]] = {
            "train": (counts[:800], torch.tensor(topics[:800])),
            "test": (counts[800:], torch.tensor(topics[800:])),
        }

    def targets(self, split: Split) -> Tensor:
        return self.samples[split][1]

    def dataset(self, split: Split, *, augmented: bool) -> Dataset[Any]:
        return InMemorySamples(*self.samples[split])


class TopicsNetwork(nn.Sequential):
    """Two hidden layers; with `ending` sigmoid it returns probabilities."""

    def __init__(self, *, ending: str = "none", width: int = 32) -> None:
        ends = {"sigmoid": [nn.Sigmoid()], "softmax": [nn.Softmax(1)], "none": []}
        super().__init__(
            *(nn.Linear(FEATURES, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()),
            *(nn.Linear(width, LABELS), *ends[ending]),
        )
