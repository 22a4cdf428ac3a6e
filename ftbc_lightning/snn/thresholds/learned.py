"""The threshold that the ANN has trained."""

from torch import Tensor

from ftbc_lightning.errors import UserError
from ftbc_lightning.snn.thresholds.rule import Activations, Rule


def learned(layer: Activations) -> Tensor:
    """Theta = the lambda of a QCFS or clipped ReLU activation.

    Returns:
        theta, a scalar.

    Raises:
        UserError: Nothing was trained here.
    """
    if layer.learned is None:
        raise UserError(
            f"Threshold rule 'learned' needs a QCFS or clipped ReLU activation, but {layer.name} "
            "has no trained threshold; choose mse, percentile or max."
        )
    return layer.statistics.maximum.new_tensor(layer.learned)


RULE = Rule(learned)
