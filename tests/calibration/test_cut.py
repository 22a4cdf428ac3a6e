"""The cut found by sorting, as on a GPU, is the cut found by selection and by counting."""

import pytest
import torch

from ftbc_lightning.calibration.cut import MARGIN, TIE, Selected, Sorted, cuts_of
from ftbc_lightning.calibration.exact import exact
from ftbc_lightning.calibration.layer import Layer, Step
from ftbc_lightning.snn.neurons.integrate_and_fire import IFNeuron
from ftbc_lightning.snn.statistics import identity

KINDS = ["smooth", "ties", "nearly tied", "constant", "sorted", "sparse"]


def several_processes(values, kind):
    """A reduction that is not `identity`, so that counting is used; it merges nothing."""
    return values


def potentials(kind: str, count: int, dtype: torch.dtype) -> torch.Tensor:
    """Of five channels, `[N, 5]`; the last one is dead."""
    values = torch.randn(count, 5, generator=torch.Generator().manual_seed(0), dtype=dtype)
    digit = torch.finfo(dtype).eps
    values = {
        "smooth": values,
        "ties": (4 * values).round() / 4,
        "nearly tied": (2 * values).round() / 2 + 20 * digit * values,
        "constant": values[:1].expand_as(values).contiguous(),
        "sorted": values.sort(0).values,
        "sparse": values.clamp_min(1.0),
    }[kind]
    values[:, 4] = -0.25
    return values


def both(values, threshold, share, reduce=identity):
    """The cut by selection (or counting) and by sorting."""
    ways = [Selected(threshold, len(values), reduce), Sorted(threshold, len(values))]
    for way in ways:
        way.aim(share, share.round())
    return [way.of([values[: len(values) // 3], values[len(values) // 3 :]]) for way in ways]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 2, 3, 40, 3000])
@pytest.mark.parametrize("reduce", [identity, several_processes])
def test_sorting_finds_the_cut_of_selection_and_of_counting(dtype, kind, count, reduce):
    values = potentials(kind, count, dtype)
    threshold = torch.tensor([1.0, 0.3, 2.0, 1e-6, 1.0], dtype=dtype)
    for part in (0.0, 0.001, 0.25, 0.5, 0.7501, 0.999, 1.0):
        share = torch.full((5,), part * count, dtype=torch.float64)
        share[1] = count - share[1]
        share[2] = (share[2].floor() + 0.5).clamp_max(count)  # as near to one side as to the other
        by_selection, by_sorting = both(values, threshold, share, reduce)
        assert torch.equal(by_selection, by_sorting), part


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", [0.0, 0.1, 0.6, 1.0])
def test_the_cut_is_the_nearest_to_the_share_that_parts_no_tie(kind, part):
    values, threshold = potentials(kind, 200, torch.float64), torch.ones(5).double()
    share = torch.full((5,), part * 200 + 0.2 * (part < 1)).double()
    _, found = both(values, threshold, share)
    near = TIE * torch.finfo(torch.float64).eps
    for row, wanted, (silent, firing) in zip(values.T, share, found.tolist(), strict=True):
        ordered = [-torch.inf, *row.sort().values.tolist(), torch.inf]
        places = [i for i in range(201) if ordered[i + 1] - ordered[i] > near]
        best = min(abs(200 - i - float(wanted)) for i in places)
        fires = int((row >= firing).sum())
        assert abs(fires - float(wanted)) == pytest.approx(best)
        assert int((row <= silent).sum()) == 200 - fires
        if fires in (0, 200):
            assert firing - silent == pytest.approx(2 * MARGIN)


def test_channels_may_be_sorted_a_few_at_a_time():
    values, threshold = potentials("ties", 100, torch.float32), torch.ones(5)
    share = torch.tensor([0.0, 20.2, 50.0, 99.7, 100.0]).double()
    whole, parts = Sorted(threshold, 100), Sorted(threshold, 100)
    parts.at_once = 2
    for way in (whole, parts):
        way.aim(share, share.round())
    assert torch.equal(whole.of([values]), parts.of([values]))


@pytest.mark.parametrize("value", [torch.inf, -torch.inf, torch.nan])
def test_what_is_not_finite_is_no_index_out_of_range(value):
    values = torch.full((6, 1), value)
    for share in (0.0, 2.0, 6.0):
        way = Sorted(torch.ones(1), 6)
        way.aim(torch.tensor([share]).double(), torch.tensor([share]).double())
        assert way.of([values]).shape == (1, 2)


def layer_of(values, reduce=identity):
    neuron = IFNeuron(values.shape[1], timesteps=1).to(values.dtype)
    neuron.set_threshold(torch.full((values.shape[1],), 0.7), half_threshold="initial")
    return Layer.of("act", neuron, [lambda t: values], [values], len(values), reduce)


def test_the_way_follows_device_and_processes():
    values = potentials("smooth", 10, torch.float32)
    elsewhere = layer_of(values)
    elsewhere.neuron.to("pretend")
    assert isinstance(cuts_of(elsewhere, 10), Sorted)
    assert isinstance(cuts_of(layer_of(values), 10), Selected)
    assert isinstance(cuts_of(layer_of(values, several_processes), 10), Selected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rounding_moves_no_potential_over_the_cut(dtype):
    """What is parted is farther apart than the bias is rounded, so that nothing needs mending."""
    generator = torch.Generator().manual_seed(0)
    silent = torch.randn(1, 20000, generator=generator, dtype=dtype)
    apart = torch.randint(TIE, 2 * TIE, silent.shape, generator=generator)
    values = torch.cat([silent, silent + apart.to(dtype) * torch.finfo(dtype).eps])
    layer = layer_of(values)
    wanted = layer.theta / 2
    zeros = torch.zeros(20000, dtype=dtype)
    bias = exact()(Step(layer, [values], [None], wanted, wanted, zeros))
    assert ((values + bias >= layer.neuron.threshold).sum(0) == 1).all()
