"""Ways to run processes that a conversion does not outlive."""

from lightning.pytorch.strategies import (
    DeepSpeedStrategy,
    FSDPStrategy,
    ModelParallelStrategy,
    Strategy,
)

from ftbc_lightning.errors import UserError

SPAWNING = ("ddp_spawn", "ddp_fork", "ddp_notebook")
SHARDING = (FSDPStrategy, ModelParallelStrategy, DeepSpeedStrategy)


def refuse_losing(strategy: Strategy) -> None:
    """Raise `UserError` for a way to run processes that would lose or hide what is converted."""
    if getattr(strategy.launcher, "_start_method", None) is not None:
        raise UserError(
            "Strategies that spawn or fork their processes "
            f"({', '.join(SPAWNING)}) throw the conversion away when they end. Use "
            "--trainer.strategy ddp."
        )
    if isinstance(strategy, SHARDING):
        raise UserError(
            f"{type(strategy).__name__} divides the weights over the processes, and "
            "conversion and calibration read whole layers. Use --trainer.strategy ddp."
        )
