"""Broken checkpoints and weights."""

import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from ftbc_lightning import SpikingClassifier
from ftbc_lightning.ann import SmallCNN
from ftbc_lightning.ann.weights import load_weights
from ftbc_lightning.files.checkpoint import read_checkpoint, read_file

VERSION = "pytorch-lightning_version"


class Evil:
    """Code in a pickle: it would make a file called `executed`."""

    def __reduce__(self) -> Any:
        """What pickle calls."""
        return (Path.touch, (Path("executed"),))


def network() -> SmallCNN:
    return SmallCNN(in_channels=1, width=4)


def module() -> SpikingClassifier:
    return SpikingClassifier(network())


def saved(folder: Path, content: Any, name: str = "file.ckpt") -> Path:
    torch.save(content, folder / name)
    return folder / name


def checkpoint(**changes: Any) -> dict[str, Any]:
    """A checkpoint of Lightning's form with the weights of `network`."""
    state = {f"ann.{key}": value for key, value in network().state_dict().items()}
    return {VERSION: "2.6.0", "state_dict": state, "hyper_parameters": {}, **changes}


def described(**entry: Any) -> dict[str, Any]:
    """A checkpoint with a spiking network whose description is changed."""
    own = module()
    example = torch.zeros(1, 1, 8, 8)
    from ftbc_lightning.analysis.network_variants import Variant

    own.convert(own.structure(example), [Variant("exact", 2)])
    content: dict[str, Any] = checkpoint(state_dict=own.state_dict())
    own.on_save_checkpoint(content)
    if "phase" in entry:
        content["ftbc"]["phase"] = entry.pop("phase")
    for key, value in entry.items():
        target = content["ftbc"]["networks"][0]
        target = target["map"] if key in ("format", "neurons", "input") else target
        target[key] = value
    return content


def load(path: Path) -> None:
    """What a Trainer does with a file."""
    module().on_load_checkpoint(read_checkpoint(path))


def empty(folder: Path) -> None:
    (folder / "file.ckpt").write_bytes(b"")
    read_checkpoint(folder / "file.ckpt")


def text(folder: Path) -> None:
    (folder / "file.ckpt").write_text("these are no weights\n")
    read_checkpoint(folder / "file.ckpt")


def truncated(folder: Path) -> None:
    path = saved(folder, checkpoint())
    path.write_bytes(path.read_bytes()[:-3000])
    read_checkpoint(path)


def truncated_safetensors(folder: Path) -> None:
    path = folder / "file.safetensors"
    save_file(dict(network().state_dict()), path)
    path.write_bytes(path.read_bytes()[:-300])
    load_weights(network(), path)


def code(folder: Path) -> None:
    load(saved(folder, checkpoint(evil=Evil())))


def bare_pickle(folder: Path) -> None:
    path = folder / "file.pt"
    path.write_bytes(pickle.dumps(Evil()))
    load_weights(network(), path)


def whole_module(folder: Path) -> None:
    load_weights(network(), saved(folder, network()))


def a_list(folder: Path) -> None:
    read_file(saved(folder, [torch.zeros(2)]))


def state_dict_for_checkpoint(folder: Path) -> None:
    read_checkpoint(saved(folder, network().state_dict()))


def no_version(folder: Path) -> None:
    read_checkpoint(saved(folder, {**checkpoint(), VERSION: "x"}))


def numbers_for_tensors(folder: Path) -> None:
    read_checkpoint(saved(folder, checkpoint(state_dict={"ann.conv1.weight": 3})))


def other_width(folder: Path) -> None:
    state = {f"ann.{k}": v for k, v in SmallCNN(in_channels=1, width=8).state_dict().items()}
    load(saved(folder, checkpoint(state_dict=state)))


def other_names(folder: Path) -> None:
    load_weights(network(), saved(folder, {"features.0.weight": torch.zeros(3)}, "file.pt"))


def other_shapes(folder: Path) -> None:
    load_weights(network(), saved(folder, SmallCNN(in_channels=3, width=4).state_dict()))


def nan_weights(folder: Path) -> None:
    state = network().state_dict()
    state["conv2.weight"][0] = torch.nan
    load_weights(network(), saved(folder, state))


def nan_checkpoint(folder: Path) -> None:
    content = checkpoint()
    content["state_dict"]["ann.linear.bias"][0] = torch.inf
    load(saved(folder, content))


def spiking_tensor_missing(folder: Path) -> None:
    content = described()
    state = dict(content["state_dict"])
    content["state_dict"] = state
    state.pop("snns.snn_ftbc_exact_T2.layers.neurons.act1.threshold")
    load(saved(folder, content))


def description_missing(folder: Path) -> None:
    content = described()
    del content["ftbc"]
    load(saved(folder, content))


def hyperparameters(folder: Path, **described: Any) -> None:
    path = saved(folder, checkpoint(hyper_parameters=described))
    SpikingClassifier.load_from_checkpoint(path)


def load_described(folder: Path) -> None:
    path = saved(folder, {**checkpoint(), "hyper_parameters": 3})
    SpikingClassifier.load_from_checkpoint(path)
