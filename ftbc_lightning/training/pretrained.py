"""Weights that people have: files, files of the hub, and torchvision's and timm's by name."""

from pathlib import Path
from typing import Any
from urllib.error import URLError

from torch import nn
from torchvision.models import get_weight

from ftbc_lightning.ann.timm_network import PREFIX, imported_timm
from ftbc_lightning.ann.weights import fit_state, load_weights
from ftbc_lightning.errors import UserError
from ftbc_lightning.files import hub
from ftbc_lightning.files.checkpoint import read_file


def load_pretrained(network: nn.Module, source: str) -> None:
    """Load weights from a file or a file of the hub, or by their name from torchvision or timm.

    Args:
        network: Filled in place.
        source: A file (`.pt`, `.pth`, `.ckpt`, `.safetensors`), one of the Hugging Face Hub
            (`hf://owner/repo/file`, `hf://owner/repo@revision/file`), or a name such as
            `ResNet34_Weights.IMAGENET1K_V1` or `timm/resnet18d.ra2_in1k`; downloaded once if
            it is not cached.

    Raises:
        UserError: There is no such file or name, it cannot be fetched, or it does not fit.
    """
    if not is_fetched(source):
        load_weights(network, source)
    elif source.startswith(hub.PREFIX):
        fit_state(network, read_file(hub.fetched(*hub.place(source))), source)
    elif source.startswith(PREFIX):
        fit_state(network, _of_timm(source.removeprefix(PREFIX)), source)
    else:
        fit_state(network, _of_torchvision(source), source)


def is_fetched(source: str) -> bool:
    """Whether weights come from elsewhere, and are no file of this machine.

    >>> is_fetched("weights.pt"), is_fetched("timm/resnet18d"), is_fetched("hf://me/net/ann.pt")
    (False, True, True)
    """
    named = "_Weights." in source or source.startswith((PREFIX, hub.PREFIX))
    return named and not Path(source).exists()


def _of_torchvision(source: str) -> dict[str, Any]:
    try:
        return dict(get_weight(source).get_state_dict(progress=True, check_hash=True))
    except (ValueError, AttributeError, KeyError) as error:
        raise UserError(
            f"torchvision has no weights {source!r}; `torchvision.models.list_models()` and "
            "`get_model_weights` list what it has."
        ) from error
    except (URLError, OSError, RuntimeError) as error:
        raise _not_fetched(source, error) from error


def _of_timm(name: str) -> dict[str, Any]:
    timm = imported_timm()
    plain, _, tag = name.partition(".")
    tags = [each.partition(".")[2] for each in timm.list_pretrained(f"{plain}.*")]
    if not tags or (tag and tag not in tags):
        found = ", ".join(f"{PREFIX}{plain}.{each}" for each in tags) or "none of that network"
        raise UserError(f"timm has no weights {PREFIX}{name}; there are: {found}.")
    try:
        return dict(timm.create_model(name, pretrained=True).state_dict())
    except Exception as error:  # its hub has errors of its own, and of several libraries
        raise _not_fetched(PREFIX + name, error) from error


def _not_fetched(source: str, error: Exception) -> UserError:
    first = (str(error).strip().splitlines() or [""])[0]
    return UserError(
        f"The weights {source} cannot be fetched ({type(error).__name__}: {first}). Fetch the file "
        "elsewhere and give its path."
    )
