"""SpikingJelly's recipes for transformers beside ours: one trained network, the same T, one run.

    python benchmarks/transformers.py [--timesteps 4 8 16 32] [--seeds 3] [--repeats 5]

Trains torchvision's `VisionTransformer`, small, on scikit-learn's digits, calibrates on 512
training samples and counts on the 355 test samples, all in one batch. Distance is the root mean
square of the difference between a network's logits and the ANN's, over the standard deviation of
the ANN's. Each seed has a network, a division and a calibration draw of its own. SpikingJelly runs
in single steps, here its faster mode. Its SpikeZIP recipe is left out, because it takes a quantised
ANN; so is our "in_time", in which nothing would spike.
"""

import argparse
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from measuring import interleaved, print_machine, print_table, seconds
from torch import Tensor, nn
from torchvision.models import VisionTransformer

from ftbc_lightning import SpikingNetwork, calibrate, convert, simulate
from ftbc_lightning.analysis.operation_counts import count_operations
from ftbc_lightning.data import DigitsDataModule

try:
    from spikingjelly.activation_based import ann2snn, functional
except ImportError as error:
    raise SystemExit(
        f"SpikingJelly is not installed ({error}): pip install '.[benchmarks]'"
    ) from None

ENCODERS: dict[str, object] = {"mode": "spiking_encoder", "threshold_scale": 0.5}
RECIPES: dict[str, dict[str, object]] = {
    "STA, equivalent": {},
    "STA, encoders, mse": ENCODERS,  # as in SpikingJelly's example
    "STA, encoders, max": {**ENCODERS, "threshold_mode": "max"},  # about as many spikes as ours
}
TD = "TD equivalent"
OURS = {"ours, uncalibrated": None, "ours, exact": "exact", "ours, weights+exact": "weights+exact"}
COLUMNS = (
    *("distance to the ANN", "accuracy, %", "seconds of an evaluation"),
    *("seconds of conversion and calibration", "spikes a neuron", "most spikes in one step"),
    "steps that pass anything on",
)
Found = dict[tuple[str, int, str], list[float]]


@dataclass
class Samples:
    """What trains, what calibrates in batches of 64, and what is counted."""

    train: tuple[Tensor, Tensor]
    calibration: list[Tensor]
    test: tuple[Tensor, Tensor]

    @classmethod
    def of(cls, seed: int) -> "Samples":
        """Divided and drawn with a seed."""
        data = DigitsDataModule(seed=seed, calibration_samples=512)
        data.prepare_data()
        data.setup()
        calibration = [images for images, _ in data.calibration_dataloader()]
        return cls(_whole(data.train_dataloader()), calibration, _whole(data.test_dataloader()))


def _whole(batches: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    images, labels = zip(*batches, strict=True)
    return torch.cat(images), torch.cat(labels)


def trained(samples: Samples, epochs: int) -> VisionTransformer:
    """A transformer of two blocks, trained with the settings of configs/digits_vit.yaml."""
    sizes = {"num_layers": 2, "num_heads": 2, "hidden_dim": 32, "mlp_dim": 64}
    net = VisionTransformer(image_size=8, patch_size=2, num_classes=10, **sizes)
    net.conv_proj = nn.Conv2d(1, 32, 2, 2)  # the digits are grey
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=0.05)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    images, labels = samples.train
    for _ in range(epochs):
        for part in torch.randperm(len(images)).split(64):
            optimizer.zero_grad()
            F.cross_entropy(net(images[part]), labels[part]).backward()
            optimizer.step()
        scheduler.step()
    return net.eval()


class BehindEmbedding(nn.Module):
    """The network from its first block on: SpikingJelly's TD recipe has no place for constants."""

    def __init__(self, net: VisionTransformer) -> None:
        super().__init__()
        self.layers, self.norm, self.heads = net.encoder.layers, net.encoder.ln, net.heads

    def forward(self, tokens: Tensor) -> Tensor:
        """Embedded samples `[B, N, width]` to logits."""
        return self.heads(self.norm(self.layers(tokens))[:, 0])  # type: ignore[no-any-return]


def embedded(net: VisionTransformer, images: Tensor) -> Tensor:
    """What the first block reads."""
    tokens = torch.cat([net.class_token.expand(len(images), -1, -1), net._process_input(images)], 1)
    return tokens + net.encoder.pos_embedding  # type: ignore[no-any-return]


@dataclass
class Side:
    """A converted network: how it is evaluated, and its spikes.

    Attributes:
        evaluate: Images to logits after T steps.
        spikes: Images to spikes a neuron and sample, the most that a neuron emits in one step, and
            in how many steps anything leaves a neuron or, where there is none, the network.
    """

    evaluate: Callable[[Tensor], Tensor]
    spikes: Callable[[Tensor], tuple[float, float, int]]


def ours(net: nn.Module, samples: Samples, timesteps: int, method: str | None) -> Side:
    """Encoders before every layer with weights that reads no spikes else, and a calibration."""
    batches = samples.calibration
    snn = convert(net, batches[0][:1], batches, timesteps=timesteps, functions="encoded")
    if method is not None:
        calibrate(net, snn, batches, method=method)
    return Side(lambda images: simulate(snn, images)[-1], partial(our_spikes, snn))


