"""Networks of timm by their names alone: `--model.network timm/resnet18d`."""

from collections.abc import Sequence
from typing import Any

from ftbc_lightning.ann.timm_network import PREFIX

OPTION = "--model.network"
FUNCTION = "ftbc_lightning.ann.timm_network"


def in_words(words: Sequence[str]) -> list[str]:
    """The words of a command, with a name of timm written out.

    >>> in_words(["inspect", "--model.network", "timm/resnet18d"])[1:]
    ['--model.network', 'ftbc_lightning.ann.timm_network', '--model.network.name', 'resnet18d']
    """
    found: list[str] = []
    for word in words:
        option, equals, value = word.partition("=")
        joined = option == OPTION and bool(equals)
        name = value if joined else word
        if name.startswith(PREFIX) and (joined or found[-1:] == [OPTION]):
            found += [OPTION] if joined else []
            found += [FUNCTION, f"{OPTION}.name", name.removeprefix(PREFIX)]
        else:
            found.append(word)
    return found


def in_configuration(content: Any) -> Any:
    """What a configuration says, with a name of timm written out.

    >>> in_configuration({"model": {"network": "timm/resnet18d"}})["model"]["network"]
    {'class_path': 'ftbc_lightning.ann.timm_network', 'init_args': {'name': 'resnet18d'}}
    """
    model = content.get("model") if isinstance(content, dict) else None
    if not isinstance(model, dict):
        return content
    network = model.get("network")
    described = network if isinstance(network, dict) else {"class_path": network}
    name = described.get("class_path")
    if not isinstance(name, str) or not name.startswith(PREFIX):
        return content
    settings = {"name": name.removeprefix(PREFIX), **(described.get("init_args") or {})}
    written = {"class_path": FUNCTION, "init_args": settings}
    return {**content, "model": {**model, "network": written}}
