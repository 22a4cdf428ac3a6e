"""Figures of one run."""

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ftbc_lightning.module import SpikingClassifier
from ftbc_lightning.report.style import LABELS, STYLES, new_figure


def accuracy_figure(module: SpikingClassifier, *, split: str) -> Figure:
    """Left: accuracy by T, each T converted for itself. Right: after each step of the largest."""
    figure = new_figure(10, 4.2)
    left, right = figure.subplots(1, 2, sharey=True)
    ann = next(row.accuracy for row in module.results if row.method == "ann")
    largest = max(variant.timesteps for variant in module.variants.values())
    for axes in (left, right):
        axes.axhline(100 * ann, label=f"ANN {100 * ann:.1f} %", **STYLES["ann"])
        axes.grid(alpha=0.3)
    variants = module.variants.values()
    for name in dict.fromkeys(variant.name for variant in variants):
        rows = [row for row in module.results if row.method == name and row.timesteps]
        style = {"label": LABELS[name], "markersize": 4, **STYLES[name]}
        left.plot([r.timesteps for r in rows], [100 * r.accuracy for r in rows], **style)
        for variant in variants:
            if variant.name == name and variant.timesteps == largest:
                curve = [100 * share for share in module.step_curves[variant.key]]
                right.plot(range(1, largest + 1), curve, **style)
    steps = sorted({row.timesteps for row in module.results if row.timesteps})
    left.set_xscale("log", base=2)
    left.set_xticks(steps, [str(number) for number in steps])
    left.set(xlabel="time steps T", ylabel=f"accuracy in % ({split}, n = {module.results[0].n})")
    left.set_title("converted for each T", fontsize=10)
    right.set(xlabel="time step")
    right.set_title(f"after each step of the networks for T = {largest}", fontsize=10)
    left.legend(fontsize=8, loc="lower right")
    return figure


def bias_figure(module: SpikingClassifier) -> Figure:
    """The temporal bias of each layer over the steps, as quantile bands over channels."""
    variant = module.headline()
    neurons = module.network(variant).neurons()
    columns = min(4, len(neurons))
    rows = -(-len(neurons) // columns)
    figure = new_figure(3 * columns + 0.5, 2.2 * rows + 0.6)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True)
    for axes in grid.flat[len(neurons) :]:
        axes.set_visible(False)
    for axes, (name, neuron) in zip(grid.flat, neurons.items(), strict=False):
        relative = (neuron.temporal_bias / neuron.threshold).float().cpu()
        steps = range(1, variant.timesteps + 1)
        low, first, middle, third, high = (
            relative.quantile(q, dim=1).tolist() for q in (0.05, 0.25, 0.5, 0.75, 0.95)
        )
        color = STYLES["snn_ftbc_exact"]["color"]
        axes.fill_between(steps, low, high, color=color, alpha=0.2, label="5 to 95 %")
        axes.fill_between(steps, first, third, color=color, alpha=0.4, label="25 to 75 %")
        axes.plot(steps, middle, color=color, label="median")
        axes.axhline(0, color="black", linewidth=0.6)
        axes.set_title(name, fontsize=8)
        axes.tick_params(labelsize=7)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    grid.flat[0].legend(fontsize=6)
    figure.supxlabel("time step", fontsize=9)
    figure.supylabel("bias / threshold", fontsize=9)
    label = LABELS[variant.name]
    figure.suptitle(f"{label}, T = {variant.timesteps}: bias over channels", fontsize=10)
    return figure
