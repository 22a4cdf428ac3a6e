"""Calibration in several processes gives what one process gives on the same samples."""

import itertools

import pytest

from tests.processes import shares

pytestmark = pytest.mark.processes

TOLERANCE = {"float64": 1e-10, "float32": 1e-4}
"""Largest difference of a threshold, bias, start membrane or weight, in the activation's unit.

Counts and maxima merge exactly. Sums of activations merge in another order, and convolutions of
other batch sizes round differently: 1e-16 or 1e-7 of a value. In float32 that can flip a spike
where a potential lies on the threshold, and what follows moves by 1/N of a threshold or less."""

CASES = [(m, *case) for m, case in itertools.product(shares.METHODS, shares.CASES)]
CASES += [(method, "float64", "transformer") for method in shares.ENCODED]


@pytest.fixture(scope="module")
def alone():
    return shares.alone()


@pytest.fixture(scope="module", params=[2, 3])
def together(request, tmp_path_factory):
    """The states that rank 0 of several processes ends with."""
    return shares.together(request.param, tmp_path_factory.mktemp(f"world{request.param}"))


@pytest.mark.parametrize(("method", "precision", "share"), CASES)
def test_several_processes_equal_one(alone, together, method, precision, share):
    case = f"{method}-{precision}-{share}"
    found = together[case]
    largest = shares.largest_difference(alone[case], found)
    assert largest < TOLERANCE[precision], f"{largest:.1e}"
    if method not in ("none", "weights"):  # those two leave the biases at zero
        assert any(float(v.abs().max()) > 0.01 for k, v in found.items() if "temporal_bias" in k)
