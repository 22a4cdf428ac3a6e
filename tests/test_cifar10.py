"""The gains that the methods are there for, on real pictures; skipped where there are none."""

from pathlib import Path

import pytest
import torch

from ftbc_lightning import calibrate, convert, simulate
from ftbc_lightning.ann import ResNet20
from ftbc_lightning.ann.weights import load_weights
from ftbc_lightning.data import ArrayDataModule

WEIGHTS = Path("/work/shared/data/weights/cifar10/akamaster_resnet20.pt")
PICTURES = Path("/tmp/cifar/cifar10.npz")
TESTED = 2000


@pytest.mark.slow
@pytest.mark.skipif(not (WEIGHTS.exists() and PICTURES.exists()), reason="data is not here")
@pytest.mark.parametrize(("timesteps", "gains"), [(2, (15, 14)), (4, (10, 8))])
def test_gains_of_exact_and_of_weights_on_cifar10(timesteps, gains):
    """512 calibration pictures; the standard error of a difference is about 1 point."""
    net = ResNet20().eval()
    load_weights(net, WEIGHTS)
    data = ArrayDataModule(
        path=str(PICTURES), mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]
    )
    data.setup()
    batches = [images for images, _ in data.calibration_dataloader(seed=0)]
    images, labels = zip(*data.test_dataloader(), strict=True)
    images, labels = torch.cat(images)[:TESTED], torch.cat(labels)[:TESTED]
    snn = convert(net, images[:1], batches, timesteps=timesteps)
    found = []
    for method in ("none", "exact", "weights+exact"):
        calibrate(net, snn, batches, method=method)
        right = simulate(snn, images)[-1].argmax(-1) == labels
        found.append(100 * right.float().mean().item())
    assert found[1] - found[0] >= gains[0], found
    assert found[2] - found[1] >= gains[1], found
