"""What is compared: a spiking network among others, and one row of results."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ftbc_lightning.calibration import Stages, parse_method


@dataclass(frozen=True)
class Variant:
    """One spiking network among those that are compared.

    Attributes:
        method: How it is calibrated, stages joined by `+`.
        timesteps: T.
        seconds: What its thresholds and calibration took; 0 until they are done.
        serves: Every T that the network stands for, read after that step; T alone if empty.
    """

    method: str
    timesteps: int
    seconds: float = 0.0
    serves: tuple[int, ...] = ()

    @classmethod
    def of(cls, saved: Mapping[str, Any]) -> "Variant":
        """A variant from the entry of a checkpoint."""
        return cls(
            saved["method"],
            saved["timesteps"],
            float(saved["seconds"]),
            tuple(saved.get("serves", ())),
        )

    @property
    def reported(self) -> tuple[int, ...]:
        """The numbers of steps after which its accuracy is a result."""
        return self.serves or (self.timesteps,)

    @property
    def each(self) -> list["Variant"]:
        """One variant for every T that it stands for.

        >>> [variant.key for variant in Variant("exact", 4, serves=(2, 4)).each]
        ['snn_ftbc_exact_T2', 'snn_ftbc_exact_T4']
        """
        return [replace(self, timesteps=t, serves=()) for t in self.reported]

    @property
    def stages(self) -> Stages:
        """What its calibration consists of."""
        return parse_method(self.method)

    @property
    def name(self) -> str:
        """How the method is called in results, `snn_ftbc_exact`."""
        return self.stages.result_name

    @property
    def key(self) -> str:
        """Its name in the module, `snn_ftbc_exact_T4`."""
        return f"{self.name}_T{self.timesteps}"


def headline(variants: Iterable[Variant]) -> Variant:
    """The variant that stands for all: exact (else the last method) at the largest T.

    >>> headline([Variant("exact", 2), Variant("exact", 4), Variant("weights", 4)])
    Variant(method='exact', timesteps=4, seconds=0.0, serves=())
    """
    found = list(variants)
    exact = [variant for variant in found if variant.method == "exact"]
    return max(exact or found[-1:], key=lambda variant: variant.timesteps)


@dataclass(frozen=True)
class Result:
    """One row of `results.csv`; `timesteps` is None for the ANN.

    Attributes:
        split: The samples it was measured on.
        method: Its name in results.
        timesteps: T.
        accuracy: 0 to 1.
        n: How many samples.
        seed: Of the calibration draw.
        seconds: What thresholds and calibration took; of a network that serves every T, the same
            for each.
    """

    split: str
    method: str
    timesteps: int | None
    accuracy: float
    n: int
    seed: int | None
    seconds: float | None
