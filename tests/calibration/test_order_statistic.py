import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ftbc_lightning.calibration.order_statistic import kth_smallest, place_of


def several_processes(values, kind):
    """A reduction that is not `identity`, so that bisection is used; it merges nothing."""
    return values


@pytest.mark.parametrize("reduce", [None, several_processes])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@settings(derandomize=True, max_examples=50, deadline=None)
@given(
    values=st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=30),
    data=st.data(),
)
def test_it_is_the_sorted_value(reduce, dtype, values, data):
    rank = data.draw(st.integers(1, len(values)))
    tensor = torch.tensor([values, values[::-1]], dtype=dtype)
    pieces = [tensor[:, : len(values) // 2], tensor[:, len(values) // 2 :]]
    settings = {} if reduce is None else {"reduce": reduce}
    found = kth_smallest(pieces, torch.tensor([rank, rank]), **settings)
    assert found.tolist() == [tensor[0].sort().values[rank - 1]] * 2


def test_two_processes_agree_with_one_on_the_union():
    torch.manual_seed(0)
    left, right = torch.randn(3, 40), torch.randn(3, 25)
    k = torch.tensor([1, 30, 65])

    def both(counts, kind):
        bounds.append(counts)
        return counts + others.pop(0)

    # The second process's counts are recorded by running it alone against the first's bounds.
    whole = kth_smallest([left, right], k)
    bounds: list[torch.Tensor] = []
    others: list[torch.Tensor] = [torch.zeros(3, dtype=torch.int64)] * 32
    merged = kth_smallest([left, right], k, reduce=both)
    assert torch.equal(merged, whole)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["smooth", "ties", "constant", "sorted", "sparse"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.5, 0.999, 1.0])
def test_long_rows_are_cut_down_to_the_sorted_answer(dtype, kind, share):
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(5, 9000, generator=generator, dtype=dtype)
    values = {
        "smooth": values,
        "ties": (4 * values).round(),
        "constant": values[:, :1].expand_as(values).contiguous(),
        "sorted": values.sort(1).values,
        "sparse": values.clamp_min(1.5),
    }[kind]
    values[2] = 0.25  # one dead channel among the others
    k = torch.full((5,), max(1, round(share * 9000)))
    k[4] = 4500
    found = place_of([values[:, :4000], values[:, 4000:]], k)
    for row, rank, *place in zip(values, k, *vars(found).values(), strict=True):
        pivot, most, lower, higher, above, at_least = place
        assert most == pivot
        assert pivot == row.sort().values[rank - 1]
        smaller, larger = row[row < pivot], row[row > pivot]
        assert lower == (smaller.max() if len(smaller) else -torch.inf)
        assert higher == (larger.min() if len(larger) else torch.inf)
        assert (above, at_least) == (len(larger), 9000 - len(smaller))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_infinite_values_have_their_place_in_the_counting(dtype):
    values = torch.tensor([[torch.inf, -torch.inf, 0.5, torch.inf]], dtype=dtype)
    found = [
        float(kth_smallest([values], torch.tensor([k]), reduce=lambda counts, kind: counts))
        for k in (1, 2, 3, 4)
    ]
    assert found == [-torch.inf, 0.5, torch.inf, torch.inf]


@pytest.mark.parametrize("reduce", [None, several_processes])
@pytest.mark.parametrize("rank", [1, 2800, 4000, 5000, 9000])
def test_values_within_the_tolerance_count_as_one(reduce, rank):
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(3, 9000, generator=generator).double()
    values[:, 1000:5000] = 0.25 + 1e-9 * values[:, 1000:5000].clamp(-1, 1)
    values[2] = values[2].round()
    settings = {} if reduce is None else {"reduce": reduce}
    near = torch.tensor([2e-9, 0.0, 0.5]).double()
    k = torch.full((3,), rank)
    found = place_of([values[:, :4000], values[:, 4000:]], k, tolerance=near, **settings)
    for row, tolerance, *place in zip(values, near, *vars(found).values(), strict=True):
        least, most, lower, higher, above, at_least = place
        pivot = row.sort().values[rank - 1]
        equal = row[(row >= pivot - tolerance) & (row <= pivot + tolerance)]
        smaller, larger = row[row < pivot - tolerance], row[row > pivot + tolerance]
        assert (least, most) == (equal.min(), equal.max())
        assert lower == (smaller.max() if len(smaller) else -torch.inf)
        assert higher == (larger.min() if len(larger) else torch.inf)
        assert (above, at_least) == (len(larger), 9000 - len(smaller))
