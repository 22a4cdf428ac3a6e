"""Networks and settings that must be refused."""

from typing import Any

import torch
from torch import Tensor, nn

from ftbc_lightning import SpikingClassifier, calibrate, convert, simulate
from ftbc_lightning.training.callbacks import ForwardTemporalBiasCorrection
from ftbc_lightning.training.callbacks.memory_needed import check_memory
from tests.smooth_network import Smooth


def layers() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 4))


class Branching(nn.Module):
    """A path that depends on the sample."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = layers()

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        return self.layers(images) if images.sum() > 0 else self.layers(-images)


class Writing(Branching):
    """Writes into a part of its own input."""

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        images[:, 0] = 0
        return self.layers(images)


class Clamping(Branching):
    """Changes a value in place by an operation that is not linear."""

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        flatten, hidden, relu, last = self.layers
        return last(relu(hidden(flatten(images))).clamp_(0.5, 1))


class TwoInputs(Branching):
    """Needs something beside the sample."""

    def forward(self, images: Tensor, mask: Tensor) -> Tensor:
        """Logits."""
        return self.layers(images * mask)


class TwoOutputs(Branching):
    """Returns more than logits."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, and the sample."""
        return self.layers(images), images


class Product(Branching):
    """Multiplies two values that both depend on the sample."""

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        flatten, hidden, relu, last = self.layers
        value = relu(hidden(flatten(images)))
        return last(value * value)


def images(count: int = 16) -> Tensor:
    return torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def converting(network: nn.Module, samples: Tensor | None = None, **settings: Any) -> Any:
    samples = images() if samples is None else samples
    given = {"timesteps": 2, **settings}
    return convert(network, torch.zeros(1, 1, 8, 8), [samples], **given)


def calibrating(**settings: Any) -> None:
    network = layers()
    calibrate(network, converting(network), [images()], **settings)


def checking(
    network: nn.Module, classes: int = 4, channels: int = 1, task: str = "classification"
) -> None:
    module = SpikingClassifier(network, task=task)
    module.structure(torch.zeros(1, channels, 8, 8), classes)


def places(classes: int) -> nn.Sequential:
    """Outputs at each pixel."""
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, classes, 1))


def judging_places(labels: Tensor) -> None:
    network, samples = places(4), images(2)
    SpikingClassifier(network, task="dense_classification").task.loss(
        network(samples), labels, samples
    )


def two_columns_of_labels() -> None:
    network, samples = layers(), images(2)
    SpikingClassifier(network).task.loss(network(samples), torch.zeros(2, 1).long(), samples)


def calibrating_for_another(width: int) -> None:
    hidden = nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 4)
    snn = converting(nn.Sequential(nn.Flatten(), *hidden))
    calibrate(layers(), snn, [images()])


def calibrating_on(samples: Any) -> None:
    network = layers()
    calibrate(network, converting(network), samples)


def rectified_scalars() -> None:
    converting(nn.Sequential(nn.Flatten(0), nn.ReLU(), nn.Linear(1, 2)))


def broken_pixels(value: float) -> None:
    samples = images()
    samples[3, 0, 2, 2] = value
    converting(layers(), samples)


def broken_weights() -> None:
    network = layers()
    nn.init.constant_(network[1].weight, torch.nan)
    converting(network)


def simulating(count: int = 1, **settings: Any) -> None:
    simulate(converting(layers()), images(count), **settings)


def without_thresholds() -> None:
    from ftbc_lightning.snn.conversion import prepare

    simulate(prepare(layers(), images(1), timesteps=2), images(1))


def callback(**settings: Any) -> None:
    ForwardTemporalBiasCorrection(**settings)


def absurd_memory() -> None:
    shapes = {"act": (64, 32, 32)}
    check_memory(shapes, timesteps=10**7, networks=4, samples=512, available=24 * 10**9)


def absurd_layer() -> None:
    given = {"timesteps": 1, "networks": 1, "samples": 1, "available": 24 * 10**9}
    check_memory({"act": (64, 32, 32)}, weights=58 * 10**9, **given)


SMOOTH = Smooth
