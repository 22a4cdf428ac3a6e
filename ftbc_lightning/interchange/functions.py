"""Functions that are not linear: how each is written down, and the settings that it has."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.instancenorm import _InstanceNorm

from ftbc_lightning.graph.operators import in_function, in_tail
from ftbc_lightning.interchange.arguments import Refused, axis_of, known, named
from ftbc_lightning.interchange.arithmetic import ArithmeticWriter
from ftbc_lightning.interchange.operation_set import FUNCTIONS
from ftbc_lightning.interchange.writer import Shape

ATTENTION = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale")
NORMS = {
    "layer_norm": ("input", "normalized_shape", "weight", "bias", "eps"),
    "rms_norm": ("input", "normalized_shape", "weight", "eps"),
    "group_norm": ("input", "num_groups", "weight", "bias", "eps"),
}
"""The arguments of torch's norms, in order."""

GROUP_NORMS = (nn.GroupNorm, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
PLAIN = {
    nn.SiLU: "silu",
    nn.Sigmoid: "sigmoid",
    nn.Tanh: "tanh",
    nn.Mish: "mish",
    nn.Hardswish: "hardswish",
    nn.Hardsigmoid: "hardsigmoid",
}
"""Modules of functions that have no settings."""

SETTINGS: Mapping[type[nn.Module], Callable[[Any], tuple[str, dict[str, Any]]]] = {
    nn.GELU: lambda module: ("gelu", {"approximate": module.approximate}),
    nn.ELU: lambda module: ("elu", {"alpha": module.alpha}),
    nn.Softplus: lambda module: (
        "softplus",
        {"beta": module.beta, "threshold": module.threshold},
    ),
    nn.Softmax: lambda module: ("softmax", {"dim": module.dim}),
    nn.Softmax2d: lambda module: ("softmax", {"dim": -3}),
    nn.LogSoftmax: lambda module: ("log_softmax", {"dim": module.dim}),
}
"""Modules of functions of one value, as the name of the function and its arguments."""


def is_apart(node: fx.Node) -> bool:
    """Say whether a node is computed on a mean over the steps."""
    return in_function(node) or in_tail(node)


class FunctionWriter(ArithmeticWriter):
    """Writes the operation, or the few, of a function; each method returns the last one's name."""

    def _function_module(self, node: fx.Node, module: nn.Module) -> str:
        kind, source = type(module), node.args[0]
        if kind in PLAIN:
            return self._function(node, PLAIN[kind], (source,))
        if kind in SETTINGS:
            name, settings = SETTINGS[kind](module)
            return self._of_one(node, name, source, settings)
        if isinstance(module, nn.LayerNorm | nn.RMSNorm) and kind in (nn.LayerNorm, nn.RMSNorm):
            name = "layer_norm" if kind is nn.LayerNorm else "rms_norm"
            bias, over = getattr(module, "bias", None), module.normalized_shape
            return self._norm(node, name, source, over, module.weight, bias, module.eps)
        if isinstance(module, nn.GroupNorm | _InstanceNorm) and kind in GROUP_NORMS:
            groups = getattr(module, "num_groups", self._shape(node)[0])
            weight, bias = module.weight, module.bias
            return self._norm(node, "group_norm", source, groups, weight, bias, module.eps)
        raise Refused(self._no_place(node))

    def _called_function(
        self, node: fx.Node, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> str:
        """A function that was written in `forward`."""
        if name == "scaled_dot_product_attention":
            return self._attention(node, **known(self._attention, named(ATTENTION, args, kwargs)))
        if name in ("matmul", "bmm"):
            return self._function(node, "matmul", named(("input", "other"), args, kwargs).values())
        if name in ("square", "pow"):
            if name == "pow" and args[1:] != (2,):
                raise Refused(self._no_place(node))
            return self._function(node, "product", (args[0], args[0]))
        if name in NORMS:
            defaults = {"weight": None, "bias": None, "eps": None if name == "rms_norm" else 1e-5}
            given = defaults | named(NORMS[name], args, kwargs)
            weight, bias = (self._own_tensor(given[key]) for key in ("weight", "bias"))
            over = given[NORMS[name][1]]
            return self._norm(node, name, given["input"], over, weight, bias, given["eps"])
        settings = {"gelu": ("approximate",), "elu": ("alpha",), "softplus": ("beta", "threshold")}
        names = ("input", *settings.get(name, ("dim",)))
        if name not in FUNCTIONS:
            raise Refused(self._no_place(node))
        given = named(names, args, kwargs)
        return self._of_one(node, name, given.pop("input"), given)

    def _of_one(self, node: fx.Node, name: str, source: Any, given: Mapping[str, Any]) -> str:
        """A function of one value, with the settings that were not left out."""
        if name == "gelu":
            found = {"approximate": given.get("approximate", "none")}
        elif name == "elu":
            found = {"alpha": float(given.get("alpha", 1.0))}
        elif name == "softplus" and (given.get("beta", 1), given.get("threshold", 20)) != (1, 20):
            raise Refused("its beta is not 1, or its threshold not 20")
        elif name in ("softmax", "log_softmax"):
            if given.get("dim") is None:
                raise Refused("it does not say over which axis")
            found = {"axis": axis_of(given["dim"], len(self._shape(node)) + 1)}
        else:
            found = {}
        return self._function(node, name, (source,), found)

    def _norm(
        self,
        node: fx.Node,
        name: str,
        source: Any,
        over: Any,
        weight: Tensor | None,
        bias: Tensor | None,
        eps: float | None,
    ) -> str:
        """A norm over the last axes, of the sizes `over`, or over so many groups of channels."""
        if name == "group_norm":
            sizes, settings = [self._shape(node)[0]], {"groups": over}
        else:
            sizes = list(over) if isinstance(over, tuple | list) else [over]
            settings = {"axes": len(sizes)}
        settings["eps"] = torch.finfo(self._dtype()).eps if eps is None else eps
        like = torch.ones(sizes, dtype=self._dtype())
        tensors = {"weight": like if weight is None else weight}
        if name != "rms_norm":
            tensors["bias"] = 0 * like if bias is None else bias
        return self._function(node, name, (source,), settings, tensors)

    def _attention(
        self,
        node: fx.Node,
        query: Any,
        key: Any,
        value: Any,
        attn_mask: Any = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
    ) -> str:
        """softmax(scale * Q K^T + mask) V, one function behind the other: exact in the mean."""
        q, k, v = self._tensor(query), self._tensor(key), self._tensor(value)
        *lead, rows, width = self.operations[q].shape
        columns = self.operations[k].shape[-2]
        if tuple(self.operations[k].shape[:-2]) != tuple(lead):
            raise Refused("its keys have another number of heads than its queries")
        count = len(lead) + 3
        turned = [*range(count - 2), count - 1, count - 2]
        k = self._emit(
            f"{node.name}_keys", "permute", (k,), (*lead, width, columns), {"axes": turned}
        )
        shape = (*lead, rows, columns)
        scores = self._emit_function(f"{node.name}_scores", "matmul", (q, k), shape)
        factor = torch.ones(shape[0], dtype=self._dtype())
        factor *= width**-0.5 if scale is None else scale
        tensors = {"scale": factor, "shift": 0 * factor}
        scores = self._emit(f"{node.name}_scaled", "affine", (scores,), shape, {}, tensors)
        mask = self._mask(attn_mask, shape, causal=is_causal)
        if mask is not None:
            own = self._constant(f"{node.name}_masked_own", mask, shape)
            scores = self._emit(f"{node.name}_masked", "add", (scores, own), shape)
        weights = self._emit_function(
            f"{node.name}_weights", "softmax", (scores,), shape, {"axis": len(shape)}
        )
        return self._emit_function(node.name, "matmul", (weights, v), self._shape(node))

    def _mask(self, given: Any, shape: Shape, *, causal: bool) -> Tensor | None:
        """What is added to the scores, if anything is."""
        if causal:
            seen = torch.ones(shape[-2:], dtype=torch.bool).tril()
        elif given is None:
            return None
        else:
            own = self._own(given, shape)
            if own is None:
                raise Refused("its mask changes in time")
            if self.constants[given].dtype != torch.bool:
                return self._open(own)
            seen = own.bool()
        mask = torch.zeros(seen.shape, dtype=self._dtype()).masked_fill(~seen, -torch.inf)
        return self._open(mask.expand(shape))

    def _open(self, mask: Tensor) -> Tensor:
        if bool((mask == -torch.inf).all(-1).any()):
            raise Refused("a row of its mask lets nothing through")
        return mask

    def _no_place(self, node: fx.Node) -> str:
        if not is_apart(node):
            return "there is no such operation"
        where = "computed on the mean over the steps" if in_tail(node) else "no linear operation"
        known = ", ".join(FUNCTIONS)
        return f"it is {where}, and the functions of a file are {known}"
