"""How long exact calibration takes where the paper's took 537 s: ResNet-34, 224 px, T = 32.

    python benchmarks/published_time.py [--device cuda]

1,024 samples as in the paper; weights and samples are random, which does not change the work. The
published figure is that of the released program on the GPU of its authors.
"""

import argparse

import torch
from measuring import add_device, print_machine, print_table, seconds

from ftbc_lightning import calibrate, convert
from ftbc_lightning.ann.resnet import ResNet34

PUBLISHED = {"samples": 1024, "timesteps": 32, "size": 224}
PUBLISHED_SECONDS = 537


def main() -> None:
    """Read the options, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, value in PUBLISHED.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--batch", type=int, default=64, help="samples in a batch")
    add_device(parser)
    options = parser.parse_args()
    print_machine(options.device)
    torch.manual_seed(0)
    net = ResNet34().eval().to(options.device)
    size = options.size
    samples = torch.randn(options.samples, 3, size, size, device=options.device)
    batches = list(samples.split(options.batch))
    few = batches[0][:2]  # to warm up: libraries are loaded and kernels made
    calibrate(net, convert(net, few, [few], timesteps=2), [few])
    found = []
    conversion = seconds(
        lambda: found.append(convert(net, batches[0][:1], batches, timesteps=options.timesteps))
    )
    calibration = seconds(lambda: calibrate(net, found[0], batches, method="exact"))
    whole = all(getattr(options, name) == value for name, value in PUBLISHED.items())
    memory = "-"
    if options.device.type == "cuda":
        memory = f"{torch.cuda.max_memory_allocated() / 2**30:.1f}"
    header = ["samples", "px", "T", "conversion, s", "exact, s", "published, s", "memory, GiB"]
    row = [options.samples, size, options.timesteps, f"{conversion:.1f}", f"{calibration:.1f}"]
    print_table(header, [[*row, PUBLISHED_SECONDS if whole else "other work", memory]])


if __name__ == "__main__":
    main()
