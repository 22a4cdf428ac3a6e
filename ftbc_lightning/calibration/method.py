"""The names of calibration methods: stages joined by `+`."""

from dataclasses import dataclass

from ftbc_lightning.errors import UserError

WEIGHTS = ("weights", "backpropagation")
POTENTIAL = "potential"
BIASES = ("none", "static", "iterative", "exact")
STAGES = (*WEIGHTS, POTENTIAL, *BIASES)

FIXED_NAMES = {
    "none": "snn_uncalibrated",
    "static": "snn_static",
    "iterative": "snn_ftbc_iterative",
    "exact": "snn_ftbc_exact",
}


@dataclass(frozen=True)
class Stages:
    """What a method does at each layer, in this order.

    Attributes:
        weights: "weights" (ridge regression in closed form), "backpropagation" or None.
        potential: Whether the start membrane of every neuron is corrected.
        bias: "static", "iterative" or "exact"; "none" leaves the temporal biases at zero.
    """

    weights: str | None
    potential: bool
    bias: str

    @property
    def method(self) -> str:
        """The method as it is written."""
        first = [stage for stage in (self.weights, POTENTIAL * self.potential) if stage]
        return "+".join([*first, *([self.bias] if self.bias != "none" or not first else [])])

    @property
    def result_name(self) -> str:
        """How the method is called in results, `snn_weights_ftbc_exact`."""
        if self.method in FIXED_NAMES:
            return FIXED_NAMES[self.method]
        ftbc = {"iterative": "ftbc_iterative", "exact": "ftbc_exact"}
        return "_".join(["snn", *(ftbc.get(stage, stage) for stage in self.method.split("+"))])


def parse_method(method: str) -> Stages:
    """Read a method: one stage of each kind at most, in this order, joined by `+`.

        [weights | backpropagation] + [potential] + [none | static | iterative | exact]

    A weight or potential stage alone leaves the temporal biases at zero: `weights` and
    `weights+none` are one method.

    Raises:
        UserError: A stage is unknown, stands twice or at the wrong place.

    >>> parse_method("weights+exact").result_name
    'snn_weights_ftbc_exact'
    >>> parse_method("weights+none").method
    'weights'
    """
    given = str(method).split("+")
    groups = (WEIGHTS, (POTENTIAL,), BIASES)
    kinds = [next((k for k, group in enumerate(groups) if g in group), None) for g in given]
    places = [kind for kind in kinds if kind is not None]
    if len(places) < len(given) or places != sorted(set(places)):
        raise UserError(
            f"Calibration method {method!r} is unknown; choose one of {', '.join(STAGES)}, or "
            "join them by + in this order, one of each group at most: weights or "
            "backpropagation; potential; static, iterative or exact (such as weights+exact)."
        )
    by_kind = dict(zip(places, given, strict=True))
    return Stages(by_kind.get(0), 1 in by_kind, by_kind.get(2, "none"))
