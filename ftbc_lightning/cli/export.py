"""`ftbc export`: from a checkpoint to a file for another program."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import torch

from ftbc_lightning.analysis.network_variants import Variant
from ftbc_lightning.errors import UserError, check_choice
from ftbc_lightning.files.run_configuration import run_configuration
from ftbc_lightning.files.whole_file import make_folder
from ftbc_lightning.interchange import FORMATS, mean_bias
from ftbc_lightning.interchange import export as write
from ftbc_lightning.interchange.hub import from_pretrained
from ftbc_lightning.interchange.unit_threshold import Bias
from ftbc_lightning.snn.network import SpikingNetwork
from ftbc_lightning.snn.simulation import simulate
from ftbc_lightning.training.finished_networks import choose, finished_networks


def export(
    ckpt_path: str | None = None,
    format: str = "safetensors",
    method: str | None = None,
    timesteps: int | None = None,
    output: str | None = None,
    bias: Bias = "metadata",
    bits: int | None = None,
    input_shape: list[int] | None = None,
) -> None:
    """Write one spiking network of a checkpoint to a file for another program.

    Args:
        ckpt_path: The snn.ckpt of a run, or a folder that `ftbc push --out` has written.
        format: safetensors (weights, thresholds, biases and graph), nir (other simulators and
            chips), onnx (one time step), torch_export (a program of all steps).
        method: Whose calibration is taken; exact, or the last in the file, if not given.
        timesteps: For which T; the largest if not given.
        output: The file, whose folder is made; beside the checkpoint, named after the network,
            if not given.
        bias: What nir does with the temporal biases: metadata keeps them beside the graph, clock
            makes them weights from input channels that say which step it is, mean adds their mean
            to the weights' bias and says what that costs.
        bits: Write integers, weights of so many bits, 2 to 16; safetensors alone. Best after
            `ftbc calibrate --calibration.weight_bits` with the same number.
        input_shape: Shape of one sample, for a checkpoint of an earlier program.

    Raises:
        UserError: There is no such file or network, or the format has no place for it.
    """
    if ckpt_path is None:
        raise UserError("Give the network with --ckpt_path snn.ckpt.")
    check_choice("format", format, FORMATS)
    source = Path(ckpt_path)
    found = (_of_folder if source.is_dir() else _of_run)(source, method, timesteps)
    snn, variant = found.snn, found.variant
    path = Path(output or found.beside / f"{found.name}{FORMATS[format].suffix}")
    make_folder(path.parent)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        write(snn, path, format=format, bias=bias, bits=bits, input_shape=input_shape)
    made = found.name if variant is None else variant.method
    print(f"{made}, T = {snn.timesteps}: {path}")
    for message in said:
        if "ftbc" in message.filename and message.category is UserWarning:
            print(f"Note: {message.message}.")
    if variant is not None and bits not in (None, variant.weight_bits):
        print(
            f"Note: this network was not calibrated for weights of {bits} bits, which costs "
            f"accuracy at few bits; `ftbc calibrate --calibration.weight_bits {bits}` does that."
        )
    if bias == "mean":
        print(cost_of_mean_bias(snn, ckpt_path))


@dataclass(frozen=True)
class _Found:
    """A network, where its file goes, and what a run says of it."""

    snn: SpikingNetwork
    beside: Path
    name: str
    variant: Variant | None = None


def _of_run(path: Path, method: str | None, timesteps: int | None) -> _Found:
    networks = finished_networks(path)
    variant = choose(networks, method=method, timesteps=timesteps)
    return _Found(networks.network(variant), path.parent, variant.key, variant)


def _of_folder(folder: Path, method: str | None, timesteps: int | None) -> _Found:
    if (folder / "snn.ckpt").is_file():
        raise UserError(f"{folder} is a folder; give the checkpoint in it, {folder / 'snn.ckpt'}.")
    snn = from_pretrained(folder)
    if method is not None or timesteps not in (None, snn.timesteps):
        raise UserError(
            f"{folder} holds one network, for T = {snn.timesteps}; leave --method and --timesteps "
            "out."
        )
    return _Found(snn, folder, folder.resolve().name)


def cost_of_mean_bias(snn: SpikingNetwork, ckpt_path: str) -> str:
    """One line: the measure with b[t] and with its mean, on the validation split of the run."""
    config = run_configuration(ckpt_path)
    if config is None or Path(ckpt_path).is_dir():
        return (
            "Note: what the mean bias costs is not known, because the run's config.yaml does not "
            "lie beside the checkpoint."
        )
    from ftbc_lightning.training.reload import datamodule, reload  # need Lightning

    module, data = reload(ckpt_path), datamodule(config)
    data.prepare_data()
    data.setup("validate")
    module.follow(data)
    task, networks = module.task, (snn, mean_bias(snn))
    metrics = [task.metric(snn.timesteps) for _ in networks]
    with torch.no_grad():
        for images, given in data.val_dataloader():
            labels = task.truth(given, images, module.ann)
            for network, metric in zip(networks, metrics, strict=True):
                task.judge(metric, simulate(network, images), labels, images)
    own, mean = (task.measure.exactly(metric.curve()[-1]) for metric in metrics)
    return (
        f"Note: on {metrics[0].samples} validation samples the {task.measure.label} is {own} with "
        f"b[t] and v0, {mean} with their mean, as written."
    )