def our_spikes(snn: SpikingNetwork, images: Tensor) -> tuple[float, float, int]:
    """See `Side`; one step has no more than K spikes of a neuron."""
    count = count_operations(snn, images)
    rates = torch.tensor(list(count.firing_rates.values()))  # [layers, T]
    sizes = torch.tensor([count.neurons[name] for name in count.firing_rates])
    most = max(neuron.levels for neuron in snn.neurons().values())
    return float(rates.sum(1) @ sizes.float() / sizes.sum()), most, int((rates.sum(0) > 0).sum())


def theirs(net: VisionTransformer, samples: Samples, timesteps: int, name: str) -> Side:
    """A recipe of SpikingJelly, run as its examples do."""
    recipe = ann2snn.TransformerTDEquivalentRecipe(time_steps=timesteps)
    if name != TD:
        recipe = ann2snn.STATransformerRecipe(
            dataloader=samples.calibration, time_steps=timesteps, **RECIPES[name]
        )
    source = BehindEmbedding(net) if name == TD else net
    snn = ann2snn.Converter(recipe=recipe, device="cpu").convert(source).eval()

    @torch.no_grad()
    def steps(images: Tensor) -> Tensor:
        read = embedded(net, images) if name == TD else images
        functional.set_step_mode(snn, "s")
        functional.reset_net(snn)
        nothing = torch.zeros_like(read)  # the sample comes whole in the first step
        return torch.stack([snn(nothing if step else read) for step in range(timesteps)])

    return Side(lambda images: steps(images).sum(0), partial(their_spikes, snn, steps))


def their_spikes(
    snn: nn.Module, steps: Callable[[Tensor], Tensor], images: Tensor
) -> tuple[float, float, int]:
    """See `Side`; their encoders give whole multiples of a threshold, `[B, ..., C]` a step."""
    counts: dict[nn.Module, list[Tensor]] = {}

    def count(module: nn.Module, _: object, output: Tensor) -> None:
        spikes = (output / module.v_threshold).round().abs()
        counts.setdefault(module, []).append(spikes)

    encoders = [m for m in snn.modules() if type(m).__name__ == "_STASpikeEncoder"]
    hooks = [encoder.register_forward_hook(count) for encoder in encoders]
    logits = steps(images)
    for hook in hooks:
        hook.remove()
    if not counts:
        return 0.0, 0.0, int(logits.flatten(1).any(1).sum())
    by_step = [
        torch.cat([x.flatten() for x in step]) for step in zip(*counts.values(), strict=True)
    ]
    every = torch.stack(by_step)  # [T, neurons of all samples]
    return float(every.sum(0).mean()), float(every.max()), int(every.any(1).sum())


def measure(
    net: VisionTransformer, samples: Samples, timesteps: int, repeats: int, found: Found
) -> None:
    """All sides at one T, timed in turn."""
    makers: dict[str, Callable[[], Side]] = {
        name: partial(theirs, net, samples, timesteps, name) for name in (TD, *RECIPES)
    }
    makers |= {name: partial(ours, net, samples, timesteps, how) for name, how in OURS.items()}
    images, labels = samples.test
    with torch.no_grad():
        wanted = net(images)
    sides: dict[str, Side] = {}
    for name, make in makers.items():
        took = seconds(lambda name=name, make=make: sides.update({name: make()}))  # type: ignore[misc]
        logits = sides[name].evaluate(images)
        distance = (logits - wanted).square().mean().sqrt() / wanted.std()
        right = 100 * (logits.argmax(1) == labels).double().mean()
        figures = (distance, right, None, took, *sides[name].spikes(images))
        for column, figure in zip(COLUMNS, figures, strict=True):
            if figure is not None:
                found.setdefault((name, timesteps, column), []).append(float(figure))
    runs = {name: partial(side.evaluate, images) for name, side in sides.items()}
    for name, taken in interleaved(runs, repeats).items():
        found.setdefault((name, timesteps, COLUMNS[2]), []).extend(taken)


def cell(column: str, figures: list[float]) -> str:
    """The median of seconds, else the mean, and the range in brackets."""
    in_time = column.startswith("seconds")
    middle = statistics.median(figures) if in_time else statistics.mean(figures)
    digits = ".1f" if column == COLUMNS[1] else ".2g" if column == COLUMNS[0] else ".3g"
    least, most = min(figures), max(figures)
    if least == most:
        return f"{middle:{digits}}"
    return f"{middle:{digits}} ({least:{digits}} to {most:{digits}})"


def main() -> None:
    """Train, convert, measure, print a table for each figure."""
    given = arguments()
    print_machine()
    found: Found = {}
    right = []
    for seed in range(given.seeds):
        torch.manual_seed(seed)
        samples = Samples.of(seed)
        net = trained(samples, given.epochs)
        images, labels = samples.test
        right.append(100 * float((net(images).argmax(1) == labels).double().mean()))
        for timesteps in given.timesteps:
            measure(net, samples, timesteps, given.repeats, found)
    print(f"{len(images)} samples, {given.seeds} seeds; ANN {cell(COLUMNS[1], right)} %\n")
    for column in COLUMNS:
        print_table(
            (column, *(f"T={timesteps}" for timesteps in given.timesteps)),
            (
                (name, *(cell(column, found[name, t, column]) for t in given.timesteps))
                for name in (TD, *RECIPES, *OURS)
            ),
        )


def arguments() -> argparse.Namespace:
    """What is measured."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--timesteps", type=int, nargs="+", default=[4, 8, 16, 32])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=30)
    return parser.parse_args()


if __name__ == "__main__":
    main()
