"""From a converted network to its description: each node of the graph, one operation or a few."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ftbc_lightning.ann.pooling import MAX_POOL_MODULES
from ftbc_lightning.errors import UserError
from ftbc_lightning.export.arguments import (
    AVG_POOL,
    MAX_POOL,
    Refused,
    ShapeOf,
    axis_of,
    function_name,
    named,
    shapes,
    spread,
)
from ftbc_lightning.export.description import Description, Operation
from ftbc_lightning.snn.folding import EdgeScale, fold_thresholds
from ftbc_lightning.snn.network import SpikingNetwork
from ftbc_lightning.snn.operators import describe as name_of
from ftbc_lightning.snn.operators import is_neuron

RESHAPES = ("flatten", "view", "reshape", "squeeze", "unsqueeze", "unflatten")
NOTHING = ("dropout", "dropout1d", "dropout2d", "dropout3d", "contiguous")
NOTHING_MODULES = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.Identity)
ADAPTIVE = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)
Shape = tuple[int, ...]


def describe(snn: SpikingNetwork, *, input_shape: Sequence[int] | None = None) -> Description:
    """Write a network down, thresholds folded into the weights behind each neuron.

    Args:
        snn: A network with thresholds set; left as it is.
        input_shape: Shape of one picture; only for a network that does not know its own.

    Returns:
        The description. A charge that the neuron adds at every step is part of `temporal_bias`.

    Raises:
        UserError: Thresholds are not set, or a node is none of the operations; all are named.
    """
    snn.check_thresholds()
    shape = snn.input_shape if input_shape is None else tuple(input_shape)
    if shape is None:
        raise UserError(
            "The shape of a picture is not known, because the file was written by an earlier "
            "program; give it as input_shape, such as [3, 32, 32]."
        )
    folded, _ = fold_thresholds(snn)
    return _Lowering(folded, shape).run()


class _Lowering:
    """Walks the graph once; keeps the operation that gives each node's value."""

    def __init__(self, snn: SpikingNetwork, input_shape: Shape) -> None:
        self.snn, self.graph = snn, snn.layers
        self.input_shape = input_shape
        self.seen = shapes(snn.layers, input_shape)
        self.operations: dict[str, Operation] = {}
        self.gives: dict[fx.Node, str] = {}
        self.in_time: set[str] = set()

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
                f"{len(refused)} operations have no place in the file: {'; '.join(refused)}. "
                "The formats onnx and torch_export take every network that converts."
            )
        return Description(tuple(self.operations.values()), self.snn.timesteps)

    # What is known of a node

    def _is_number(self, node: fx.Node) -> bool:
        value = self.seen.get(node)
        if node.op == "get_attr" or (node.op == "placeholder" and self.operations):
            return True
        parts = value if isinstance(value, tuple | list) else [value]
        return node.op != "output" and not any(isinstance(part, ShapeOf) for part in parts)

    def _shape(self, node: Any) -> Shape:
        value = self.seen.get(node)
        return value.shape[1:] if isinstance(value, ShapeOf) else ()

    def _tensor(self, value: Any) -> str:
        """The operation that gives the value of a node which is a tensor in time."""
        if not isinstance(value, fx.Node) or value not in self.gives:
            raise Refused("it reads something other than the output of a layer")
        return self.gives[value]

    def _constant(self, value: Any, channels: int) -> Tensor | None:
        """A number, or a tensor of the network that is one number or one for each channel."""
        if isinstance(value, int | float):
            return torch.full((channels,), float(value), dtype=self._dtype())
        if isinstance(value, fx.Node) and value.op == "get_attr":
            found = _attribute(self.graph, str(value.target))
            if not isinstance(found, Tensor):
                return None
            if found.numel() == 1:
                return found.detach().reshape(1).expand(channels).to(self._dtype())
            long = [size for size in found.shape if size != 1]
            if long == [channels] and found.shape[-1] == (channels if found.ndim == 1 else 1):
                return found.detach().reshape(channels).to(self._dtype())
        return None

    def _dtype(self) -> torch.dtype:
        return next(iter(self.snn.neurons().values())).threshold.dtype

    # Writing

    def _emit(
        self,
        name: str,
        kind: str,
        inputs: Sequence[str],
        shape: Sequence[int],
        attributes: Mapping[str, Any] | None = None,
        tensors: Mapping[str, Tensor] | None = None,
    ) -> str:
        while name in self.operations:
            name += "_"
        if kind == "neuron" or any(source in self.in_time for source in inputs):
            self.in_time.add(name)
        weights = {key: tensor.detach() for key, tensor in (tensors or {}).items()}
        self.operations[name] = Operation(
            name, kind, tuple(inputs), tuple(shape), dict(attributes or {}), weights
        )
        return name

    def _node(self, node: fx.Node) -> None:
        if node.op == "placeholder":
            self.gives[node] = self._emit(node.name, "input", (), self.input_shape)
        elif node.op == "output":
            self._emit("output", "output", (self._tensor(node.args[0]),), self._shape(node.args[0]))
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
        tensors = {
            "threshold": neuron.threshold,
            "initial_membrane": neuron.initial_membrane,
            "temporal_bias": neuron.temporal_bias + neuron.step_charge,
        }
        source = self._tensor(node.args[0])
        return self._emit(node.name, "neuron", (source,), self._shape(node), {}, tensors)

    def _module(self, node: fx.Node, module: nn.Module) -> str:
        source, shape = self._tensor(node.args[0]), self._shape(node)
        before = self.operations[source].shape
        spatial = len(before) - 1
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            return self._convolution(node, source, module)
        if isinstance(module, nn.Linear):
            weights = {"weight": module.weight, "bias": _bias(module, module.weight)}
            return self._emit(node.name, "linear", (source,), shape, {}, weights)
        if isinstance(module, EdgeScale):
            return self._affine(node, source, module.scale, torch.zeros_like(module.scale))
        if isinstance(module, _BatchNorm):
            return self._affine(node, source, *_running_affine(module))
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
            **dict.fromkeys(("mul", "imul", "mul_"), self._multiply),
            **dict.fromkeys(("div", "truediv", "div_"), self._divide),
            **dict.fromkeys(("cat", "concat"), self._concat),
            **dict.fromkeys(("permute", "transpose"), self._permute),
            "neg": self._negative,
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

    # The operations

    def _convolution(
        self, node: fx.Node, source: str, module: nn.Conv1d | nn.Conv2d | nn.Conv3d
    ) -> str:
        if module.padding_mode != "zeros":
            raise Refused(f"its padding is {module.padding_mode!r}; only zeros are known")
        padding: list[int] = [0] * len(module.kernel_size)
        if module.padding == "same":
            pairs = zip(module.kernel_size, module.dilation, strict=True)
            total = [dilation * (size - 1) for size, dilation in pairs]
            if any(size % 2 for size in total):
                sides = [[0, 0], *([size // 2, size - size // 2] for size in total)]
                source = self._padded(f"{node.name}_pad", source, sides)
            else:
                padding = [size // 2 for size in total]
        elif module.padding != "valid":
            padding = [int(size) for size in module.padding]
        attributes = {
            "stride": list(module.stride),
            "padding": padding,
            "dilation": list(module.dilation),
            "groups": module.groups,
        }
        weights = {"weight": module.weight, "bias": _bias(module, module.weight)}
        return self._emit(node.name, "conv", (source,), self._shape(node), attributes, weights)

    def _affine(self, node: fx.Node, source: str, scale: Tensor, shift: Tensor) -> str:
        if bool((scale == 1).all()) and not bool(shift.any()):
            return source
        tensors = {"scale": scale, "shift": shift}
        return self._emit(node.name, "affine", (source,), self._shape(node), {}, tensors)

    def _avg_pool(self, node: fx.Node, source: str, settings: Mapping[str, Any]) -> str:
        before = self.operations[source].shape[1:]
        kernel = spread(settings["kernel_size"], len(before))
        stride = spread(settings.get("stride") or kernel, len(before))
        padding = spread(settings.get("padding") or 0, len(before))
        if settings.get("divisor_override") is not None:
            raise Refused("divisor_override is set")
        if any(padding) and settings.get("count_include_pad") is False:
            raise Refused("count_include_pad is false")
        after = self._shape(node)[1:]
        if any(
            (out - 1) * s + k > size + 2 * p
            for out, s, k, size, p in zip(after, stride, kernel, before, padding, strict=True)
        ):
            raise Refused("ceil_mode leaves a window partly outside; choose a size that it divides")
        attributes = {"kernel": kernel, "stride": stride, "padding": padding}
        return self._emit(node.name, "avg_pool", (source,), self._shape(node), attributes)

    def _adaptive(self, node: fx.Node, source: str) -> str:
        before, after = self.operations[source].shape[1:], self._shape(node)[1:]
        if before == after:
            return source
        if any(size % out for size, out in zip(before, after, strict=True)):
            raise Refused(
                f"{list(before)} is no multiple of {list(after)}; choose a size of picture that is"
            )
        kernel = [size // out for size, out in zip(before, after, strict=True)]
        attributes = {"kernel": kernel, "stride": kernel, "padding": [0] * len(kernel)}
        return self._emit(node.name, "avg_pool", (source,), self._shape(node), attributes)

    def _mean(self, node: fx.Node, tensor: Any, dim: Any = None, keepdim: bool = False) -> str:
        source = self._tensor(tensor)
        before = self.operations[source].shape
        axes = dim if isinstance(dim, list | tuple) else [dim]
        spatial = list(range(2, len(before) + 1))
        if None in axes or sorted(axis_of(a, len(before) + 1) for a in axes) != spatial:
            raise Refused("it averages over other axes than those of the picture")
        kernel = list(before[1:])
        attributes = {"kernel": kernel, "stride": kernel, "padding": [0] * len(kernel)}
        ones = (before[0], *(1,) * len(kernel))
        pooled = self._emit(f"{node.name}_pool", "avg_pool", (source,), ones, attributes)
        return self._reshape(node.name, pooled, self._shape(node))

    def _max_pool(self, node: fx.Node, source: str, settings: Mapping[str, Any]) -> str:
        spatial = len(self.operations[source].shape) - 1
        kernel = spread(settings["kernel_size"], spatial)
        attributes = {
            "kernel": kernel,
            "stride": spread(settings.get("stride") or kernel, spatial),
            "padding": spread(settings.get("padding") or 0, spatial),
            "dilation": spread(settings.get("dilation") or 1, spatial),
            "ceil_mode": bool(settings.get("ceil_mode")),
            "in_time": source in self.in_time,
        }
        return self._emit(node.name, "max_pool", (source,), self._shape(node), attributes)

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

    def _concat(self, node: fx.Node, tensors: Any, dim: int = 0) -> str:
        inputs = [self._tensor(tensor) for tensor in tensors]
        axis = axis_of(dim, len(self._shape(node)) + 1)
        return self._emit(node.name, "concat", inputs, self._shape(node), {"axis": axis})

    def _reshape(self, name: str, source: str, shape: Shape) -> str:
        if shape == self.operations[source].shape:
            return source
        kind = "flatten" if len(shape) == 1 else "reshape"
        return self._emit(name, kind, (source,), shape)

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

    def _shuffle(self, node: fx.Node, source: str, groups: int) -> str:
        channels, *rest = self.operations[source].shape
        split, joined = (groups, channels // groups, *rest), (channels // groups, groups, *rest)
        order = [0, 2, 1, *range(3, 3 + len(rest))]
        parts = self._emit(f"{node.name}_split", "reshape", (source,), split)
        turned = self._emit(f"{node.name}_turn", "permute", (parts,), joined, {"axes": order})
        return self._emit(node.name, "reshape", (turned,), (channels, *rest))

    def _pad_function(
        self, node: fx.Node, tensor: Any, pad: Any, mode: str = "constant", value: Any = None
    ) -> str:
        return self._pad(node, self._tensor(tensor), list(pad), mode, value)

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

    def _getitem(self, node: fx.Node, value: Any, index: Any) -> str:
        if isinstance(self.seen[value], tuple | list):
            return self._part(node, value, index)
        source = self._tensor(value)
        before = self.operations[source].shape
        asked = index if isinstance(index, tuple) else (index,)
        if Ellipsis in asked:
            place = asked.index(Ellipsis)
            missing = len(before) + 1 - (len(asked) - 1)
            asked = (*asked[:place], *[slice(None)] * missing, *asked[place + 1 :])
        if not all(isinstance(part, slice) for part in asked) or asked[0] != slice(None):
            raise Refused("it takes single elements, or pictures of the batch")
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


def _bias(module: nn.Module, weight: Tensor) -> Tensor:
    bias = getattr(module, "bias", None)
    return bias if isinstance(bias, Tensor) else weight.new_zeros(weight.shape[0])


def _running_affine(norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    if norm.running_mean is None or norm.running_var is None:
        raise Refused("it has no running statistics")
    scale = (norm.running_var + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight
    shift = -norm.running_mean * scale
    return scale, shift if norm.bias is None else shift + norm.bias


def _attribute(module: nn.Module, path: str) -> Any:
    value: Any = module
    for name in path.split("."):
        value = getattr(value, name)
    return value
