"""The calibration samples of a trainer's datamodule, and sums over its processes."""

from typing import Any, Literal

from lightning import Trainer
from torch import Tensor

from ftbc_lightning.errors import UserError
from ftbc_lightning.snn.statistics import Reduce, identity


def datamodule_of(trainer: Trainer) -> Any:
    """The datamodule.

    Raises:
        UserError: There is none, or it has no `calibration_dataloader`.
    """
    datamodule = getattr(trainer, "datamodule", None)
    if not hasattr(datamodule, "calibration_dataloader"):
        raise UserError(
            "Calibration needs a datamodule with `calibration_dataloader()`, as those in "
            "ftbc_lightning.data have; pass it as `datamodule=`."
        )
    return datamodule


def calibration_batches(trainer: Trainer) -> list[Any]:
    """This process's share of the calibration samples, on its device."""
    loader = datamodule_of(trainer).calibration_dataloader()
    return [trainer.strategy.batch_to_device(batch) for batch in loader]


def reduction_over(trainer: Trainer) -> Reduce:
    """How sums and maxima are merged over the trainer's processes."""
    if trainer.world_size == 1:
        return identity

    def reduce(values: Tensor, kind: Literal["sum", "max"]) -> Tensor:
        merged = trainer.strategy.reduce(values.clone(), reduce_op=kind)
        assert isinstance(merged, Tensor)
        return merged

    return reduce
