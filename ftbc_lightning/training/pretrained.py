"""Weights that people have: files, and torchvision's by name."""

from pathlib import Path
from urllib.error import URLError

from torch import nn
from torchvision.models import get_weight

from ftbc_lightning.ann.weights import fit_state, load_weights
from ftbc_lightning.errors import UserError


def load_pretrained(network: nn.Module, source: str) -> None:
    """Load weights from a file or, by torchvision's name, from its hub.

    Args:
        network: Filled in place.
        source: A file (`.pt`, `.pth`, `.ckpt`, `.safetensors`), or a name such as
            `ResNet34_Weights.IMAGENET1K_V1`, which is downloaded once if it is not cached.

    Raises:
        UserError: There is no such file or name, it cannot be fetched, or it does not fit.
    """
    if "_Weights." not in source or Path(source).exists():
        load_weights(network, source)
        return
    try:
        state = get_weight(source).get_state_dict(progress=True, check_hash=True)
    except (ValueError, AttributeError, KeyError) as error:
        raise UserError(
            f"torchvision has no weights {source!r}; `torchvision.models.list_models()` and "
            "`get_model_weights` list what it has."
        ) from error
    except (URLError, OSError, RuntimeError) as error:
        raise UserError(
            f"The weights {source} cannot be fetched ({type(error).__name__}: {error}). Fetch the "
            "file elsewhere and give its path."
        ) from error
    fit_state(network, dict(state), source)
