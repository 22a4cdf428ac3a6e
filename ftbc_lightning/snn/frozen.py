"""A spiking network that only simulates from now on: for few samples at a time."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx

from ftbc_lightning.errors import UserError
from ftbc_lightning.graph.propagation import Plan
from ftbc_lightning.snn.network import SpikingNetwork, own_copy
from ftbc_lightning.snn.neurons.integrate_and_fire import IFNeuron
from ftbc_lightning.snn.packed_weights import PackedConv2d, pack_weights


class FrozenNetwork:
    """A copy of a spiking network that is only run, faster for one sample or a few.

    For `simulate`, and for early exit (`ftbc_lightning.snn.early_exit.simulate_until_sure`). The
    plan of its graph is kept, and on a CPU the weights of 2-D convolutions in float32 are packed as
    oneDNN computes with them, once. Spikes and logits are those of the network, to the rounding of
    its sums. What becomes of the network afterwards is not seen. It is not copied, stored or sent
    to another process: make it where it is used.

    Args:
        snn: A converted network with its thresholds set; left as it is.

    Raises:
        UserError: The thresholds are not set.

    >>> import torch
    >>> from ftbc_lightning import FrozenNetwork, convert, simulate
    >>> ann = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten())
    >>> samples = torch.rand(8, 1, 5, 5)
    >>> frozen = FrozenNetwork(convert(ann, samples[:1], [samples], timesteps=4))
    >>> simulate(frozen, samples[:1]).shape
    torch.Size([4, 1, 36])
    """

    def __init__(self, snn: SpikingNetwork) -> None:
        snn.check_thresholds()
        self._snn = own_copy(snn)
        pack_weights(self.layers)
        self._packed = any(isinstance(m, PackedConv2d) for m in self.layers.modules())
        self._plan = Plan(self.layers)

    def __reduce__(self) -> Any:
        raise UserError(
            "A FrozenNetwork cannot be copied, stored or sent to a process; take the network that "
            "was frozen, and freeze it there."
        )

    @property
    def layers(self) -> fx.GraphModule:
        """The graph with the neurons in it."""
        return self._snn.layers

    @property
    def timesteps(self) -> int:
        """T."""
        return self._snn.timesteps

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """For each neuron the shape of its current for one sample."""
        return self._snn.shapes

    @property
    def input_shape(self) -> tuple[int, ...] | None:
        """The shape of one sample, if it is known."""
        return self._snn.input_shape

    @property
    def leak(self) -> float:
        """What is left of a membrane after a step."""
        return self._snn.leak

    def neurons(self) -> dict[str, IFNeuron]:
        """The neurons by node name, from the input to the output."""
        return self._snn.neurons()

    def plan(self) -> Plan:
        """What can be known of the graph before any value flows."""
        return self._plan

    def check_thresholds(self) -> None:
        """Do nothing: they are set."""

    def prepared(self, images: Tensor) -> Tensor:
        """Inputs on the device and in the precision of the network.

        Raises:
            UserError: Layers would run in half precision, which packed ones do not.
        """
        if torch.is_autocast_enabled("cpu") and self._packed:
            raise UserError(
                "A FrozenNetwork runs in float32, and autocast is on; leave it, or simulate the "
                "network that was frozen."
            )
        return self._snn.prepared(images)
