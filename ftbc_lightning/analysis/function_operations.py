"""What functions cost that are taken over what has arrived so far: they do not spike."""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

TIMES = {torch.mul, torch.multiply, operator.mul, operator.imul, "mul", "mul_", "multiply"}
SQUARES = {torch.square, "square", "square_"}
POWERS = {torch.pow, operator.pow, "pow", "pow_"}


@dataclass(frozen=True)
class FunctionOperations:
    """One function, for one sample at one step.

    Attributes:
        function: The name of its node.
        values: How many values it gives; each is one evaluation, a norm or a softmax for all that
            it reads.
        products: The multiplications in it of two values that change in time, as in attention and
            in gates.
    """

    function: str
    values: float
    products: float


def function_operations(
    node: fx.Node, evaluate: Callable[[], Any], samples: int
) -> FunctionOperations:
    """Count what one evaluation of a function costs.

    Args:
        node: Its node.
        evaluate: Gives its value.
        samples: How many of them, steps included, the value is of.
    """
    # the plain form of attention, whose products are counted
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        value: Tensor = evaluate()
    products = counter.get_total_flops() / 2
    products += value.numel() * _products_of_one(node)
    return FunctionOperations(node.name, value.numel() / samples, products / samples)


def _products_of_one(node: fx.Node) -> int:
    """The multiplications behind each value of a product, a square or a whole power."""
    given = [*node.args, *node.kwargs.values()]
    if node.target in TIMES:
        return int(sum(isinstance(value, fx.Node) for value in given) == 2)
    if node.target in POWERS and isinstance(given[-1], int):
        return max(given[-1] - 1, 0)
    return int(node.target in SQUARES)
