import pytest
import torch

from ftbc_lightning import UserError
from ftbc_lightning.ann import QCFS, ClippedReLU, make_activation


def test_qcfs_equals_its_formula():
    z = torch.linspace(-2, 6, 1001)
    expected = 3 * torch.clamp(torch.floor(z * 4 / 3 + 0.5) / 4, 0, 1)
    torch.testing.assert_close(QCFS(levels=4, threshold=3.0)(z), expected)


def test_qcfs_passes_the_gradient_straight_through_inside_its_range():
    z = torch.tensor([-1.0, 0.2, 1.7, 5.0], requires_grad=True)
    QCFS(levels=4, threshold=3.0)(z).sum().backward()
    assert z.grad.tolist() == [0.0, 1.0, 1.0, 0.0]


def test_the_threshold_of_a_clipped_relu_learns_from_what_it_clips():
    activation, z = ClippedReLU(threshold=2.0), torch.tensor([1.0, 3.0, 4.0], requires_grad=True)
    activation(z).sum().backward()
    assert z.grad.tolist() == [1.0, 0.0, 0.0]
    assert activation.threshold.grad.item() == 2.0


@pytest.mark.parametrize("kind", [QCFS, ClippedReLU])
def test_a_threshold_must_be_above_zero(kind):
    with pytest.raises(UserError, match=r"threshold of an activation is 0"):
        kind(threshold=0.0)


def test_levels_and_names_are_checked():
    with pytest.raises(UserError, match="at least 1 level"):
        QCFS(levels=0)
    with pytest.raises(UserError, match="'gelu' is unknown"):
        make_activation("gelu")
