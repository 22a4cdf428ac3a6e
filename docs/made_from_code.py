"""An mkdocs hook: tables that are made from the code take the place of their marks."""

import re
from collections.abc import Iterable, Iterator
from typing import Any, Literal, get_args, get_origin

import torch.nn.functional as F
from jsonargparse import ArgumentParser
from torch import nn

from ftbc_lightning.ann.activations import CLAMPS, QCFS, RECTIFIERS, ClippedReLU
from ftbc_lightning.cli.file_subcommands import FILE_SUBCOMMANDS
from ftbc_lightning.cli.parsers import parsers
from ftbc_lightning.cli.program import SUBCOMMANDS
from ftbc_lightning.graph import linear, max_pooling, operators, two_sided

MARK = re.compile(r"^<!-- made from the code: (\w+) -->$", re.MULTILINE)

OF_LIGHTNING = ("trainer", "checkpoint")
"""Groups of options that are Lightning's own; its manual describes them."""

NEURONS = (nn.ReLU, nn.ReLU6, nn.Hardtanh, ClippedReLU, QCFS)
"""Modules for which the converter asks one by one."""

CHECKPOINTS = {
    "fit": "a checkpoint of training to continue from; `last` is the run's own `ann.ckpt`.",
    "validate": "the `snn.ckpt` of a run.",
    "test": "the `snn.ckpt` of a run.",
}
"""What `--ckpt_path` is where Lightning describes it for every program."""

HIDDEN = re.compile(r"help$|print_config$|\.help$")
REPEATED = {"config", "seed_everything", "timesteps", "quiet"}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by mkdocs for each page."""
    return MARK.sub(lambda mark: "\n".join(TABLES[mark[1]]()), markdown)


def commands() -> Iterator[str]:
    """Each subcommand with the options that it alone has."""
    for name, parser in parsers().items():
        yield f"### ftbc {name}\n\n{_sentence(_description(name, parser))}\n"
        own = [a for a in _options(parser) if "." not in a.dest and a.dest not in _shared(name)]
        for action in own:
            lightning = name in CHECKPOINTS and action.dest == "ckpt_path"
            yield f"- `--ckpt_path`: {CHECKPOINTS[name]}" if lightning else _row(action)
        yield ""


def options() -> Iterator[str]:
    """The options that the subcommands with a configuration have in common, group by group."""
    parser = parsers()["fit"]
    yield "### General\n"
    yield from (_row(action) for action in _options(parser) if action.dest in REPEATED)
    for group in ("model", "data", "calibration", *OF_LIGHTNING):
        yield f"\n### {group}\n"
        found = [a for a in _options(parser) if f"{a.dest}.".startswith(f"{group}.")]
        if group in OF_LIGHTNING:
            yield "Lightning's own, see its manual: " + ", ".join(map(_name, found)) + "."
        else:
            yield from (_row(action) for action in found if action.dest != group or group == "data")


def operations() -> Iterator[str]:
    """What the converter accepts, by the way it is written."""
    yield "| role | modules | functions | methods of tensors |\n|---|---|---|---|"
    for role, columns in {
        "neuron": (NEURONS, *_functions_and_methods({F.relu6, *RECTIFIERS, *CLAMPS})),
        "two neurons, one for each sign": (
            two_sided.MODULES,
            *_functions_and_methods(two_sided.FUNCTIONS),
        ),
        "kept": (linear.LINEAR_MODULES, linear.LINEAR_FUNCTIONS, linear.LINEAR_METHODS),
        "kept, with the network's own weights": ((), linear.WEIGHTED_FUNCTIONS, ()),
        "kept, with the network's own places, shares or condition": (
            (),
            *_functions_and_methods(linear.READING | linear.INTERPOLATIONS | linear.CHOICES),
        ),
        "kept, with one factor that changes in time": (
            (),
            *_functions_and_methods(linear.SCALING | linear.PRODUCTS | linear.FACTORS.keys()),
        ),
        "kept, over axes that are not the batch": (
            (),
            *_functions_and_methods(linear.REDUCTIONS),
        ),
        "maximum": (
            max_pooling.MAX_POOL_MODULES,
            *_functions_and_methods(
                [
                    *max_pooling.MAX_POOL_FUNCTIONS,
                    *max_pooling.OVER_AXES,
                    *max_pooling.OF_TWO,
                ]
            ),
        ),
    }.items():
        yield f"| {role} | {' | '.join(_names(column) for column in columns)} |"


def refused() -> Iterator[str]:
    """What the converter refuses, with the way out that its message names."""
    yield "| type | what to do |\n|---|---|"
    for advice in dict.fromkeys(operators.WAYS_OUT.values()):
        kinds = (f"`{kind}`" for kind, found in operators.WAYS_OUT.items() if found == advice)
        yield f"| {', '.join(kinds)} | {advice} |"
    yield f"| anything else | {operators.DEFAULT_WAY_OUT} |"


TABLES = {"commands": commands, "options": options, "operations": operations, "refused": refused}


def _shared(name: str) -> set[str]:
    """Options that have a section of their own, or say nothing about this subcommand."""
    own = {"timesteps"} if name in FILE_SUBCOMMANDS else set()
    return (REPEATED | {"trainer", "model", "data", "calibration", "checkpoint"}) - own


def _options(parser: ArgumentParser) -> list[Any]:
    linked = {"calibration.timesteps", "checkpoint.dirpath"}
    return [
        action
        for action in parser._actions
        if action.dest not in linked and not HIDDEN.search(action.dest)
    ]


def _row(action: Any) -> str:
    choices = action._typehint if get_origin(getattr(action, "_typehint", None)) is Literal else ()
    default = getattr(action, "default", None)
    notes = [f"one of {', '.join(f'`{c}`' for c in get_args(choices))}"] if choices else []
    if default is not None and default != "==SUPPRESS==" and "._" not in str(default):
        notes.append(f"default `{_value(default)}`")
    noted = f" ({'; '.join(notes)})" if notes else ""
    return f"- {_name(action)}{noted}: {_plain(action.help)}"


def _name(action: Any) -> str:
    long = [option for option in action.option_strings if option.startswith("--")]
    return f"`{long[0] if long else action.dest.upper()}`"


def _value(default: Any) -> str:
    if isinstance(default, (list, tuple)):
        return f"[{','.join(map(str, default))}]"
    return str(default).lower() if isinstance(default, bool) else str(default)


def _plain(text: str | None) -> str:
    return " ".join((text or "").split())


def _description(name: str, parser: ArgumentParser) -> str:
    if name in FILE_SUBCOMMANDS:
        return str(FILE_SUBCOMMANDS[name].__doc__).partition("\n\n")[0]
    return SUBCOMMANDS[name] if name in CHECKPOINTS else str(parser.description)


def _sentence(text: str) -> str:
    return f"{_plain(text).rstrip('.')}."


def _functions_and_methods(found: Iterable[Any]) -> tuple[list[Any], list[Any]]:
    """What is called by name is a method of a tensor."""
    known = list(found)
    methods = [one for one in known if isinstance(one, str)]
    return [one for one in known if not isinstance(one, str)], methods


def _names(found: Iterable[Any]) -> str:
    names = {getattr(one, "__name__", str(one)).lstrip("_") for one in found}
    return ", ".join(f"`{name}`" for name in sorted(names, key=str.lower))
