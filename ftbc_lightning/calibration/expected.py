"""What the ANN has in the place of each neuron: means, found once for all its networks."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from ftbc_lightning.calibration.by_channel import by_channel, total
from ftbc_lightning.graph.propagation import Plan, Propagation
from ftbc_lightning.snn.statistics import Batches, Reduce, identity, samples_of


@dataclass(frozen=True)
class Expected:
    """The mean activation of a layer, and what the activations look like.

    Attributes:
        mean: E[a] over samples, space and processes, float64 `[C]`.
        forms: Of each piece shape and memory layout, `[B, C, ...]`: tensors without memory (on
            the device "meta").
    """

    mean: Tensor
    forms: Sequence[Tensor]

    @classmethod
    def of(cls, activations: Sequence[Tensor], samples: int, reduce: Reduce) -> "Expected":
        """That of activations that are there, a piece for each micro-batch or one for all.

        Args:
            activations: a, `[B, C, ...]`.
            samples: How many there are over all processes.
            reduce: Merges sums over processes.
        """
        sums, forms = map(channel_sums, activations), map(form_of, activations)
        return cls.from_sums(list(sums), list(forms), samples, reduce)

    @classmethod
    def from_sums(
        cls, sums: Sequence[Tensor], forms: Sequence[Tensor], samples: int, reduce: Reduce
    ) -> "Expected":
        """That of activations whose sums, `[C]`, are there."""
        number = samples * forms[0][0, 0].numel()
        return cls(reduce(total(sums), "sum") / number, forms)

    @property
    def places(self) -> int:
        """How many values a channel has for one sample."""
        return self.forms[0][0, 0].numel()


class CalibrationSamples:
    """Calibration samples, checked, and what an ANN has on them.

    Several calibrations of networks of one ANN may share them. The means of all layers are found
    in one pass of the ANN, a micro-batch at a time, and are all that is kept of it.

    Args:
        reference: The traced ANN.
        batches: See `calibrate`.
        reduce: Merges over processes.

    Raises:
        UserError: There is no sample, or a pixel is NaN or infinite.
    """

    def __init__(
        self, reference: fx.GraphModule, batches: Batches, *, reduce: Reduce = identity
    ) -> None:
        like = next(reference.parameters())
        self._reference, self._batches = reference, samples_of(batches, like=like, reduce=reduce)
        self._means: dict[int | None, dict[fx.Node, Expected]] = {}

    def of(self, reference: fx.GraphModule) -> list[Tensor]:
        """The batches, on the device and in the precision of the ANN; some may be empty.

        Raises:
            ValueError: The ANN is another one.
        """
        if reference is not self._reference:
            raise ValueError("These CalibrationSamples are those of another ANN, or of its module.")
        return self._batches

    def known(self, batch: int | None = None) -> dict[fx.Node, Expected]:
        """What has been found of one batch, or of all; empty before the first sweep over them."""
        return self._means.setdefault(batch, {})


@torch.no_grad()
def expected_activations(
    plan: Plan, nodes: Collection[fx.Node], images: Sequence[Tensor], samples: int, reduce: Reduce
) -> dict[fx.Node, Expected]:
    """Run the ANN once over all micro-batches, one after the other.

    Args:
        plan: Of the ANN.
        nodes: Its activations.
        images: Micro-batches.
        samples: How many samples there are over all processes.
        reduce: Merges sums over processes.
    """
    sums: dict[fx.Node, list[Tensor]] = {node: [] for node in nodes}
    forms: dict[fx.Node, list[Tensor]] = {node: [] for node in nodes}
    for part in images:
        propagation, missing = Propagation(plan, part, steps=1), len(sums)
        for node in plan.nodes:
            value = propagation.advance(node)
            if node in sums:
                sums[node].append(channel_sums(value))
                forms[node].append(form_of(value))
                missing -= 1
            if not missing:
                break
    pieces = {node: pieces_of(parts, images[0].device) for node, parts in forms.items()}
    return {n: Expected.from_sums(sums[n], pieces[n], samples, reduce) for n in sums}


def pieces_of(parts: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """What of a layer is looked at together: on a CPU a micro-batch, elsewhere all of them."""
    if len(parts) == 1 or device.type == "cpu":
        return list(parts)
    return [torch.cat(list(parts))]


def channel_sums(activations: Tensor) -> Tensor:
    """Of `[B, C, ...]` the sum of each channel, float64 `[C]`."""
    return by_channel(activations).sum(1, dtype=torch.float64)


def form_of(values: Tensor) -> Tensor:
    """A tensor without memory, of the same shape and memory layout."""
    return torch.empty_strided(values.shape, values.stride(), dtype=values.dtype, device="meta")
