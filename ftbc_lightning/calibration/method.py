"""The names of calibration methods: stages joined by `+`."""

from dataclasses import dataclass, replace

from ftbc_lightning.calibration.stage import KINDS
from ftbc_lightning.calibration.stages import STAGES, calibrating, of_kind
from ftbc_lightning.errors import UserError

UNCALIBRATED = "snn_uncalibrated"
"""The name in results of the method `none`."""


@dataclass(frozen=True)
class Stages:
    """What a method does at each layer, in this order; each is the name of a stage.

    Attributes:
        weights: Such as "weights", ridge regression in closed form; None leaves them.
        membranes: Such as "potential"; None leaves the start membranes.
        biases: Such as "exact"; "none" leaves the temporal biases at zero.
        training: "finetuned" if the network was trained after its calibration.
    """

    weights: str | None
    membranes: str | None
    biases: str
    training: str | None = None

    @property
    def method(self) -> str:
        """The method as it is written."""
        first = [stage for stage in (self.weights, self.membranes) if stage]
        biases = [self.biases] if self.biases != "none" or not first else []
        return "+".join([*first, *biases, *([self.training] if self.training else [])])

    @property
    def calibration(self) -> str:
        """The method without a training behind it.

        >>> parse_method("weights+exact+finetuned").calibration
        'weights+exact'
        """
        return replace(self, training=None).method

    @property
    def result_name(self) -> str:
        """How the method is called in results, `snn_weights_ftbc_exact`."""
        names = [STAGES[stage].name for stage in self.method.split("+")]
        return "_".join(["snn", *filter(None, names)]) if any(names) else UNCALIBRATED


def parse_method(method: str) -> Stages:
    """Read a method: one stage of each kind at most, in this order, joined by `+`.

        [weights | backpropagation] + [potential] + [none | static | iterative | exact]
            + [finetuned]

    A stage of weights or membranes alone leaves the temporal biases at zero: `weights` and
    `weights+none` are one method.

    Raises:
        UserError: A stage is unknown, stands twice or at the wrong place.

    >>> parse_method("weights+exact").result_name
    'snn_weights_ftbc_exact'
    >>> parse_method("none+finetuned").result_name
    'snn_finetuned'
    >>> parse_method("weights+none").method
    'weights'
    """
    given = str(method).split("+")
    places = [KINDS.index(STAGES[name].kind) for name in given if name in STAGES]
    if len(places) < len(given) or places != sorted(set(places)):
        groups = "; ".join(_listed(of_kind(kind)) for kind in KINDS if kind != "training")
        raise UserError(
            f"Calibration method {method!r} is unknown; choose one of "
            f"{', '.join(calibrating())}, or join them by + in this order, one of each group at "
            f"most: {groups} (such as weights+exact)."
        )
    by_kind = dict(zip(places, given, strict=True))
    return Stages(by_kind.get(0), by_kind.get(1), by_kind.get(2, "none"), by_kind.get(3))


def _listed(names: list[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last
