"""The gains that the methods are there for, on real samples; skipped where there are none."""

import pytest

from ftbc_lightning import calibrate, convert, simulate
from ftbc_lightning.ann import ResNet20
from ftbc_lightning.ann.weights import load_weights
from ftbc_lightning.data.transforms import NORMALIZATION, evaluation
from tests.real_data import HERE, WEIGHTS, cifar10

TESTED = 2000


@pytest.mark.slow
@pytest.mark.skipif(not HERE, reason="no real samples here")
@pytest.mark.parametrize(("timesteps", "gains"), [(2, (15, 14)), (4, (10, 8))])
def test_gains_of_exact_and_of_weights_on_cifar10(timesteps, gains):
    """512 calibration samples; the standard error of a difference is about 1 point."""
    net = ResNet20().eval()
    load_weights(net, WEIGHTS / "cifar10" / "akamaster_resnet20.pt")
    prepare = evaluation(*NORMALIZATION["imagenet"])
    batches = prepare(cifar10("train")[0][:512]).split(128)
    images, labels = (part[:TESTED] for part in cifar10("test"))
    images = prepare(images)
    snn = convert(net, images[:1], batches, timesteps=timesteps)
    found = []
    for method in ("none", "exact", "weights+exact"):
        calibrate(net, snn, batches, method=method)
        right = simulate(snn, images)[-1].argmax(-1) == labels
        found.append(100 * right.float().mean().item())
    assert found[1] - found[0] >= gains[0], found
    assert found[2] - found[1] >= gains[1], found
