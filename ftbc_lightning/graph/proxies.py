"""The tracer: it writes down a forward pass that may ask for shapes, types and devices."""

import inspect
import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.fx.proxy import Attribute, TraceError
from torch.overrides import TorchFunctionMode

from ftbc_lightning.ann.activations import QCFS, ClippedReLU
from ftbc_lightning.errors import UserError
from ftbc_lightning.graph.einops_calls import einops_open, is_einops
from ftbc_lightning.graph.shapes import CHANCE, CREATING, Shapes, is_number

PIECES = ("chunk", "split", "unbind", torch.chunk, torch.split, torch.unbind)


class ActivationTracer(fx.Tracer):
    """A tracer that keeps this package's activations whole, as it does torch's own modules.

    So are subclasses of torch's modules that compute what those compute. Questions for shape and
    type are answered where a path or a count depends on the answer, and written down else.

    Attributes:
        asks_for_shapes: Whether such a question came while there was no example.

    Args:
        example_input: An input; without one no such question can be answered.
    """

    def __init__(self, example_input: Tensor | None = None) -> None:
        super().__init__()
        self.example_input = example_input
        self.shapes: Shapes | None = None
        self.asks_for_shapes = False

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Say whether `m` is one node of the graph; torch calls this while it traces."""
        inherited = type(m).forward.__module__.startswith("torch.nn.")
        known = isinstance(m, ClippedReLU | QCFS) or is_einops(type(m))
        own = known or (inherited and not isinstance(m, nn.Sequential))
        return own or super().is_leaf_module(m, module_qualified_name)

    def create_args_for_root(
        self, root_fn: Any, is_module: bool, concrete_args: Any = None
    ) -> tuple[Any, list[Any]]:
        """One input; every argument with a default takes it."""
        given = list(inspect.signature(root_fn).parameters.values())[1:]
        given = [p for p in given if p.kind is not p.VAR_KEYWORD]
        required = [p for p in given if p.default is p.empty and p.kind is not p.VAR_POSITIONAL]
        name = type(self.root).__name__
        if len(required) > 1:
            listed = ", ".join(p.name for p in required)
            raise UserError(
                f"{name}.forward takes {len(required)} inputs ({listed}); a network with one input "
                "is needed. `ftbc_lightning.ann.JoinedInputs` makes one of it, with their shapes."
            )
        first = next(iter(required or given), None)
        if first is None or first.kind is first.KEYWORD_ONLY:
            raise UserError(f"{name}.forward takes no input by position; one tensor is needed.")
        return root_fn, [self.root, self.create_proxy("placeholder", first.name, (), {})]

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """Make what stands for the value of a node."""
        return Proxy(node, self)

    def to_bool(self, obj: fx.Proxy) -> bool:
        """Answer a condition."""
        return bool(self.known(obj, lambda: super(ActivationTracer, self).to_bool(obj)))

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        """Go through a shape, whose sizes stay open."""
        known = self.known(obj, lambda: super(ActivationTracer, self).iter(obj), Shapes.length)
        parts: Any = obj  # a shape has parts
        return iter([parts[i] for i in range(known)]) if isinstance(known, int) else known

    def known(
        self,
        proxy: fx.Proxy,
        unknown: Callable[[], Any],
        look_up: Callable[[Shapes, fx.Node], Any] = Shapes.number,
    ) -> Any:
        """The value of what depends on shape and type alone; else what `unknown` says."""
        if self.example_input is None:
            self.asks_for_shapes = self.asks_for_shapes or is_number(proxy.node)
            return unknown()
        if self.shapes is None:
            self.shapes = Shapes(self.root, self.example_input)
        try:
            return look_up(self.shapes, proxy.node)
        except LookupError:
            return unknown()

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """Write down that a parameter is read."""
        if self.shapes is not None and self.shapes.asked:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: dict[str, Any]
    ) -> Any:
        """Write down that a module is called."""
        if self.shapes is not None and self.shapes.asked:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def written(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """A function that is written down where what stands for a value is given to it."""

        def call(*args: Any, **kwargs: Any) -> Any:
            if _holds_proxy((args, kwargs)):
                return self.create_proxy("call_function", original, args, kwargs)
            return original(*args, **kwargs)

        return call

    def trace(self, root: Any, concrete_args: Any = None) -> fx.Graph:
        """Write down the forward pass of a network."""
        with (
            _lengths_open(root),
            einops_open(root, self.written),
            _creations_open(self),
            _Drawn(self),
        ):
            return super().trace(root, concrete_args)


class Proxy(fx.Proxy):
    """Stands for a value, and turns into a number where Python must have one."""

    tracer: ActivationTracer

    def __getattr__(self, k: str) -> Any:
        """An attribute, such as the shape."""
        return _Attribute(self, k)

    def _number(self, asked: str, look_up: Callable[..., Any] = Shapes.number) -> Any:
        def unknown() -> Any:
            raise TraceError(f"{asked} is asked of {self.node.name}, whose value is not known")

        return self.tracer.known(self, unknown, look_up)

    def __int__(self) -> int:
        return int(self._number("int()"))

    def __index__(self) -> int:
        return int(self._number("a whole number"))

    def __float__(self) -> float:
        return float(self._number("float()"))

    def __abs__(self) -> Any:
        """The absolute value, which torch.fx leaves out."""
        return self.tracer.create_proxy("call_method", "abs", (self,), {})

    def __round__(self, digits: int | None = None) -> Any:
        return round(self._number("round()"), digits)

    def __len__(self) -> int:
        return int(self._number("len()", Shapes.length))


def _in_place(name: str) -> Callable[[Any, Any], Any]:
    """`x += y` and its like: torch.fx would write `x = x + y`, and lose that `x` itself changes."""

    def written(self: Proxy, other: Any) -> Any:
        changing = getattr(operator, f"i{name}")
        return self.tracer.create_proxy("call_function", changing, (self, other), {}, name=name)

    return written


for _name in ("add", "sub", "mul", "truediv", "matmul", "pow"):
    setattr(Proxy, f"__i{_name}__", _in_place(_name))


class _Attribute(Attribute, Proxy):
    """An attribute of a value."""


class _Drawn(TorchFunctionMode):
    """Writes down what is drawn, which would be a constant of the graph otherwise."""

    def __init__(self, tracer: ActivationTracer) -> None:
        super().__init__()
        self.tracer = tracer

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        busy = self.tracer.shapes is not None and self.tracer.shapes.asked
        if name not in CHANCE or busy:
            return func(*args, **kwargs)
        if func is getattr(Tensor, name, None):
            return self.tracer.create_proxy("call_method", name, args, kwargs)
        return self.tracer.create_proxy("call_function", func, args, kwargs)


@contextmanager
def _creations_open(tracer: ActivationTracer) -> Iterator[None]:
    """Write down what makes a tensor of open sizes: `torch.zeros` wants plain numbers.

    Where buffers stay open, so do tensors of given numbers.
    """

    def written(original: Callable[..., Any]) -> Callable[..., Any]:
        plain = tracer.written(original)

        def create(*args: Any, **kwargs: Any) -> Any:
            made = plain(*args, **kwargs)
            busy = tracer.shapes is not None and tracer.shapes.asked
            closed = busy or isinstance(made, fx.Proxy) or not tracer.proxy_buffer_attributes
            return made if closed else tracer.proxy(cast(fx.Node, tracer.create_arg(made)))

        return create

    names = [*CREATING, "rand", "randn", "randint", "randperm"]
    originals = {name: getattr(torch, name) for name in names}
    for name, original in originals.items():
        setattr(torch, name, written(original))
    try:
        yield
    finally:
        for name, original in originals.items():
            setattr(torch, name, original)


def _holds_proxy(given: Any) -> bool:
    """Say whether what stands for a value is among arguments, however deep."""
    found: list[fx.Proxy] = []

    def collect(value: Any) -> None:
        if isinstance(value, fx.Proxy):
            found.append(value)

    fx.node.map_aggregate(given, collect)
    return bool(found)


@contextmanager
def _lengths_open(root: nn.Module) -> Iterator[None]:
    """Let `len(x)` in the forward passes of a network stay open, as `x.size(0)` does."""

    def length(value: Any) -> Any:
        if not isinstance(value, fx.Proxy):
            return len(value)
        if is_number(value.node) or value.node.target in PIECES:
            return value.tracer.create_proxy("call_function", len, (value,), {})
        return value.tracer.create_proxy("call_method", "size", (value, 0), {})

    scopes = {
        id(scope): scope
        for module in root.modules()
        if (scope := getattr(type(module).forward, "__globals__", None)) is not None
        and "len" not in scope
        and not type(module).__module__.startswith("torch.")
    }
    for scope in scopes.values():
        scope["len"] = length
    try:
        yield
    finally:
        for scope in scopes.values():
            del scope["len"]
