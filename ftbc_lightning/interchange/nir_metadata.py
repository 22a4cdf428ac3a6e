"""What the metadata of a NIR graph say, and what a person is told of it."""

from typing import Any

from ftbc_lightning.interchange.description import Description
from ftbc_lightning.interchange.neuron_kind import NeuronKind
from ftbc_lightning.interchange.unit_threshold import Bias
from ftbc_lightning.version import __version__

UNSAID = (
    "NIR has no time-varying bias and no start membrane, and its readers differ in the reset: "
    "b[t], v0 and the flag reset=subtract are in the metadata of the neurons, which a reader has "
    "to apply; bias=clock makes them weights from channels of the input that say which step it "
    "is, and bias=mean folds their mean into the weights"
)
"""What a person has to know who hands the file on."""

CLOCK = (
    "behind its channels the sample has one more for each step: at step t the t-th of them is 1 "
    "everywhere and the others are 0; they bring b[t] and v0 to the neurons"
)
"""What a person has to give the network besides the sample."""

DT = 1e-4
"""One time step in seconds: snnTorch takes it to be so, and any other gives the same graph with
other time constants."""


def graph_metadata(description: Description, bias: Bias) -> dict[str, Any]:
    """The metadata of a graph.

    Args:
        description: Of the network, thresholds 1.
        bias: What became of v0 and b[t].
    """
    kind = description.kind()
    return {
        "program": f"ftbc-lightning {__version__}",
        "timesteps": description.timesteps,
        "bias": bias,
        "equations": "; ".join(NeuronKind().facts()["equations"]),
        "reset": "subtract",
        "readout": kind.readout(),
        **({"coding": CLOCK} if bias == "clock" else {}),
        **(_leak_facts(kind, description.timesteps) if kind.leak != 1 else {}),
    }


def _leak_facts(kind: NeuronKind, timesteps: int) -> dict[str, Any]:
    """What a reader of `LIF` and `LI` nodes should know."""
    leak, read_out = kind.leak, kind.readout("what goes into it").partition(": ")[2]
    grown = f"(1 - {leak} ** {timesteps}) / (1 - {leak} ** (t + 1))"
    return {
        "dt": DT,
        "leak": leak,
        "equations": "; ".join(
            [f"u = {leak} * v + x + temporal_bias[t]", kind.fire(), "v = u - threshold * s"]
        ),
        "order": "leak, charge, bias, fire, reset; the network has its leak after the reset, "
        f"v = {leak} * (u - threshold * s), so initial_membrane is its v0 divided by the leak",
        "readout": f"logits after step {timesteps - 1}: the output, which the LI node has added "
        f"up; after step t: output * {grown}; without that node: {read_out}",
    }
