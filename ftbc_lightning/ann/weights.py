"""Put weights that people have into an ANN."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ftbc_lightning.errors import UserError
from ftbc_lightning.files.checkpoint import read_file

PREFIXES = ("module.", "model.", "ann.", "network.", "net.", "backbone.", "encoder.", "_orig_mod.")
"""What wrappers put before the names: DataParallel, Lightning modules, torch.compile."""

HOLDERS = (
    *("state_dict", "model_state_dict", "model_state", "model", "net", "network", "state"),
    *("ema_state_dict", "state_dict_ema", "model_ema", "ema", "params", "weights"),
)
"""Keys under which training scripts put the state dict; of several that fit the first is taken."""

DEEPEST = 3
"""How many such dictionaries may lie inside each other."""


def load_weights(network: nn.Module, path: str | Path) -> None:
    """Load weights into a network: a state dict with or without a prefix, or a checkpoint.

    Args:
        network: Filled in place.
        path: `.pt`, `.pth`, `.ckpt` or `.safetensors`.

    Raises:
        UserError: The file cannot be read in safe mode, or its names or shapes differ from the
            network's; missing and unexpected ones are listed.
    """
    fit_state(network, read_file(path), str(path))


def fit_state(network: nn.Module, content: dict[str, Any], source: str) -> None:
    """Put a state dict into a network, out of the dictionaries and prefixes of training scripts.

    Args:
        network: Filled in place.
        content: Names and tensors, or what a training script saved with them.
        source: Named in the message.

    Raises:
        UserError: Names or shapes differ; missing and unexpected ones are listed.
    """
    own = network.state_dict()
    found = [_fitting(state, set(own)) for state in _states(content)]
    state: dict[str, Tensor] = max(found, key=lambda one: len(one.keys() & own.keys()))
    missing, unexpected = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    missing = [key for key in missing if not key.endswith("num_batches_tracked")]
    reshaped = [
        f"{key} {list(state[key].shape)} instead of {list(own[key].shape)}"
        for key in own.keys() & state.keys()
        if own[key].shape != state[key].shape
    ]
    problems = [
        f"{what}: {', '.join(keys[:8])}{' ...' if len(keys) > 8 else ''}"
        for what, keys in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("of another shape", reshaped),
        )
        if keys
    ]
    if problems:
        raise UserError(
            f"The weights in {source} do not fit {type(network).__name__}; {'; '.join(problems)}."
            + _holds(content)
        )
    check_finite(state, source)
    network.load_state_dict(state, strict=False)


def _states(content: Mapping[str, Any], depth: int = 0) -> Iterator[dict[str, Tensor]]:
    """The dictionaries of tensors that a file holds, from the outside in, `HOLDERS` first."""
    named = {key: value for key, value in content.items() if isinstance(key, str)}
    yield {key: value for key, value in named.items() if isinstance(value, Tensor)}
    if depth < DEEPEST:
        for key in sorted(named, key=lambda key: HOLDERS.index(key) if key in HOLDERS else 99):
            if isinstance(named[key], Mapping):
                yield from _states(named[key], depth + 1)


def _holds(content: Mapping[str, Any]) -> str:
    """What a file holds, where that is no state dict."""
    if content and all(isinstance(value, Tensor) for value in content.values()):
        return ""
    keys = [str(key) for key in content]
    more = f" and {len(keys) - 12} more" if len(keys) > 12 else ""
    return (
        f" The file has the keys {', '.join(keys[:12]) or '(none)'}{more}; no state "
        "dict that fits was found there or in what they hold. Save the state dict alone."
    )


def check_finite(state: Mapping[str, Tensor], source: str) -> None:
    """Raise `UserError` naming the weights that are NaN or infinite.

    >>> check_finite({"bias": Tensor([0.5])}, "a.pt")
    """
    broken = [key for key, value in state.items() if not value.isfinite().all()]
    if broken:
        more = f" and {len(broken) - 3} more" if len(broken) > 3 else ""
        raise UserError(
            f"The weights in {source} are NaN or infinite ({', '.join(broken[:3])}{more}); the "
            "training that made them diverged. Take an earlier file, or train with a lower "
            "learning rate."
        )


def _fitting(state: dict[str, Tensor], own: set[str]) -> dict[str, Tensor]:
    """Strip the prefixes, one inside another at most three deep, that make most names fit."""
    candidates = [state]
    for _ in range(3):
        candidates += [
            stripped
            for candidate in candidates
            for prefix in PREFIXES
            if (stripped := _without(candidate, prefix))
        ]
    return max(candidates, key=lambda candidate: len(candidate.keys() & own))


def _without(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Those entries whose names begin with a prefix, without it."""
    return {
        key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)
    }
