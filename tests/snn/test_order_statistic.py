import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ftbc_lightning.snn.order_statistic import kth_smallest


def several_processes(values, kind):
    """A reduction that is not `identity`, so that bisection is used; it merges nothing."""
    return values


@pytest.mark.parametrize("reduce", [None, several_processes])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@settings(max_examples=50, deadline=None)
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
