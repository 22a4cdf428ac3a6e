"""How the corrections are found: one object, read by `calibrate`, the callback and `compare`."""

from dataclasses import dataclass
from typing import Literal, TypedDict, get_args

from ftbc_lightning.errors import UserError, check_choice
from ftbc_lightning.snn.weight_rounding import check_bits

Target = Literal["auto", "step", "cumulative", "ramp", "ideal"]


class CalibrationOptions(TypedDict, total=False):
    """Arguments of `calibrate`; see `CalibrationSettings`."""

    target: Target
    alpha: float
    rounds: int
    shrinkage: float
    iterations: int
    weight_bits: int | None


@dataclass(frozen=True, kw_only=True)
class CalibrationSettings:
    """How the corrections are found.

    Args:
        target: What iterative and exact give each step: "step" E[a]; "cumulative" what the mean of
            s[0..t] lacks to E[a]; "ramp" less than E[a] at first and more at last; "ideal" what the
            neuron would fire on the ANN's activation; "auto" the best for the neuron: step for if,
            ideal for signed.
        alpha: Damping of `iterative`, above 0 and at most 1 (paper: 0.5, with QCFS 0.4).
        rounds: How often `iterative` goes through the calibration set at most; it ends earlier
            when the error on that set stops falling.
        shrinkage: Ridge of `weights`, above 0, in units of the mean square of the inputs.
        iterations: Of `backpropagation`, for each layer.
        weight_bits: Round the weights to integers of so many bits, sign included, 2 to 16, each
            output channel on a grid of its own, before the biases are found; a weight stage
            corrects a layer before it is rounded. Not rounded if None.

    Raises:
        UserError: A setting is out of range.
    """

    target: Target = "auto"
    alpha: float = 0.5
    rounds: int = 1
    shrinkage: float = 0.03
    iterations: int = 500
    weight_bits: int | None = None

    def __post_init__(self) -> None:
        """Check what needs no data."""
        check_choice("target", self.target, get_args(Target))
        if not 0 < self.alpha <= 1:
            raise UserError(f"alpha is {self.alpha}; it must be above 0 and at most 1.")
        if not self.shrinkage > 0:
            raise UserError(f"shrinkage is {self.shrinkage}; it must be above 0.")
        for name, number in (("rounds", self.rounds), ("iterations", self.iterations)):
            if number < 1:
                raise UserError(f"{name} is {number}; at least 1 is needed.")
        if self.weight_bits is not None:
            check_bits(self.weight_bits)

    def options(self) -> CalibrationOptions:
        """The settings as keyword arguments of `calibrate`."""
        return CalibrationOptions(
            target=self.target,
            alpha=self.alpha,
            rounds=self.rounds,
            shrinkage=self.shrinkage,
            iterations=self.iterations,
            weight_bits=self.weight_bits,
        )
