"""How thresholds are chosen: one object, read by `convert`, the callback and `compare`."""

from dataclasses import dataclass
from typing import Literal, get_args

from ftbc_lightning.errors import UserError, check_choice
from ftbc_lightning.snn.neurons.integrate_and_fire import HalfThreshold

Scope = Literal["channel", "layer"]

UPDATES = 200


@dataclass(frozen=True, kw_only=True)
class ThresholdSettings:
    """How thresholds are chosen.

    Args:
        threshold_rule: Which rule.
        scope: One threshold for each channel, or one for each layer.
        half_threshold: v0 = theta/2, theta/(2T) added at every step, or none.
        percent: Of the `percentile` rule, above 0 and at most 100.
        balancing_updates: Of the `balanced` rule, at least 1; a warning names the layers for which
            they are not enough.

    Raises:
        UserError: A setting is out of range.
    """

    threshold_rule: str = "mse"
    scope: Scope = "channel"
    half_threshold: HalfThreshold = "initial"
    percent: float = 99.9
    balancing_updates: int = UPDATES

    def __post_init__(self) -> None:
        """Check what needs no data."""
        check_choice("scope", self.scope, get_args(Scope))
        check_choice("half_threshold", self.half_threshold, get_args(HalfThreshold))
        if not 0 < self.percent <= 100:
            raise UserError(f"percent is {self.percent}; it must be above 0 and at most 100.")
        if self.balancing_updates < 1:
            raise UserError(f"balancing_updates is {self.balancing_updates}; at least 1 is needed.")
