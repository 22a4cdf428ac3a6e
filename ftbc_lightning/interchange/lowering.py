"""From a converted network to its description: each node of the graph, one operation or a few."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ftbc_lightning.errors import UserError
from ftbc_lightning.graph.max_pooling import MAX_POOL_MODULES
from ftbc_lightning.graph.operators import describe as name_of
from ftbc_lightning.graph.operators import in_function, in_tail, is_neuron
from ftbc_lightning.interchange.arguments import (
    AVG_POOL,
    MAX_POOL,
    Refused,
    axis_of,
    function_name,
    named,
    spread,
)
from ftbc_lightning.interchange.description import Description
from ftbc_lightning.interchange.layers import LayerWriter, bias_of, running_affine
from ftbc_lightning.interchange.neuron_kind import kind_of
from ftbc_lightning.snn.network import SpikingNetwork
from ftbc_lightning.snn.threshold_folding import EdgeScale, fold_thresholds

RESHAPES = ("flatten", "view", "reshape", "squeeze", "unsqueeze", "unflatten")
NOTHING = ("dropout", "dropout1d", "dropout2d", "dropout3d", "contiguous")
NOTHING_MODULES = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.Identity)
ADAPTIVE = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)


def describe(snn: SpikingNetwork, *, input_shape: Sequence[int] | None = None) -> Description:
    """Write a network down, thresholds folded into the weights behind each neuron.

    Args:
        snn: A network with thresholds set; left as it is.
        input_shape: Shape of one sample; only for a network that does not know its own.

    Returns:
        The description. A charge that the neuron adds at every step is part of `temporal_bias`.

    Raises:
        UserError: Thresholds are not set, the neurons are of a model that no file holds, or a node
            is none of the operations; all are named.
    """
    snn.check_thresholds()
    shape = snn.input_shape if input_shape is None else tuple(input_shape)
    if shape is None:
        raise UserError(
            "The shape of a sample is not known, because the file was written by an earlier "
            "program; give it as input_shape, such as [3, 32, 32]."
        )
    kind = kind_of(snn)
    folded, _ = fold_thresholds(snn)
    return _Lowering(folded, shape, kind).run()


class _Lowering(LayerWriter):
    """Walks the graph once; keeps the operation that gives each node's value."""

    def run(self) -> Description:
        """Lower every node, then name all that could not be."""
        refused = []
        for node in self.graph.graph.nodes:
            try:
                if not self._is_number(node):
                    self._node(node)
            except Refused as reason:
                refused.append(f"{name_of(node, self.graph)}: {reason}")
                self.gives[node] = self._emit(node.name, "reshape", (), self._shape(node))
        if refused:
            raise UserError(
                f"The file has no place for {len(refused)} of the operations: "
                f"{'; '.join(refused)}. "
                "The formats onnx and torch_export take every network that converts."
            )
        return Description(tuple(self.operations.values()), self.snn.timesteps)

    def _node(self, node: fx.Node) -> None:
        if node.op == "placeholder":
            self.gives[node] = self._emit(node.name, "input", (), self.input_shape)
        elif in_tail(node):
            raise Refused("it is computed on the mean over the steps")
        elif in_function(node):
            raise Refused("it is taken over what has arrived so far")
        elif node.op == "output":
            last, shape = self._tensor(node.args[0]), self._shape(node.args[0])
            self._emit("output", "output", (last,), shape, self._leak())
        elif is_neuron(node):
            self.gives[node] = self._neuron(node)
        elif node.op == "call_module":
            module = self.graph.get_submodule(str(node.target))
            self.gives[node] = self._module(node, module)
        else:
            result = self._function(node)
            if result is not None:
                self.gives[node] = result

    def _neuron(self, node: fx.Node) -> str:
        neuron = self.snn.neurons()[node.name]
        if neuron.lowest < 0:
            raise Refused("it is an encoder, a neuron whose mean may have either sign")
        tensors = {
            "threshold": neuron.threshold,
            "initial_membrane": neuron.initial_membrane,
            "temporal_bias": neuron.temporal_bias + neuron.step_charge,
        }
        source = self._tensor(node.args[0])
        return self._emit(
            node.name, "neuron", (source,), self._shape(node), self.kind.unusual(), tensors
        )

    def _module(self, node: fx.Node, module: nn.Module) -> str:
        source, shape = self._tensor(node.args[0]), self._shape(node)
        before = self.operations[source].shape
        spatial = len(before) - 1
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            return self._convolution(node, source, module)
        if isinstance(module, nn.Linear):
            weights = {"weight": module.weight, "bias": bias_of(module, module.weight)}
            return self._emit(node.name, "linear", (source,), shape, {}, weights)
        if isinstance(module, EdgeScale):
            return self._affine(node, source, module.scale, torch.zeros_like(module.scale))
        if isinstance(module, _BatchNorm):
            return self._affine(node, source, *running_affine(module))
        if isinstance(module, NOTHING_MODULES):
            return source
        if isinstance(module, nn.Flatten | nn.Unflatten):
            return self._reshape(node.name, source, shape)
        if isinstance(module, nn.ChannelShuffle):
            return self._shuffle(node, source, module.groups)
        if isinstance(module, ADAPTIVE):
            return self._adaptive(node, source)
        if isinstance(module, nn.AvgPool1d | nn.AvgPool2d | nn.AvgPool3d):
            settings = {key: getattr(module, key, None) for key in AVG_POOL[1:]}
            return self._avg_pool(node, source, settings)
        if isinstance(module, MAX_POOL_MODULES) and hasattr(module, "kernel_size"):
            settings = {key: getattr(module, key, None) for key in MAX_POOL[1:]}
            return self._max_pool(node, source, settings)
        if isinstance(module, nn.ZeroPad1d | nn.ZeroPad2d | nn.ZeroPad3d):
            return self._pad(node, source, spread(module.padding, 2 * spatial), "constant", 0)
        raise Refused("there is no such operation")

    def _function(self, node: fx.Node) -> str | None:
        name = function_name(node)
        arguments = fx.node.map_arg(node.args, self._resolved)
        keywords = fx.node.map_arg(node.kwargs, self._resolved)
        written: dict[str, Callable[..., Any]] = {
            **dict.fromkeys(("add", "iadd", "add_"), self._add),
            **dict.fromkeys(("sub", "isub", "sub_"), self._subtract),
            **dict.fromkeys(("mul", "imul", "mul_", "scale_channels"), self._multiply),
            **dict.fromkeys(("div", "truediv", "div_"), self._divide),
            **dict.fromkeys(("cat", "concat"), self._concat),
            **dict.fromkeys(("permute", "transpose"), self._permute),
            "neg": self._negative,
            "round": self._round,
            "mean": self._mean,
            "pad": self._pad_function,
            "getitem": self._getitem,
            "channel_shuffle": self._shuffle_function,
        }
        if name in written:
            return written[name](node, *arguments, **keywords)  # type: ignore[no-any-return]
        if name in ("chunk", "split"):
            return None  # `getitem` slices what is taken out of it
        source = self._tensor(arguments[0] if arguments else None)
        if name in RESHAPES:
            return self._reshape(node.name, source, self._shape(node))
        if name in NOTHING:
            return source
        if name.startswith("adaptive_avg_pool"):
            return self._adaptive(node, source)
        if name.startswith("avg_pool"):
            return self._avg_pool(node, source, named(AVG_POOL, arguments, keywords))
        if name.startswith("max_pool"):
            return self._max_pool(node, source, named(MAX_POOL, arguments, keywords))
        raise Refused("there is no such operation")

    def _resolved(self, node: fx.Node) -> Any:
        """The value of a node that is a number; the node itself otherwise."""
        number = self._is_number(node) and node.op not in ("get_attr", "placeholder")
        return self.seen[node] if number else node

    def _mean(self, node: fx.Node, tensor: Any, dim: Any = None, keepdim: bool = False) -> str:
        source = self._tensor(tensor)
        before = self.operations[source].shape
        axes = dim if isinstance(dim, list | tuple) else [dim]
        spatial = list(range(2, len(before) + 1))
        if None in axes or sorted(axis_of(a, len(before) + 1) for a in axes) != spatial:
            raise Refused("it averages over other axes than those of the sample")
        kernel = list(before[1:])
        attributes = {"kernel": kernel, "stride": kernel, "padding": [0] * len(kernel)}
        ones = (before[0], *(1,) * len(kernel))
        pooled = self._emit(f"{node.name}_pool", "avg_pool", (source,), ones, attributes)
        return self._reshape(node.name, pooled, self._shape(node))

    def _add(self, node: fx.Node, first: Any, second: Any, *, alpha: float = 1) -> str:
        return self._sum(node, first, second, alpha)

    def _subtract(self, node: fx.Node, first: Any, second: Any, *, alpha: float = 1) -> str:
        return self._sum(node, first, second, -alpha)

    def _sum(self, node: fx.Node, first: Any, second: Any, factor: float) -> str:
        channels = self._shape(node)[0]
        constants = [self._constant(first, channels), self._constant(second, channels)]
        one = torch.ones(channels, dtype=self._dtype())
        if constants[1] is not None:
            return self._affine(node, self._tensor(first), one, factor * constants[1])
        if constants[0] is not None:
            return self._affine(node, self._tensor(second), factor * one, constants[0])
        inputs = [self._tensor(first), self._tensor(second)]
        if len({self.operations[source].shape for source in inputs}) > 1:
            raise Refused("its terms have different shapes")
        if factor != 1:
            scaled = {"scale": factor * one, "shift": 0 * one}
            inputs[1] = self._emit(
                f"{node.name}_scale", "affine", inputs[1:], self._shape(node), {}, scaled
            )
        return self._emit(node.name, "add", inputs, self._shape(node))

    def _multiply(self, node: fx.Node, first: Any, second: Any) -> str:
        channels = self._shape(node)[0]
        for tensor, factor in ((first, second), (second, first)):
            scale = self._constant(factor, channels)
            if scale is not None:
                return self._affine(node, self._tensor(tensor), scale, torch.zeros_like(scale))
        raise Refused("its factor is no number and not one for each channel")

    def _divide(self, node: fx.Node, first: Any, second: Any) -> str:
        divisor = self._constant(second, self._shape(node)[0])
        if divisor is None:
            raise Refused("its divisor is no number and not one for each channel")
        return self._affine(node, self._tensor(first), 1 / divisor, torch.zeros_like(divisor))

    def _negative(self, node: fx.Node, tensor: Any) -> str:
        return self._multiply(node, tensor, -1.0)

    def _round(self, node: fx.Node, tensor: Any) -> str:
        return self._emit(node.name, "round", (self._tensor(tensor),), self._shape(node))

    def _concat(self, node: fx.Node, tensors: Any, dim: int = 0) -> str:
        inputs = [self._tensor(tensor) for tensor in tensors]
        axis = axis_of(dim, len(self._shape(node)) + 1)
        return self._emit(node.name, "concat", inputs, self._shape(node), {"axis": axis})

    def _permute(self, node: fx.Node, tensor: Any, *axes: Any) -> str:
        source = self._tensor(tensor)
        count = len(self.operations[source].shape) + 1
        order = list(range(count))
        if function_name(node) == "transpose":
            one, other = (axis_of(axis, count) for axis in axes)
            order[one], order[other] = other, one
        else:
            given = axes[0] if isinstance(axes[0], list | tuple) else axes
            order = [0, *(axis_of(axis, count) for axis in given[1:])]
        return self._emit(node.name, "permute", (source,), self._shape(node), {"axes": order})

    def _shuffle_function(self, node: fx.Node, tensor: Any, groups: int) -> str:
        return self._shuffle(node, self._tensor(tensor), groups)

    def _pad_function(
        self, node: fx.Node, tensor: Any, pad: Any, mode: str = "constant", value: Any = None
    ) -> str:
        return self._pad(node, self._tensor(tensor), list(pad), mode, value)

    def _getitem(self, node: fx.Node, value: Any, index: Any) -> str:
        if isinstance(self.seen[value], tuple | list):
            if not isinstance(index, int):
                raise Refused("it takes several pieces at once")
            return self._part(node, value, index)
        source = self._tensor(value)
        before = self.operations[source].shape
        asked = index if isinstance(index, tuple) else (index,)
        if Ellipsis in asked:
            place = asked.index(Ellipsis)
            missing = len(before) + 1 - (len(asked) - 1)
            asked = (*asked[:place], *[slice(None)] * missing, *asked[place + 1 :])
        if not all(isinstance(part, slice) for part in asked) or asked[0] != slice(None):
            raise Refused("it takes single elements, or samples of the batch")
        asked = (*asked[1:], *[slice(None)] * (len(before) + 1 - len(asked)))
        slices = [list(s.indices(size)) for s, size in zip(asked, before, strict=True)]
        return self._emit(node.name, "slice", (source,), self._shape(node), {"slices": slices})

    def _part(self, node: fx.Node, pieces: fx.Node, index: int) -> str:
        """One of the pieces that `chunk` or `split` gives."""
        arguments = named(("input", "sections", "dim"), pieces.args, pieces.kwargs)
        source = self._tensor(arguments["input"])
        before = self.operations[source].shape
        axis = axis_of(arguments.get("dim") or 0, len(before) + 1) - 1
        sizes = [piece.shape[axis + 1] for piece in self.seen[pieces]]
        index %= len(sizes)
        slices = [[0, size, 1] for size in before]
        slices[axis] = [sum(sizes[:index]), sum(sizes[: index + 1]), 1]
        return self._emit(node.name, "slice", (source,), self._shape(node), {"slices": slices})
