"""The tensor of the pretend device, and what becomes of an operation on it."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._pytree import tree_flatten, tree_map

from tests.pretend_device import counting

NAME = "pretend"
aten = torch.ops.aten

VIEWS = {
    *("view", "_unsafe_view", "_reshape_alias", "reshape", "expand", "as_strided", "alias"),
    *("select", "slice", "narrow", "split", "split_with_sizes", "unbind", "unfold", "diagonal"),
    *("t", "transpose", "permute", "squeeze", "unsqueeze", "detach", "movedim", "lift_fresh"),
    *("real", "view_as_real", "is_same_size", "_local_scalar_dense"),
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
        # A view, made in inference mode, of a tensor from outside must be a tensor from outside.
        with torch.inference_mode(False):
            made = torch.Tensor._make_wrapper_subclass(
                cls,
                inner.shape,
                strides=inner.stride(),
                storage_offset=inner.storage_offset(),
                dtype=inner.dtype,
                layout=inner.layout,
                device=torch.device(NAME, 0),
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
def _facts(func: Any) -> tuple[str, bool, tuple[int, ...]]:
    """Its name, whether it works element by element, and which arguments it writes."""
    arguments = func._schema.arguments
    written = [i for i, a in enumerate(arguments) if a.alias_info and a.alias_info.is_write]
    return func._schema.name.removeprefix("aten::"), torch.Tag.pointwise in func.tags, (*written,)


def _check_devices(func: Any, args: Any, kwargs: Any) -> None:
    """Refuse what a GPU refuses; a number on the CPU may enter what works element by element."""
    name, pointwise, written = _facts(func)
    if name in BETWEEN_DEVICES:
        return
    if name in INDEXING:
        args, kwargs = (args[0], *args[2:]), {k: v for k, v in kwargs.items() if k != "indices"}
    names = [argument.name for argument in func._schema.arguments]
    targets = [args[i] if i < len(args) else kwargs.get(names[i]) for i in written]
    result = {id(x) for x in tree_flatten(targets)[0]}
    given = tree_flatten((args, kwargs))[0]
    for x in given:
        if isinstance(x, torch.Tensor) and not isinstance(x, PretendTensor):
            number = x.ndim == 0 and (pointwise or name in INDEXING)
            if not number or id(x) in result or x is given[0] and name in INDEXING:
                raise RuntimeError(
                    "Expected all tensors to be on the same device, but found at least two "
                    f"devices, {NAME}:0 and {x.device}! (when checking {func})"
                )


def _inner(x: Any) -> Any:
    if isinstance(x, PretendTensor):
        return x.inner
    return torch.device("cpu") if isinstance(x, torch.device) and x.type == NAME else x


def run(func: Any, args: Any, kwargs: Any) -> Any:
    """Do an operation on the values within."""
    name, *_ = _facts(func)
    given = tree_flatten((args, kwargs))[0]
    ours = [x for x in given if isinstance(x, PretendTensor)]
    _check_devices(func, args, kwargs)
    device = kwargs.get("device")
    leaves = device is not None and torch.device(device).type != NAME
    to_host = leaves or (name == "copy_" and not isinstance(args[0], PretendTensor))
    masked = name in INDEXING and any(
        isinstance(x, torch.Tensor) and x.dtype in (torch.bool, torch.uint8)
        for x in tree_flatten(args[1])[0]
    )
    if to_host or masked or name in WAITED_FOR:
        counting.read()
    found = func(*tree_map(_inner, args), **tree_map(_inner, {**kwargs, **_unpinned(kwargs)}))
    if to_host:
        return args[0] if name == "copy_" else found
    wrap = PretendTensor if name in VIEWS else allocated
    if wrap is allocated:
        counting.launched(str(func))
    # What was written in place comes back as the tensor that was given.
    known = {id(x.inner): x for x in ours}
    return tree_map(lambda x: _outer(x, known, wrap), found)


def _unpinned(kwargs: Any) -> dict[str, Any]:
    return {"pin_memory": False} if kwargs.get("pin_memory") else {}


def _outer(x: Any, known: dict[int, PretendTensor], wrap: Any) -> Any:
    if not isinstance(x, torch.Tensor) or isinstance(x, PretendTensor):
        return x
    outer = known.get(id(x))
    if outer is None:
        return wrap(x)
    if outer.shape != x.shape:
        raise NotImplementedError("the pretend device does not resize a tensor in its place")
    return outer
