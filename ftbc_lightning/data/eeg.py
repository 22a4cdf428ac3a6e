"""EEG: ten seconds at four electrodes, which come inside matplotlib; what follows is foretold."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib import cbook
from torch import Tensor

from ftbc_lightning.data.forecast import ForecastDataModule
from ftbc_lightning.errors import UserError

ELECTRODES = 4


class EEGDataModule(ForecastDataModule):
    """800 values at each of four electrodes, 80 in a second.

    The electrodes are four series of the same kind: an input is a window of one of them. Unless
    told otherwise, six of the ten seconds train, two validate and two test.

    Args:
        settings: Those of `ForecastDataModule`.
    """

    def __init__(
        self,
        *,
        window: int = 8,
        horizon: int = 2,
        batch_size: int = 32,
        validation_fraction: float = 0.25,
        **settings: Any,
    ) -> None:
        super().__init__(
            window=window,
            horizon=horizon,
            batch_size=batch_size,
            validation_fraction=validation_fraction,
            **settings,
        )

    def series(self) -> Sequence[Tensor]:
        """What each electrode measured, `[800]`.

        Raises:
            UserError: This matplotlib has come without its sample data.
        """
        try:
            path = cbook.get_sample_data("eeg.dat", asfileobj=False)
            values = np.fromfile(path, dtype="<f8")
        except OSError as error:
            raise UserError(
                "matplotlib is installed without its sample data (eeg.dat); install it from the "
                "package index."
            ) from error
        return list(torch.from_numpy(values).reshape(-1, ELECTRODES).T.unbind())
