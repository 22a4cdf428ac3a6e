"""How often weights must be used for their way from memory to be worth it."""

import math
from collections.abc import Mapping

from torch import fx, nn

from ftbc_lightning.graph.batch_norm import Convolution, Transposed

REUSE = 1700
"""Products for each weight, from where on reading the weights takes no more than about 5 % of the
time: measured on a VGG-16 at 32 pixels, whose last layers have many weights and 2 x 2 places."""


def samples_worth(layers: fx.GraphModule, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """How many samples times steps to carry at once, so that weights are used often enough.

    n * sum(weights * places) >= REUSE * sum(weights), over the layers before each neuron, whose
    places are those of the neuron.

    >>> net = fx.symbolic_trace(nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU()))
    >>> samples_worth(net, {"_1": (2, 10, 10)})
    17
    """
    weights = products = waiting = 0
    modules = dict(layers.named_modules())
    for node in layers.graph.nodes:
        module = modules.get(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, Convolution | Transposed | nn.Linear):
            waiting += module.weight.numel()
        if node.name in shapes:
            weights += waiting
            products += waiting * math.prod(shapes[node.name][1:])
            waiting = 0
    return math.ceil(REUSE * weights / products) if products else 1
