"""The page that stands beside a network on the Hugging Face Hub."""

import json
from collections.abc import Mapping, Sequence

from ftbc_lightning.interchange.neuron_kind import kind_of
from ftbc_lightning.snn.network import SpikingNetwork
from ftbc_lightning.version import __version__

LIBRARY = "library_name: ftbc-lightning"
"""A line of every page that this program writes."""

TAGS = ("spiking-neural-network", "ann-to-snn-conversion", "ftbc")

USE = """## How to use it

Install `ftbc-lightning` with its extra `hub`. The file holds data alone; nothing in it is executed.

```python
from ftbc_lightning import from_pretrained, simulate

snn = from_pretrained("{repo}")
logits = simulate(snn, samples)  # [T, batch, ...]: a prediction after every step
```

`samples` are prepared as for the ANN that the network was made from.
"""


def model_card(
    snn: SpikingNetwork, repo: str, *, about: str | None = None, license: str | None = None
) -> str:
    """The page in Markdown, with what the hub reads in front.

    Args:
        snn: The network.
        repo: Its repository, OWNER/NAME.
        about: What there is to say; the network's T, neurons and input if None.
        license: An identifier of the hub, such as `apache-2.0`; left out if None.
    """
    about = about or "A spiking network, converted from an ANN.\n\n" + listed(facts(snn))
    title = f"# {repo.rpartition('/')[2]}"
    return "\n\n".join([_front(license), title, about.strip(), USE.format(repo=repo)])


def facts(snn: SpikingNetwork) -> dict[str, str]:
    """What the network itself tells."""
    kind, shape = kind_of(snn), snn.input_shape
    leak = f", leak {kind.leak:g}" if kind.leak != 1 else ""
    told = {
        "time steps T": str(snn.timesteps),
        "layers of neurons": str(len(snn.neurons())),
        "neuron": f"{kind.name}, spikes {kind.values()}{leak}",
        "one sample": " x ".join(map(str, shape)) if shape else "",
        "written by": f"ftbc-lightning {__version__}",
    }
    return {name: value for name, value in told.items() if value}


def listed(told: Mapping[str, str]) -> str:
    """Names and values as a table of two columns."""
    return table(["", ""], [[name, value] for name, value in told.items()])


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown.

    >>> print(table(["T", "accuracy"], [["4", "97.50"]]))
    | T | accuracy |
    |---|---|
    | 4 | 97.50 |
    """
    cells = [" | ".join(map(_cell, line)) for line in [head, *rows]]
    rule = "---|" * len(head)
    return "\n".join([f"| {cells[0]} |", f"|{rule}", *(f"| {line} |" for line in cells[1:])])


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _front(license: str | None) -> str:
    """What the hub reads: YAML, whose strings may be JSON's."""
    own = [] if license is None else [f"license: {json.dumps(license)}"]
    tags = (f"- {tag}" for tag in TAGS)
    return "\n".join(["---", *own, LIBRARY, "tags:", *tags, "---"])
