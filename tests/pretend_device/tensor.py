"""The tensor of the pretend device, and what becomes of an operation on it."""

import functools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._mode_utils import no_dispatch

from tests.pretend_device import counting

NAME = "pretend"

VIEWS = {
    *("view", "_unsafe_view", "_reshape_alias", "reshape", "expand", "as_strided", "alias"),
    *("select", "slice", "narrow", "split", "split_with_sizes", "unbind", "unfold", "diagonal"),
    *("t", "transpose", "permute", "squeeze", "unsqueeze", "detach", "movedim", "lift_fresh"),
    *("real", "view_as_real", "is_same_size", "_local_scalar_dense"),
    *("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"),
}
"""Operations that move no data."""

WAITED_FOR = {
    *("_local_scalar_dense", "equal", "nonzero", "masked_select", "bincount", "unique_dim"),
    *("_unique2", "unique_consecutive"),
}
"""Operations whose result, or the size of it, the host waits for."""

BETWEEN_DEVICES = {"copy_", "_to_copy", "_copy_from"}
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}
"""Here indices may lie on the CPU, though not the indexed tensor or the values."""

_limit: list[int] = []


@contextmanager
def memory(size: int) -> Iterator[None]:
    """Refuse, as a full GPU does, every tensor of more than so many bytes."""
    _limit.append(size)
    try:
        yield
    finally:
        _limit.pop()


def allocated(inner: torch.Tensor) -> "PretendTensor":
    """A tensor with memory of its own."""
    size = inner.numel() * inner.element_size()
    if _limit and size > _limit[-1]:
        raise torch.OutOfMemoryError(f"{NAME} out of memory. Tried to allocate {size} bytes.")
    return PretendTensor(inner)


class PretendTensor(torch.Tensor):
    """A tensor of the device; `inner` holds the values."""

    __torch_function__ = torch._C._disabled_torch_function_impl
    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> "PretendTensor":
        if torch.is_inference_mode_enabled():
            # A view of a tensor from outside inference mode must be a tensor from outside.
            with torch.inference_mode(False):
                return PretendTensor(inner)
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            layout=inner.layout,
            device=_device(),
        )
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return run(func, args, kwargs or {})

    def __repr__(self, **_: Any) -> str:
        return f"PretendTensor({self.inner!r})"

    @property
    def data(self) -> "PretendTensor":
        """The values without their history; `module.double()` and the like assign them."""
        return PretendTensor(self.inner.detach())

    @data.setter
    def data(self, values: "PretendTensor") -> None:
        torch.Tensor.data.__set__(self, values)
        self.inner = values.inner

    def tolist(self) -> Any:
        """The values, which the host waits for."""
        counting.read()
        return self.inner.tolist()

    def numpy(self, **_: Any) -> Any:
        """Refused."""
        raise TypeError(
            f"can't convert {NAME}:0 device type tensor to numpy. Use Tensor.cpu() to copy the "
            "tensor to host memory first."
        )

    __array__ = numpy

    def __deepcopy__(self, memo: dict[int, Any]) -> "PretendTensor":
        copy = PretendTensor(self.inner.detach().clone()).requires_grad_(self.requires_grad)
        if getattr(self, "_is_param", False):
            copy._is_param = True
        memo[id(self)] = copy
        return copy

    def __reduce_ex__(self, protocol: Any) -> Any:
        # As torch writes tensors of devices without a storage: the file says where they were.
        found = (self.detach().cpu(), self.dtype, f"{NAME}:0", self.requires_grad)
        return torch._utils._rebuild_device_tensor_from_cpu_tensor, found


@functools.cache
def _device() -> torch.device:
    return torch.device(NAME, 0)


class Facts:
    """What there is to know of an operation before it runs."""

    def __init__(self, operation: Any) -> None:
        schema = operation._schema
        self.text, self.name = str(operation), schema.name.removeprefix("aten::")
        self.moves_data = self.name not in VIEWS
        self.between, self.indexing = self.name in BETWEEN_DEVICES, self.name in INDEXING
        self.waited_for = self.name in WAITED_FOR
        self.takes_numbers = self.indexing or torch.Tag.pointwise in operation.tags
        names = enumerate(argument.name for argument in schema.arguments)
        writes = [bool(a.alias_info and a.alias_info.is_write) for a in schema.arguments]
        self.written = [(i, name) for i, name in names if writes[i]]


facts = functools.cache(Facts)


def _flat(given: Iterable[Any]) -> Iterator[Any]:
    for x in given:
        if isinstance(x, list | tuple):
            yield from _flat(x)
        else:
            yield x


def _foreign(given: Iterable[Any]) -> Iterator[torch.Tensor]:
    """The tensors that are not the device's."""
    for x in _flat(given):
        if isinstance(x, torch.Tensor) and not isinstance(x, PretendTensor):
            yield x


def _check_devices(operation: Any, args: Any, kwargs: Any) -> None:
    """Refuse what a GPU refuses; a number on the CPU may enter what works element by element."""
    known = facts(operation)
    if known.indexing:
        args = (args[0], *args[2:])
    kept = [args[i] if i < len(args) else kwargs.get(name) for i, name in known.written]
    if known.indexing:
        kept = [args[0]]
    results = {id(x) for x in _foreign(kept)}
    for x in _foreign((*args, *kwargs.values())):
        if x.ndim or not known.takes_numbers or id(x) in results:
            raise RuntimeError(
                "Expected all tensors to be on the same device, but found at least two devices, "
                f"{NAME}:0 and {x.device}! (when checking {operation})"
            )


def _inner(x: Any) -> Any:
    if isinstance(x, PretendTensor):
        return x.inner
    if isinstance(x, list | tuple):
        return [_inner(part) for part in x]
    return torch.device("cpu") if isinstance(x, torch.device) and x.type == NAME else x


def run(operation: Any, args: Any, kwargs: Any) -> Any:
    """Do an operation on the values within."""
    known = facts(operation)
    if not known.between:
        _check_devices(operation, args, kwargs)
    device = kwargs.get("device")
    leaves = device is not None and torch.device(device).type != NAME
    to_host = leaves or (known.name == "copy_" and not isinstance(args[0], PretendTensor))
    masked = known.indexing and any(
        isinstance(x, torch.Tensor) and x.dtype in (torch.bool, torch.uint8) for x in args[1]
    )
    if to_host or masked or known.waited_for:
        counting.read()
    inside = {name: _inner(value) for name, value in kwargs.items() if name != "pin_memory"}
    found = operation(*map(_inner, args), **inside)
    if to_host:
        return args[0] if known.name == "copy_" else found
    if known.moves_data:
        counting.launched(known.text)
    # What was written in place comes back as the tensor that was given.
    given = _flat((*args, *kwargs.values())) if known.written else ()
    outside = {id(x.inner): x for x in given if isinstance(x, PretendTensor)}
    if torch.Tag.inplace_view in operation.tags:  # `transpose_`: the outer one turns too
        with no_dispatch():
            operation(*args, **kwargs)
    return _outer(found, outside, allocated if known.moves_data else PretendTensor)


def _outer(x: Any, outside: dict[int, PretendTensor], wrap: Any) -> Any:
    if isinstance(x, list | tuple):
        return type(x)([_outer(part, outside, wrap) for part in x])
    if not isinstance(x, torch.Tensor):
        return x
    outer = outside.get(id(x))
    if outer is None:
        return wrap(x)
    if outer.shape != x.shape:
        raise NotImplementedError("the pretend device does not resize a tensor in its place")
    return outer
