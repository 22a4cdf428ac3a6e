"""Options of the Trainer that a subcommand does not obey are refused rather than ignored."""

import lightning

from ftbc_lightning.errors import UserError


def refuse_unobeyed(trainer: lightning.Trainer, subcommand: str, *, instead: str) -> None:
    """Raise `UserError` where an option would have no effect, or several processes were asked for.

    Args:
        trainer: As it was set up.
        subcommand: Which obeys neither limits of batches nor runs in several processes.
        instead: The option that says how much is evaluated.
    """
    defaults = {
        **dict.fromkeys(("limit_val_batches", "limit_test_batches"), 1.0),
        **{"overfit_batches": 0.0, "fast_dev_run": False},
    }
    given = [name for name, value in defaults.items() if getattr(trainer, name) != value]
    if given:
        # a quick run of Lightning sets the limits itself
        name = "fast_dev_run" if "fast_dev_run" in given else given[0]
        raise UserError(f"--trainer.{name} has no effect on {subcommand}; leave it out. {instead}")
    if trainer.world_size > 1:
        raise UserError(f"{subcommand} runs in one process; give --trainer.devices 1.")


NEEDED = {
    **dict.fromkeys(("fit", "validate", "calibrate", "finetune"), "limit_val_batches"),
    **{"test": "limit_test_batches", "predict": "limit_predict_batches"},
}
"""The limit of what each subcommand evaluates that may run in several processes."""


def refuse_nothing_to_do(trainer: lightning.Trainer, subcommand: str) -> None:
    """Raise `UserError` where a limit leaves nothing to evaluate, so that no file would be made."""
    name = NEEDED.get(subcommand)
    if name is not None and getattr(trainer, name) == 0:
        raise UserError(
            f"--trainer.{name} 0 leaves {subcommand} nothing to evaluate; give at least 1 batch."
        )
