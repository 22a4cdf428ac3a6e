"""Make the pretend device known to torch and to Lightning."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from torch.utils import backend_registration

from tests.pretend_device import counting
from tests.pretend_device.tensor import NAME, PretendTensor, allocated

MEMORY = 2**33
"""Bytes that it says it has."""

MADE = (
    *("arange.start_step", "arange.start", "arange", "linspace", "logspace", "eye", "eye.m"),
    *("randperm", "randperm.generator", "scalar_tensor"),
)
"""Operations that make a tensor by growing an empty one, which is not done here."""

_missing: list[bool] = []


@contextmanager
def unplugged() -> Iterator[None]:
    """As if this were a machine without the device: no tensor can be put on it."""
    _missing.append(True)
    try:
        yield
    finally:
        _missing.pop()


def _made(inner: torch.Tensor) -> PretendTensor:
    if _missing:
        raise RuntimeError(
            f"Attempting to deserialize object on a {NAME} device but torch.{NAME}.is_available() "
            "is False."
        )
    return allocated(inner)


class _Module(backend_registration._DummyBackendModule):
    """`torch.pretend`: what torch and Lightning ask of a device."""

    def set_device(self, device: Any) -> None: ...
    def synchronize(self, device: Any = None) -> None: ...
    def empty_cache(self) -> None: ...
    def manual_seed(self, seed: int) -> None: ...
    def set_rng_state(self, state: Any, device: Any = 0) -> None: ...

    def get_rng_state(self, device: Any = 0) -> torch.Tensor:
        return torch.get_rng_state()

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]

    def get_device_properties(self, device: Any = 0) -> SimpleNamespace:
        return SimpleNamespace(name="a device that pretends", total_memory=MEMORY)


_library = torch.library.Library("aten", "IMPL")


@functools.cache
def plug_in() -> None:
    """Register the device with torch, once and before the first backward pass of the process.

    With that pass torch starts a thread for each device that it knows.
    """
    backend_registration._setup_privateuseone_for_python_backend(NAME, _Module())
    kernels = {"empty.memory_format": _empty, "empty_strided": _empty_strided}
    kernels |= {"_copy_from": _copy_from} | {name: _maker(name) for name in MADE}
    for name, kernel in kernels.items():
        _library.impl(name, kernel, "PrivateUse1")


# Kernels for calls in which no tensor of the device takes part.


def _empty(
    size, dtype=None, layout=None, device=None, pin_memory=None, memory_format=None
) -> torch.Tensor:
    form = {} if memory_format is None else {"memory_format": memory_format}
    return _made(torch.empty(size, dtype=dtype, device="cpu", **form))


def _empty_strided(
    size, stride, dtype=None, layout=None, device=None, pin_memory=None
) -> torch.Tensor:
    return _made(torch.empty_strided(size, stride, dtype=dtype, device="cpu"))


def _copy_from(source: torch.Tensor, target: torch.Tensor, non_blocking: bool = False) -> Any:
    """Called below the level at which torch hands operations to a class of tensors."""
    values = source.inner if isinstance(source, PretendTensor) else source
    if isinstance(target, PretendTensor):
        target.inner.copy_(values)
    else:
        counting.read()
        target.copy_(values)
    return target


def _maker(name: str) -> Any:
    packet, _, overload = name.partition(".")
    operation = getattr(getattr(torch.ops.aten, packet), overload or "default")

    def make(*args: Any, device: Any = None, pin_memory: Any = None, **kwargs: Any) -> Any:
        counting.launched(str(operation))
        return _made(operation(*args, device=torch.device("cpu"), **kwargs))

    return make


@functools.cache
def plug_into_lightning() -> None:
    """Register it with Lightning too, as accelerator and as strategy; once."""
    from lightning.pytorch.accelerators import Accelerator, AcceleratorRegistry
    from lightning.pytorch.strategies import SingleDeviceStrategy, StrategyRegistry

    class PretendAccelerator(Accelerator):
        """`--trainer.accelerator pretend`."""

        def setup_device(self, device: Any) -> None: ...
        def teardown(self) -> None: ...

        def get_device_stats(self, device: Any) -> dict[str, Any]:
            return {}

        @staticmethod
        def parse_devices(devices: Any) -> list[torch.device]:
            return [torch.device(NAME, 0)]

        @staticmethod
        def get_parallel_devices(devices: Any) -> list[torch.device]:
            return [torch.device(NAME, 0)]

        @staticmethod
        def auto_device_count() -> int:
            return 1

        @staticmethod
        def is_available() -> bool:
            return True

        @staticmethod
        def name() -> str:
            return NAME

    AcceleratorRegistry.register(NAME, PretendAccelerator, description="a device that pretends")
    StrategyRegistry.register(
        NAME, SingleDeviceStrategy, description="one device that pretends", device=f"{NAME}:0"
    )
