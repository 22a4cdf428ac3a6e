"""What moves values about: axes, pieces, padding, concatenation."""

from typing import Any

from torch import fx

from ftbc_lightning.interchange.arguments import Refused, axis_of, function_name, named, spread
from ftbc_lightning.interchange.writer import Shape, Writer

PIECES = ("chunk", "split", "unbind")
"""Functions that give several tensors; `getitem` slices what is taken out of them."""


class MoveWriter(Writer):
    """Writes the operation, or the few, of one move; each method returns the last one's name."""

    def _pad(self, node: fx.Node, source: str, pad: list[int], mode: str, value: Any) -> str:
        if mode != "constant" or value:
            raise Refused("it pads with something other than zeros")
        count = len(self.operations[source].shape)
        if len(pad) > 2 * count or min(pad) < 0:
            raise Refused("it crops, or pads the batch axis")
        sides = [pad[i : i + 2] for i in range(0, len(pad), 2)][::-1]
        return self._padded(node.name, source, [[0, 0]] * (count - len(sides)) + sides)

    def _padded(self, name: str, source: str, sides: list[list[int]]) -> str:
        before = self.operations[source].shape
        shape = [size + sum(side) for size, side in zip(before, sides, strict=True)]
        return self._emit(name, "pad", (source,), shape, {"pad": [list(s) for s in sides]})

    def _reshape(self, name: str, source: str, shape: Shape) -> str:
        if shape == self.operations[source].shape:
            return source
        kind = "flatten" if len(shape) == 1 else "reshape"
        return self._emit(name, kind, (source,), shape)

    def _shuffle(self, node: fx.Node, source: str, groups: int) -> str:
        channels, *rest = self.operations[source].shape
        split, joined = (groups, channels // groups, *rest), (channels // groups, groups, *rest)
        order = [0, 2, 1, *range(3, 3 + len(rest))]
        parts = self._emit(f"{node.name}_split", "reshape", (source,), split)
        turned = self._emit(f"{node.name}_turn", "permute", (parts,), joined, {"axes": order})
        return self._emit(node.name, "reshape", (turned,), (channels, *rest))

    def _concat(self, node: fx.Node, tensors: Any, dim: int = 0) -> str:
        inputs = [self._part_of(node, tensor) for tensor in tensors]
        axis = axis_of(dim, len(self._shape(node)) + 1)
        return self._emit(node.name, "concat", inputs, self._shape(node), {"axis": axis})

    def _part_of(self, node: fx.Node, tensor: Any) -> str:
        """What is joined with others: it may be the network's own, such as a token of its own."""
        own = self._own_tensor(tensor)
        if own is None:
            return self._tensor(tensor)
        value = own if len(own) == 1 else own[:1]
        return self._constant(f"{node.name}_{tensor.name}", value[0], tuple(value.shape[1:]))

    def _permute(self, node: fx.Node, tensor: Any, *axes: Any) -> str | None:
        source = self._tensor(tensor)
        count = len(self.operations[source].shape) + 1
        order = list(range(count))
        if function_name(node) in ("transpose", "swapaxes", "swapdims"):
            one, other = (axis_of(axis, count) for axis in axes)
            order[one], order[other] = other, one
        else:
            given = axes[0] if isinstance(axes[0], list | tuple) else axes
            order = [axis % count for axis in given]
        if order[0]:
            self.turned[node] = source, order
            return None  # the axis before the samples is taken apart by whoever reads it
        return self._emit(node.name, "permute", (source,), self._shape(node), {"axes": order})

    def _untangled(self, node: fx.Node, tensor: fx.Node, index: int) -> str:
        """One element along the axis that a permutation has put before the samples."""
        source, order = self.turned[tensor]
        before = self.operations[source].shape
        axis, *rest = order
        asked: list[Any] = [slice(None)] * len(before)
        asked[axis - 1] = index % before[axis - 1]
        kept = [size for place, size in enumerate(before, 1) if place != axis]
        taken = self._slice(f"{node.name}_piece", source, tuple(asked), tuple(kept))
        axes = [place - (place > axis) for place in rest]
        if axes == sorted(axes):
            return taken
        return self._emit(node.name, "permute", (taken,), self._shape(node), {"axes": axes})

    def _move(self, node: fx.Node, tensor: Any, source: Any, destination: Any) -> str:
        """`movedim` of one axis or several."""
        name = self._tensor(tensor)
        count = len(self.operations[name].shape) + 1
        moved, places = (
            [axis_of(axis, count) for axis in spread(axes, 1)] for axes in (source, destination)
        )
        others = iter(axis for axis in range(count) if axis not in moved)
        to = dict(zip(places, moved, strict=True))
        order = [to[place] if place in to else next(others) for place in range(count)]
        if order == sorted(order):
            return name
        return self._emit(node.name, "permute", (name,), self._shape(node), {"axes": order})

    def _roll(self, node: fx.Node, tensor: Any, shifts: Any, dims: Any = None) -> str:
        source = self._tensor(tensor)
        count = len(self.operations[source].shape) + 1
        if dims is None:
            raise Refused("it rolls the samples too")
        by = [0] * (count - 1)
        pairs = zip(spread(shifts, 1), spread(dims, 1), strict=True)
        for shift, axis in pairs:
            by[axis_of(axis, count) - 1] += shift
        return self._emit(node.name, "roll", (source,), self._shape(node), {"shifts": by})

    def _getitem(self, node: fx.Node, value: Any, index: Any) -> str:
        if value in self.turned:
            if not isinstance(index, int):
                raise Refused("it takes several pieces at once")
            return self._untangled(node, value, index)
        if isinstance(self.seen[value], tuple | list):
            if not isinstance(index, int):
                raise Refused("it takes several pieces at once")
            return self._part(node, value, index)
        source = self._tensor(value)
        before = self.operations[source].shape
        asked = index if isinstance(index, tuple) else (index,)
        if Ellipsis in asked:
            place = asked.index(Ellipsis)
            missing = len(before) + 1 - sum(part is not None for part in asked) + 1
            asked = (*asked[:place], *[slice(None)] * missing, *asked[place + 1 :])
        if not all(part is None or isinstance(part, slice | int) for part in asked) or asked[
            0
        ] != slice(None):
            raise Refused("it takes samples of the batch, or elements by a list")
        asked = tuple(part for part in asked[1:] if part is not None)  # the others are new axes
        asked = (*asked, *[slice(None)] * (len(before) - len(asked)))
        return self._slice(node.name, source, asked, self._shape(node))

    def _slice(self, name: str, source: str, asked: tuple[Any, ...], shape: Shape) -> str:
        """A slice or a single element along each axis of a sample."""
        before = self.operations[source].shape
        slices = [
            [part % size, part % size + 1, 1] if isinstance(part, int) else list(part.indices(size))
            for part, size in zip(asked, before, strict=True)
        ]
        sizes = [len(range(*part)) for part in slices]
        taken = self._emit(name, "slice", (source,), sizes, {"slices": slices})
        return self._reshape(f"{name}_taken", taken, shape)

    def _part(self, node: fx.Node, pieces: fx.Node, index: int) -> str:
        """One of the pieces that `chunk` or `split` gives."""
        given = named(("input", "sections", "dim"), pieces.args, pieces.kwargs)
        if function_name(pieces) == "unbind":
            given = named(("input", "dim"), pieces.args, pieces.kwargs)
            if given["input"] in self.turned:
                return self._untangled(node, given["input"], index)
        source, found = self._tensor(given["input"]), self.seen[pieces]
        count = len(self.operations[source].shape)
        axis = axis_of(given.get("dim") or 0, count + 1) - 1
        index %= len(found)
        asked: list[Any] = [slice(None)] * count
        if function_name(pieces) == "unbind":
            asked[axis] = index
        else:
            sizes = [piece.shape[axis + 1] for piece in found]
            asked[axis] = slice(sum(sizes[:index]), sum(sizes[: index + 1]))
        return self._slice(node.name, source, tuple(asked), self._shape(node))
