"""What the benchmark programs share: interleaved timing, peak memory, tables, the rival."""

import argparse
import contextlib
import copy
import datetime
import io
import multiprocessing
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from ftbc_lightning.graph.tracing import trace

T = TypeVar("T")

STATUS = Path("/proc/self/status")

BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 256)


def seconds(run: Callable[[], object]) -> float:
    """Wall-clock seconds of one call, from an idle GPU to an idle GPU where there is one."""
    synchronize()
    start = time.perf_counter()
    run()
    synchronize()
    return time.perf_counter() - start


def synchronize() -> None:
    """Wait for what a GPU has still to do."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def add_device(parser: argparse.ArgumentParser) -> None:
    """The option `--device`."""
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))


def interleaved(sides: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each side, all of them in turn, `repeats` times after one round to warm up."""
    for run in sides.values():
        run()
    found: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, run in sides.items():
            found[name].append(seconds(run))
    return found


def ratio(first: Sequence[float], second: Sequence[float]) -> float:
    """Median of the ratios of what was measured side by side."""
    return statistics.median(a / b for a, b in zip(first, second, strict=True))


def best_ann(
    net: nn.Module, images: Tensor, repeats: int, sizes: Sequence[int] = BATCH_SIZES
) -> tuple[Callable[[], object], int, str]:
    """The ANN, batch norm folded, at the batch size and memory layout that serve it best.

    Args:
        net: The ANN, on the device of the samples.
        images: As many as the largest batch.
        repeats: How often each setting is timed.
        sizes: The batch sizes to try.

    Returns:
        One call, the number of samples it takes, and the setting in words.
    """
    layouts = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}
    best: tuple[float, Callable[[], object], int, str] | None = None
    for name, layout in layouts.items():
        graph = trace(net).to(memory_format=layout)
        for size in [b for b in sizes if b <= len(images)]:
            batch = images[:size].contiguous(memory_format=layout)

            def run(graph: nn.Module = graph, batch: Tensor = batch) -> object:
                with torch.inference_mode():
                    return graph(batch)

            per_sample = statistics.median(interleaved({"": run}, repeats)[""]) / size
            if best is None or per_sample < best[0]:
                best = per_sample, run, size, f"batch {size}, {name}"
    assert best is not None
    return best[1:]


def peak_mebibytes(work: Callable[..., None], *arguments: object) -> float:
    """Peak memory of a fresh process that does `work`, less that of one that only imports."""
    without, found = (in_process(_reading, job, arguments) for job in (nothing, work))
    return (found - without) / 2**10


def nothing(*arguments: object) -> None:
    """Do nothing: what a process takes before it works."""


def _reading(job: Callable[..., None], arguments: Sequence[object]) -> int:
    """Peak resident memory in KiB after a job.

    Linux tells it in `VmHWM`; getrusage's figure there begins at the parent's.
    """
    job(*arguments)
    if STATUS.is_file():
        return status("VmHWM")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def peak_beyond(run: Callable[[], object]) -> float:
    """Peak memory of one call beyond what its process held before, MiB; on Linux."""
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    run()
    return (status("VmHWM") - before) / 2**10


def in_process(job: Callable[..., T], *arguments: object) -> T:
    """What a job returns in a fresh process."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(job, *arguments).result()


def status(name: str) -> int:
    """What Linux says of this process, KiB."""
    line = next(line for line in STATUS.read_text().splitlines() if name in line)
    return int(line.split()[1])


def spikingjelly_network(net: nn.Module, batches: list[Tensor]) -> tuple[nn.Module | None, str]:
    """SpikingJelly's conversion of a network, or None and the reason why there is none."""
    try:
        from spikingjelly.activation_based import ann2snn
    except ImportError:
        return None, "not installed: pip install '.[benchmarks]'"
    try:
        recipe = ann2snn.RateCodingRecipe(
            dataloader=[(batch, torch.zeros(len(batch))) for batch in batches],
            mode="99.9%",
            channel_wise=True,
            half_threshold=True,
        )
        converter = ann2snn.FXConverter(recipe, device=str(batches[0].device))
        with contextlib.redirect_stderr(io.StringIO()):  # its progress bar
            return converter.convert(_with_pooling_module(net)).eval(), "converted"
    except Exception as error:  # whatever it raises is its answer for this network
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return None, f"does not convert it: {reason[:80]}"


def _with_pooling_module(net: nn.Module) -> nn.Module:
    """The same network with global pooling as a module: SpikingJelly refuses the function."""
    graph = fx.symbolic_trace(copy.deepcopy(net).eval())
    for node in list(graph.graph.nodes):
        if node.target is F.adaptive_avg_pool2d:
            graph.add_submodule(f"pool_{node.name}", nn.AdaptiveAvgPool2d(node.args[1]))
            with graph.graph.inserting_after(node):
                pooled = graph.graph.call_module(f"pool_{node.name}", (node.args[0],))
            node.replace_all_uses_with(pooled)
            graph.graph.erase_node(node)
    graph.recompile()
    return graph


def spikingjelly_run(snn: nn.Module, images: Tensor, timesteps: int, mode: str, size: int) -> None:
    """Simulate in SpikingJelly: single-step ("s") or layer-wise multi-step ("m")."""
    from spikingjelly.activation_based import functional

    functional.set_step_mode(snn, mode)
    with torch.inference_mode():
        for part in torch.split(images, size):
            functional.reset_net(snn)
            if mode == "m":
                snn(part.expand(timesteps, *part.shape)).mean(0)
            else:
                sum(snn(part) for _ in range(timesteps))


def faster_spikingjelly(
    snn: nn.Module, images: Tensor, timesteps: int
) -> tuple[Callable[[], object] | None, str]:
    """The mode and number of samples at once that serve SpikingJelly best, found by trying."""
    best: tuple[float, str, int] | None = None
    reason = ""
    trial = images[: min(len(images), 8)]
    for mode in ("s", "m"):
        for size in sorted({min(size, len(trial)) for size in (1, 4, 8)}):
            try:
                runs = interleaved(
                    {"": lambda m=mode, n=size: spikingjelly_run(snn, trial, timesteps, m, n)}, 2
                )
            except Exception as error:
                reason = f"fails: {(str(error).splitlines() or [''])[0][:60]}"
                continue
            if best is None or min(runs[""]) < best[0]:
                best = min(runs[""]), mode, size
    if best is None:
        return None, reason
    _, mode, size = best
    # Where the trial used all samples of a small batch at once, larger batches go whole.
    size = len(images) if mode == "s" and size == len(trial) else size
    words = f"{'multi' if mode == 'm' else 'single'}-step, {size} at once"
    return lambda: spikingjelly_run(snn, images, timesteps, mode, size), words


def print_machine(device: torch.device | None = None) -> None:
    """The machine, the versions and the date, as a line above a table."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    try:
        rival = version("spikingjelly")
    except PackageNotFoundError:
        rival = "not installed"
    load = os.getloadavg()[0]
    if device is not None and device.type == "cuda":
        model = f"{torch.cuda.get_device_name(device)} beside {model}"
    print(
        f"{model}, {torch.get_num_threads()} threads; torch {torch.__version__}, Python "
        f"{platform.python_version()}, SpikingJelly {rival}; "
        f"{datetime.datetime.now().astimezone():%Y-%m-%d %H:%M}; load {load:.1f} at the start\n"
    )


def print_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A markdown table, each row printed as soon as it is known."""
    print("| " + " | ".join(header) + " |")
    print("|" + "---|" * len(header))
    for row in rows:
        print("| " + " | ".join(str(value) for value in row) + " |", flush=True)
    print()
