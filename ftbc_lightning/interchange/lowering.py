"""From a converted network to its description: each node of the graph, one operation or a few."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from ftbc_lightning.errors import UserError
from ftbc_lightning.graph.max_pooling import MAX_POOL_MODULES
from ftbc_lightning.graph.operators import describe as name_of
from ftbc_lightning.graph.operators import is_neuron
from ftbc_lightning.interchange.arguments import (
    AVG_POOL,
    MAX_POOL,
    Refused,
    ShapeOf,
    function_name,
    known,
    named,
    spread,
)
from ftbc_lightning.interchange.description import Description
from ftbc_lightning.interchange.functions import FunctionWriter
from ftbc_lightning.interchange.layers import running_affine
from ftbc_lightning.interchange.moves import PIECES
from ftbc_lightning.interchange.neuron_kind import kind_of
from ftbc_lightning.snn.network import SpikingNetwork
from ftbc_lightning.snn.threshold_folding import EdgeScale, fold_thresholds

RESHAPES = ("flatten", "view", "reshape", "squeeze", "unsqueeze", "unflatten")
NOTHING = (
    *("dropout", "dropout1d", "dropout2d", "dropout3d", "contiguous", "clone", "detach"),
    *("stochastic_depth", "drop_path"),
)
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
    return _Lowering(folded.cpu(), shape, kind).run()


class _Lowering(FunctionWriter):
    """Walks the graph once; keeps the operation that gives each node's value."""

    def run(self) -> Description:
        """Lower every node, then name all that could not be."""
        refused = []
        for node in self.graph.graph.nodes:
            try:
                if not self._is_number(node) and node not in self.constants:
                    self._node(node)
            except Refused as reason:
                refused.append(f"{name_of(node, self.graph)}: {reason}")
                value = self.seen.get(node)
                shape = value.shape[1:] if isinstance(value, ShapeOf) else ()
                self.gives[node] = self._emit(node.name, "reshape", (), shape)
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
        elif node.op == "output":
            last, shape = self._tensor(node.args[0]), self._shape(node.args[0])
            self._emit("output", "output", (last,), shape, self._leak())
        else:
            result = self._lowered(node)
            if result is not None:
                self.gives[node] = result

    def _lowered(self, node: fx.Node) -> str | None:
        if is_neuron(node):
            return self._neuron(node)
        if node.op == "call_module":
            return self._module(node, self.graph.get_submodule(str(node.target)))
        return self._called(node)

    def _neuron(self, node: fx.Node) -> str:
        neuron = self.snn.neurons()[node.name]
        kind = self.kind.unusual()
        if neuron.lowest < 0:
            kind = {key: v for key, v in kind.items() if key != "signed"} | {"two_sided": True}
        tensors = {
            "threshold": neuron.threshold,
            "initial_membrane": neuron.initial_membrane,
            "temporal_bias": neuron.temporal_bias + neuron.step_charge,
        }
        source = self._tensor(node.args[0])
        return self._emit(node.name, "neuron", (source,), self._shape(node), kind, tensors)

    def _module(self, node: fx.Node, module: nn.Module) -> str:
        source, shape = self._tensor(node.args[0]), self._shape(node)
        before = self.operations[source].shape
        spatial = len(before) - 1
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            return self._convolution(node, source, module)
        if isinstance(module, nn.Linear):
            return self._linear(node, node.args[0], module.weight, module.bias)
        if isinstance(module, EdgeScale):
            return self._affine(node, source, module.scale, torch.zeros_like(module.scale))
        if isinstance(module, _BatchNorm | _InstanceNorm) and module.running_mean is not None:
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
        return self._function_module(node, module)

    def _called(self, node: fx.Node) -> str | None:
        name = function_name(node)
        arguments = fx.node.map_arg(node.args, self._resolved)
        keywords = fx.node.map_arg(node.kwargs, self._resolved)
        written: dict[str, Callable[..., Any]] = {
            **dict.fromkeys(("add", "iadd", "add_"), self._add),
            **dict.fromkeys(("sub", "isub", "sub_"), self._subtract),
            **dict.fromkeys(("mul", "imul", "mul_"), self._multiply),
            "scale_channels": self._scale_channels,
            **dict.fromkeys(("div", "truediv", "div_"), self._divide),
            **dict.fromkeys(("cat", "concat"), self._concat),
            **dict.fromkeys(("permute", "transpose", "swapaxes", "swapdims"), self._permute),
            **dict.fromkeys(("movedim", "moveaxis"), self._move),
            "first_channels": lambda node, value: self._move(node, value, -1, 1),
            "last_channels": lambda node, value: self._move(node, value, 1, -1),
            "roll": self._roll,
            "linear": self._linear,
            "batch_norm": self._batch_norm,
            "einsum": self._einsum,
            "neg": self._negative,
            "round": self._round,
            "mean": self._mean,
            "sum": self._sum_over,
            "pad": self._pad_function,
            "getitem": self._getitem,
            "channel_shuffle": self._shuffle_function,
        }
        if name in written:
            given = known(written[name], keywords, *arguments)
            return written[name](node, *arguments, **given)  # type: ignore[no-any-return]
        if name in PIECES:
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
        return self._called_function(node, name, arguments, keywords)

    def _resolved(self, node: fx.Node) -> Any:
        """The value of a node that is a number; the node itself otherwise."""
        number = self._is_number(node) and node.op not in ("get_attr", "placeholder")
        return self.seen[node] if number else node

    def _round(self, node: fx.Node, tensor: Any) -> str:
        return self._emit(node.name, "round", (self._tensor(tensor),), self._shape(node))

    def _shuffle_function(self, node: fx.Node, tensor: Any, groups: int) -> str:
        return self._shuffle(node, self._tensor(tensor), groups)

    def _pad_function(
        self, node: fx.Node, tensor: Any, pad: Any, mode: str = "constant", value: Any = None
    ) -> str:
        return self._pad(node, self._tensor(tensor), list(pad), mode, value)
