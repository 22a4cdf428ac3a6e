import pytest
import torch
from torch import nn

from ftbc_lightning import calibrate, convert
from ftbc_lightning.calibration.held_out import half_of, held_out_ridge, ridge, sorted_by_half
from tests.networks import residual_net, samples


def gram(rows, wanted):
    """Products of the rows, with a constant, and of what is wanted, for one group."""
    rows = torch.cat([rows, torch.ones(len(rows), 1, dtype=rows.dtype)], dim=1)
    return (rows.T @ torch.cat([rows, wanted], dim=1))[None]


def problem(noise, seed=0, count=200):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(count, 20, dtype=torch.float64, generator=generator)
    wanted = rows @ torch.ones(20, 1, dtype=torch.float64) + 3
    wanted += noise * torch.randn(count, 1, dtype=torch.float64, generator=generator)
    return torch.stack(
        [gram(rows[:half], wanted[:half]) for half in (count // 2,)]
        + [gram(rows[count // 2 :], wanted[count // 2 :])]
    )


def share(halves, shrinkage=1e-6):
    """Of the correction that all samples ask for."""
    asked = ridge(halves.sum(0), 20, shrinkage)
    return (held_out_ridge(halves, 20, shrinkage) / asked).mean().item()


def test_what_holds_on_the_other_half_is_taken_whole():
    assert share(problem(0.0)) == pytest.approx(1, abs=1e-6)


def test_the_more_chance_there_is_the_less_is_taken():
    shares = [share(problem(noise)) for noise in (1, 10, 30)]
    assert 1 > shares[0] > shares[1] > shares[2]


def test_of_pure_chance_little_is_taken_and_often_nothing():
    pure = [problem(1e6, seed) for seed in range(20)]
    shares = torch.tensor([share(halves) for halves in pure])
    assert (shares == 0).sum() >= 6
    assert shares.max() < 0.5


def test_where_a_half_has_no_samples_nothing_is_taken():
    halves = problem(0.0)
    halves[1] = 0
    assert not held_out_ridge(halves, 20, 0.03).any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64, torch.int64])
def test_the_half_of_a_sample_does_not_depend_on_those_beside_it(dtype):
    images = (16 * torch.rand(60, 2, 5, 5, generator=torch.Generator().manual_seed(0))).to(dtype)
    half = half_of(images)
    assert torch.equal(torch.cat([half_of(image[None]) for image in images.flip(0)]).flip(0), half)
    assert torch.equal(half_of(images.contiguous(memory_format=torch.channels_last)), half)
    assert 15 < half.sum() < 45


def test_samples_with_few_bits_are_divided_too():
    images = torch.randint(0, 17, (400, 1, 8, 8), generator=torch.Generator().manual_seed(0)) / 16
    assert 150 < half_of(images).sum() < 250


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_samples_that_differ_in_places_alone_are_divided_too(dtype):
    one_hot = torch.eye(400, dtype=dtype)
    switches = (torch.rand(400, 30, generator=torch.Generator().manual_seed(0)) > 0.5).to(dtype)
    tokens = torch.stack([torch.randperm(9) for _ in range(400)])
    for images in (one_hot, switches, tokens, torch.arange(400)):
        assert 150 < half_of(images).sum() < 250


def test_every_sample_is_in_one_half():
    batches = list(torch.rand(23, 4).split(9))
    for batch, given, first in zip(batches, *sorted_by_half(batches), strict=True):
        assert half_of(given).tolist() == [0] * first + [1] * (len(batch) - first)
        assert torch.equal(given.sort(dim=0).values, batch.sort(dim=0).values)


def test_with_a_single_sample_the_weights_stay():
    net, images = residual_net(), samples(1)
    snn = convert(net, images, [images], timesteps=2)
    before = snn.layers.conv2.weight.clone()
    calibrate(net, snn, [images], method="weights+exact")
    assert torch.equal(snn.layers.conv2.weight, before)


def test_a_layer_with_more_weights_than_values_moves_less_than_it_would(monkeypatch):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 40), nn.ReLU(), nn.Linear(40, 5), nn.ReLU(), nn.Linear(5, 3))
    images = torch.rand(24, 6)
    snn = convert(net, images[:1], [images], timesteps=1)
    moved = []
    for whole in (False, True):
        if whole:
            monkeypatch.setattr(
                "ftbc_lightning.calibration.weights.held_out_ridge",
                lambda halves, *given: ridge(halves.sum(0), *given),
            )
        calibrate(net, snn, [images], method="weights")
        moved.append((snn.layers.get_submodule("2").weight - net[2].weight).norm())
    assert moved[0] < 0.9 * moved[1]
