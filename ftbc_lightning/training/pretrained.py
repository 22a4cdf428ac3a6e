"""Weights that people have: files, and torchvision's and timm's by name."""

from pathlib import Path
from typing import Any
from urllib.error import URLError

from torch import nn
from torchvision.models import get_weight

from ftbc_lightning.ann.timm_network import PREFIX, imported_timm
from ftbc_lightning.ann.weights import fit_state, load_weights
from ftbc_lightning.errors import UserError


def load_pretrained(network: nn.Module, source: str) -> None:
    """Load weights from a file or, by the name of torchvision or timm, from its hub.

    Args:
        network: Filled in place.
        source: A file (`.pt`, `.pth`, `.ckpt`, `.safetensors`), or a name such as
            `ResNet34_Weights.IMAGENET1K_V1` or `timm/resnet18d.ra2_in1k`, downloaded once if
            it is not cached.

    Raises:
        UserError: There is no such file or name, it cannot be fetched, or it does not fit.
    """
    if Path(source).exists() or not ("_Weights." in source or source.startswith(PREFIX)):
        load_weights(network, source)
    elif source.startswith(PREFIX):
        fit_state(network, _of_timm(source.removeprefix(PREFIX)), source)
    else:
        fit_state(network, _of_torchvision(source), source)


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
