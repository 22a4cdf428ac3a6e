"""Which networks of torchvision and timm convert, shown by their limit of many steps.

    python -m tests.known_networks

prints the tables of docs/reference/operations.md. For each network with random weights, at 64
pixels (or the least size), in four pictures of a film: the largest difference between the
converted graph with activations and the ANN in float64, and for one sample the mean difference in %
between the logits of the SNN with maximum thresholds and those of the ANN. Both are in units of the
standard deviation of the ANN's logits.

Batch norms get the scale 1/2 and the shift 1, and statistics taken from samples: most neurons
are then active, and the limit is reached early. With the usual 1 and 0 half of them hover at zero,
where spikes that came too early are never taken back, and fifty random layers need T in the ten
thousands.
"""

import copy
import warnings
from dataclasses import dataclass
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from ftbc_lightning import convert, simulate
from ftbc_lightning.analysis.inspection import inspect
from ftbc_lightning.ann import OneOutput, timm_network
from ftbc_lightning.graph.functions import Functions
from ftbc_lightning.graph.tracing import trace

LEAST_SIZE = {"inception_v3": 75, "maxvit_t": 224}
NETWORKS = (
    *("alexnet", "vgg11", "vgg11_bn", "vgg16", "vgg16_bn", "squeezenet1_1"),
    *("resnet18", "resnet34", "resnet50", "resnext50_32x4d", "wide_resnet50_2"),
    *("densenet121", "googlenet", "inception_v3", "mobilenet_v2", "mnasnet1_0"),
    *("regnet_x_400mf", "shufflenet_v2_x1_0"),
    *("segmentation.fcn_resnet50", "segmentation.deeplabv3_resnet50"),
    *("video.r3d_18", "video.r2plus1d_18"),
)
"""torchvision's."""
TIMM_NETWORKS = (
    *("resnet18d", "resnext50_32x4d", "regnetx_002", "vgg11_bn", "densenet121"),
    *("mobilenetv2_100", "dla34", "res2net50_26w_4s", "selecsls42b", "hrnet_w18_small"),
    *("repvgg_a0", "gernet_s", "cspresnet50", "resnetv2_50", "xception41"),
)
FUNCTION_NETWORKS = (
    *("efficientnet_b0", "mobilenet_v3_small", "convnext_tiny", "vit_b_16", "swin_t", "maxvit_t"),
    *("timm/deit_tiny_patch16_224", "timm/mixer_s32_224", "timm/ghostnet_100", "timm/regnety_002"),
)
"""Those whose functions are taken over what has arrived so far, with encoders before layers."""
SIZED = {
    "vit_b_16": {"image_size": 64},
    "timm/deit_tiny_patch16_224": {"image_size": 64},
    "timm/mixer_s32_224": {"image_size": 64},
}
"""What networks for one size of sample are told."""
AUXILIARY = ("googlenet", "inception_v3")
STEPS = (64, 128, 256)
FUNCTION_STEPS = (16, 32, 64)


@dataclass(frozen=True)
class Limit:
    """What was found for one network.

    Attributes:
        name: Of `NETWORKS`, or of `TIMM_NETWORKS` behind `timm/`.
        neurons: Layers of neurons.
        graph: Largest difference between the converted graph with activations and the ANN.
        errors: For each T the relative error of the logits.
    """

    name: str
    neurons: int
    graph: float
    errors: tuple[float, ...]


def make(name: str, **settings: Any) -> nn.Module:
    """A network by its name; of torchvision, or of timm behind `timm/`."""
    if name.startswith("timm/"):
        return timm_network(name.removeprefix("timm/"), **settings)
    *folder, function = name.split(".")
    place = getattr(torchvision.models, folder[0]) if folder else torchvision.models
    extra = {"aux_logits": False} if name in AUXILIARY else {}
    extra |= {"weights_backbone": None} if "segmentation" in name else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = getattr(place, function)(weights=None, **extra, **settings)
    return OneOutput(net, "out") if "segmentation" in name else net


def build(name: str) -> tuple[nn.Module, Tensor]:
    """A network with random weights whose statistics fit its samples, and the samples."""
    torch.manual_seed(0)
    size = LEAST_SIZE.get(name, 64)
    extra = {"init_weights": True} if name in AUXILIARY else {}
    net = make(name, num_classes=10, **extra, **SIZED.get(name, {}))
    film = (4,) if "video" in name else ()
    images = torch.randn(8, 3, *film, size, size)
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = None
            nn.init.constant_(module.weight, 0.5)
            nn.init.constant_(module.bias, 1.0)
        if isinstance(module, nn.Linear) and not module.weight.any():  # the head of vit_b_16
            nn.init.normal_(module.weight, std=0.02)
    net.train()
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    with torch.no_grad():
        net(images)
    return net.eval(), images


@torch.no_grad()
def limit(name: str, steps: tuple[int, ...] | None = None) -> Limit:
    """Convert one network and follow its error over the number of steps."""
    net, images = build(name)
    encoded = name in FUNCTION_NETWORKS
    functions: Functions = "encoded" if encoded else "refuse"
    expected = net(images)
    # in float64: float32 rounds at 1e-5 to 1e-4 of the logits' spread in the deepest of these
    double, exact = copy.deepcopy(net).double(), images.double()
    graph = trace(double, exact[:1], functions=functions)
    difference = (graph(exact) - double(exact)).abs().max() / expected.std()
    errors = []
    for timesteps in steps or (FUNCTION_STEPS if encoded else STEPS):
        settings = {"timesteps": timesteps, "threshold_rule": "max", "functions": functions}
        snn = convert(net, images[:1], [images], **settings)
        logits = simulate(snn, images[:1])[-1]
        errors.append(float((logits - expected[:1]).abs().mean() / expected.std()))
    neurons = inspect(net, images[:1], functions=functions).neurons
    return Limit(name, neurons, float(difference), tuple(errors))


def row(found: Limit) -> str:
    """One line of the table of docs/reference/operations.md."""
    errors = " | ".join(f"{100 * error:.2f}" for error in found.errors)
    return f"| {found.name} | {found.neurons} | {found.graph:.0e} | {errors} |"


def main() -> None:
    """Print the table."""
    of_timm = [f"timm/{name}" for name in TIMM_NETWORKS]
    for names, steps in ((NETWORKS, STEPS), (of_timm, STEPS), (FUNCTION_NETWORKS, FUNCTION_STEPS)):
        columns = " | ".join(f"T = {t}" for t in steps)
        print(f"| network | layers of neurons | graph | {columns} |")
        print("|---|---|---|" + "---|" * len(STEPS))
        for name in names:
            print(row(limit(name)), flush=True)
        print()


if __name__ == "__main__":
    main()
