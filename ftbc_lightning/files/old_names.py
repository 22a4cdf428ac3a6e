"""Names that an earlier version gave to settings and classes, and what they are called now."""

from collections.abc import Callable, Sequence
from typing import Any

SETTINGS = {"calibration_pictures": "calibration_samples", "pictures": "samples"}
"""Settings of subcommands and of this package's classes."""

OPTIONS = {
    f"--{group}{old}": f"--{group}{new}"
    for old, new in SETTINGS.items()
    for group in ("", "data.", "data.init_args.")
}

PACKAGE = "ftbc_lightning."

CLASSES = {
    f"{PACKAGE}{old}": f"{PACKAGE}{new}"
    for old, new in {
        "callbacks": "training.callbacks",
        "module": "training.module",
        "trainer": "training.trainer",
        "checkpoints": "training.checkpoints",
    }.items()
}
"""Where classes that a configuration names were."""

Told = Callable[[str, str], None]
"""Told the old name and the new one."""


def in_configuration(content: Any, told: Told) -> Any:
    """What a configuration says, by the names of today; settings of other classes stay.

    Args:
        content: Plain values, lists and dictionaries.
        told: Called for each old name that was found.

    >>> in_configuration({"data": {"calibration_pictures": 8}}, lambda old, new: None)
    {'data': {'calibration_samples': 8}}
    """
    found = _moved(content, told)
    if isinstance(found, dict):
        found = _settings(found, told)
        if isinstance(found.get("data"), dict):
            found["data"] = _settings(found["data"], told)
    return found


def in_words(words: Sequence[str], told: Told) -> list[str]:
    """The words of a command, by the option names of today.

    >>> in_words(["fit", "--data.calibration_pictures=8"], lambda old, new: None)
    ['fit', '--data.calibration_samples=8']
    """
    found = []
    for word in words:
        option, equals, value = word.partition("=")
        if option in OPTIONS:
            told(option, OPTIONS[option])
        found.append(f"{OPTIONS.get(option, option)}{equals}{value}")
    return found


def _moved(content: Any, told: Told) -> Any:
    """Classes by their paths of today, and their settings by their names."""
    if isinstance(content, list):
        return [_moved(item, told) for item in content]
    if not isinstance(content, dict):
        return content
    found = {key: _moved(value, told) for key, value in content.items()}
    path = found.get("class_path")
    if isinstance(path, str) and path.startswith(PACKAGE):
        found["class_path"] = _class(path, told)
        if isinstance(found.get("init_args"), dict):
            found["init_args"] = _settings(found["init_args"], told)
    return found


def _settings(content: dict[str, Any], told: Told) -> dict[str, Any]:
    for name in content.keys() & SETTINGS.keys():
        told(name, SETTINGS[name])
    return {SETTINGS.get(key, key): value for key, value in content.items()}


def _class(path: str, told: Told) -> str:
    """A class path, moved if its package was."""
    module, _, name = path.rpartition(".")
    for old, new in CLASSES.items():
        if module == old or module.startswith(f"{old}."):
            told(path, f"{new}.{name}")
            return f"{new}.{name}"
    return path
