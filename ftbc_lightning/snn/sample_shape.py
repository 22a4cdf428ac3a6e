"""Samples of another shape than a network was converted for: told when they do not pass it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor

from ftbc_lightning.errors import UserError
from ftbc_lightning.snn.out_of_memory import is_out_of_memory


@contextmanager
def converted_for(shape: Sequence[int] | None, batches: Sequence[Tensor]) -> Iterator[None]:
    """Let samples of any shape pass, and name both shapes where they do not.

    A network of convolutions may take larger samples than the one it was converted with.

    Args:
        shape: What it was converted for, without the batch axis; None if that is not known.
        batches: What goes through it.

    Raises:
        UserError: A sample has another shape, and an operation has failed.
    """
    try:
        yield
    except (RuntimeError, IndexError, ValueError) as error:
        found = [list(batch.shape[1:]) for batch in batches]
        others = [other for other in found if shape is not None and other != list(shape)]
        if is_out_of_memory(error) or not others:
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"Samples of shape {others[0]} do not pass the network, which was converted for "
            f"samples of shape {list(shape or ())}: {reason}"
        ) from error
