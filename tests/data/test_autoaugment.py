"""The batched CIFAR recipe does to each sample what torchvision does to one."""

import math

import pytest
import torch
from torchvision.transforms import v2

from ftbc_lightning.data.autoaugment import KIND, OPERATIONS, POLICY, apply, settings_of
from ftbc_lightning.data.transforms import augmentation, cutout

KINDS = list(OPERATIONS)
SIGNED = ("shear_y", "translate_x", "translate_y", "rotate")
SIGNED += ("brightness", "color", "contrast", "sharpness")
USED = sorted({(name, level) for policy in POLICY for name, _, level in policy})


def samples(count=24, channels=3, size=32):
    """Smooth samples with some noise, of another range each."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, channels, 4, 4, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=size, mode="bicubic")
    noise = 0.05 * torch.randn(smooth.shape, generator=generator)
    span = torch.linspace(0.4, 1.2, count).view(-1, 1, 1, 1)
    return ((smooth + noise) * span * 255).clamp(0, 255).to(torch.uint8)


def of_torchvision(image, name, level):
    """One operation on one sample; the magnitudes are those of its own AutoAugment."""
    width = image.shape[-1]
    space = v2.AutoAugment._AUGMENTATION_SPACE
    title = {"autocontrast": "AutoContrast"}.get(name, name.title().replace("_", ""))
    magnitudes, signed = space[title][0](10, width, width), space[title][1]
    magnitude = 0.0 if magnitudes is None else float(magnitudes[abs(level)])
    assert signed == (name in SIGNED)
    magnitude *= -1 if signed and level < 0 else 1
    transform = v2.AutoAugment()._apply_image_or_video_transform
    return transform(image, title, magnitude, v2.InterpolationMode.NEAREST, {})


@pytest.mark.parametrize(("name", "level"), USED)
@pytest.mark.parametrize("channels", [1, 3])
def test_an_operation_is_torchvisions(name, level, channels):
    images = samples(channels=channels)
    for sign in (1, -1) if name in SIGNED else (1,):
        settings = torch.tensor([settings_of(name, sign * level, 32, 32)]).expand(len(images), -1)
        chosen = torch.full((len(images),), KINDS.index(KIND.get(name, name)))
        found = apply(images, chosen, settings).int()
        expected = torch.stack([of_torchvision(one, name, sign * level) for one in images]).int()
        difference = (found - expected).abs()
        if KIND.get(name) == "move":  # a pixel half way between two may come from the other one
            assert (difference > 0).double().mean() < 0.04
        else:  # 0.4 * 5 is 2 here, and 1.99 there, of which 1 is kept
            assert difference.max() <= (1 if name in SIGNED or name == "autocontrast" else 0)


def test_the_policy_is_torchvisions():
    def named(name):
        return "".join(part.title() for part in name.split("_")).lower()

    ours = [[(named(n), p, level) for n, p, level in policy] for policy in POLICY]
    own = v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10)._policies
    assert ours == [[(n.lower(), p, level or 0) for n, p, level in policy] for policy in own]


def test_each_sample_of_a_batch_gets_its_own_operation():
    images = samples(len(KINDS) + 1)
    names = ["rotate", *KINDS[1:]]
    settings = torch.tensor([*(settings_of(name, 5, 32, 32) for name in names), [0] * 6])
    chosen = torch.arange(len(images))
    together = apply(images, chosen, settings)
    for n in range(len(images)):
        alone = apply(images[n : n + 1], chosen[n : n + 1], settings[n : n + 1])
        assert torch.equal(together[n : n + 1], alone)
    assert torch.equal(together[-1], images[-1])
    shuffled = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    again = apply(images[shuffled], chosen[shuffled], settings[shuffled])
    assert torch.equal(again, together[shuffled])


@pytest.mark.parametrize("name", ["flip_crop", "cifar"])
def test_a_recipe_creates_nothing_beside_the_device_of_the_samples(name):
    """A tensor without values refuses to meet one of the CPU."""
    images = samples().to("meta")
    recipe = augmentation(name)
    assert recipe is not None
    assert recipe(images).device.type == "meta"


def test_a_square_of_cutout_is_drawn_for_each_sample_and_lies_inside():
    torch.manual_seed(0)
    holes = cutout(torch.ones(400, 3, 32, 32, dtype=torch.uint8)) == 0
    assert holes.flatten(1).sum(1).tolist() == [3 * 256] * 400
    corners = {tuple(hole[0].nonzero()[0].tolist()) for hole in holes}
    assert {row for row, _ in corners} == {column for _, column in corners} == set(range(17))
    assert torch.equal(cutout(torch.ones(2, 1, 16, 16)), torch.ones(2, 1, 16, 16))


def test_the_recipe_changes_samples_as_often_as_the_policy_says():
    torch.manual_seed(0)
    from ftbc_lightning.data.autoaugment import auto_augment

    images = samples(1).expand(4000, -1, -1, -1)
    kept = (auto_augment(images) == images).flatten(1).all(1).double().mean()
    unchanged = [
        math.prod(1 - p for name, p, level in policy if (name, level) != ("color", 0))
        for policy in POLICY
    ]
    assert abs(float(kept) - sum(unchanged) / len(POLICY)) < 0.03
