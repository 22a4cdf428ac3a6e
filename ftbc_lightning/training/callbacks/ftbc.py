"""The callback: converts when the fit ends, calibrates when the validation run begins."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from ftbc_lightning.analysis.network_variants import Variant
from ftbc_lightning.calibration import parse_method
from ftbc_lightning.calibration.finetuned import refuse_training
from ftbc_lightning.calibration.settings import CalibrationSettings
from ftbc_lightning.calibration.targets import DEPENDS_ON_TIMESTEPS
from ftbc_lightning.calibration.weights import bytes_needed
from ftbc_lightning.errors import UserError, check_choice
from ftbc_lightning.graph.functions import Functions
from ftbc_lightning.graph.propagation import Plan
from ftbc_lightning.snn.conversion import MaxPooling
from ftbc_lightning.snn.network import SpikingNetwork
from ftbc_lightning.snn.neurons.integrate_and_fire import check_timesteps
from ftbc_lightning.snn.neurons.settings import NeuronSettings
from ftbc_lightning.snn.statistics import Reduce
from ftbc_lightning.snn.thresholds import RULES, ThresholdSettings
from ftbc_lightning.training.calibration_draw import CalibrationDraw
from ftbc_lightning.training.callbacks.calibration_samples import (
    calibration_batches,
    datamodule_of,
    reduction_over,
)
from ftbc_lightning.training.callbacks.device_line import total_memory
from ftbc_lightning.training.callbacks.log_rows import by_calibration
from ftbc_lightning.training.callbacks.loggers import Plain, log_rows, takers
from ftbc_lightning.training.callbacks.memory_needed import check_memory
from ftbc_lightning.training.callbacks.progress import CalibrationProgress
from ftbc_lightning.training.callbacks.strategies import refuse_losing
from ftbc_lightning.training.module import SpikingClassifier


@dataclass(frozen=True, kw_only=True)
class Settings(ThresholdSettings, CalibrationSettings, NeuronSettings):
    """Which neurons there are, how thresholds are chosen and corrections found."""

    def __post_init__(self) -> None:
        """Check what needs no data."""
        check_choice("threshold_rule", self.threshold_rule, RULES)
        ThresholdSettings.__post_init__(self)
        CalibrationSettings.__post_init__(self)
        NeuronSettings.__post_init__(self)

    @property
    def neurons(self) -> NeuronSettings:
        """Which neurons there are."""
        return NeuronSettings(neuron=self.neuron, levels=self.levels, leak=self.leak)


class ForwardTemporalBiasCorrection(Callback):
    """Convert in `on_fit_end`, calibrate in `on_validation_start` of the next validation run.

    The uncalibrated network is always built too: it is what a calibration is compared with.

    Args:
        timesteps: Every T that a network is converted and calibrated for.
        methods: The calibration methods to compare: stages, or several joined by +, such as
            weights+exact.
        max_pooling: What becomes of a max pooling that spikes reach: "sums" takes the maximum
            over what has arrived so far, and says so; "refuse" ends with an error.
        functions: What becomes of functions that are not linear, such as GELU, gates, norms and
            attention: "refuse" ends with an error; "in_time" takes them over what has arrived so
            far, without spikes; "encoded" also puts neurons before each layer that would read no
            spikes else.
        anytime: Calibrate once, for the largest T, and read that network after every smaller T.
            Needs thresholds and v0 that do not depend on T. `exact` and `iterative` then find
            the same biases as a calibration for each T would, because b[0..t] does not depend on
            later steps; the other stages are fitted to the largest T.
        settings: Those of neurons, thresholds and corrections; see `NeuronSettings`,
            `ThresholdSettings` and `CalibrationSettings`.

    Raises:
        UserError: A setting is out of range.
    """

    def __init__(
        self,
        *,
        timesteps: Sequence[int] = (1, 2, 4, 8, 16),
        methods: Sequence[str] = ("static", "iterative", "exact", "weights+exact"),
        max_pooling: MaxPooling = "sums",
        functions: Functions = "refuse",
        anytime: bool = False,
        **settings: Any,
    ) -> None:
        if not timesteps:
            raise UserError("timesteps is empty; give at least one number of time steps.")
        for number in timesteps:
            check_timesteps(number)
        self.settings = Settings(**settings)
        chosen = [parse_method(method).method for method in methods]
        refuse_training(chosen)
        check_choice("max_pooling", max_pooling, get_args(MaxPooling))
        check_choice("functions", functions, get_args(Functions))
        self.max_pooling, self.functions = max_pooling, functions
        names = list(dict.fromkeys(["none", *chosen]))
        self.anytime = anytime
        every = tuple(sorted(set(timesteps)))
        if anytime:
            _check_anytime(self.settings)
            self.variants = [Variant(m, every[-1], serves=every) for m in names]
        else:
            self.variants = [Variant(m, t) for t in every for m in names]
        neurons, bits = self.settings.neurons, self.settings.weight_bits
        self.variants = [replace(v, neurons=neurons, weight_bits=bits) for v in self.variants]

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse what would lose the conversion in silence."""
        refuse_losing(trainer.strategy)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Drop networks of an earlier fit, and check that what is trained can be converted."""
        module = _classifier(pl_module)
        module.reset()
        self._check(trainer, module)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Convert."""
        self.convert(trainer, _classifier(pl_module))

    def convert(self, trainer: Trainer, module: SpikingClassifier) -> None:
        """Build the structure of every network; thresholds and biases come with validation."""
        structure = self._check(trainer, module)
        module.convert(structure, self.variants)
        pools = Plan(structure.layers).pools
        if pools:
            rank_zero_info(
                f"{len(pools)} max poolings read spikes: they take the maximum over what has "
                "arrived so far, with a counter at each position (--calibration.max_pooling)."
            )

    def structure(
        self, module: SpikingClassifier, example: Tensor, outputs: int | None
    ) -> SpikingNetwork:
        """The spiking network that the ANN of a module becomes; see `SpikingNetworks.structure`."""
        return module.structure(
            example, outputs, functions=self.functions, max_pooling=self.max_pooling
        )

    def _check(self, trainer: Trainer, module: SpikingClassifier) -> SpikingNetwork:
        """Refuse a network that does not convert, or does not fit the data or the memory."""
        data = datamodule_of(trainer)
        found = self.structure(module, example_input(trainer), module.task.outputs_of(data))
        samples = getattr(data, "calibration_samples", 1)
        corrected = (parse_method(variant.method).weights for variant in self.variants)
        weights = bytes_needed(found, samples) if "weights" in corrected else 0
        check_memory(
            found.shapes,
            timesteps=max(variant.timesteps for variant in self.variants),
            networks=len(self.variants),
            samples=samples // trainer.world_size,
            weights=weights,
            available=total_memory(trainer.strategy.root_device),
        )
        return found

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Choose thresholds and calibrate, once, in the first validation run after conversion."""
        module = _classifier(pl_module)
        if (
            trainer.state.fn != TrainerFn.VALIDATING
            or trainer.sanity_checking
            or module.phase != "converted"
        ):
            return
        batches = calibration_batches(trainer)
        with trainer.precision_plugin.forward_context():
            loggers = trainer.loggers if trainer.is_global_zero else []
            seconds = self._calibrate(module, batches, reduction_over(trainer), takers(loggers))
        module.calibrated(seconds)
        own = torch.tensor(sum(len(batch[0]) for batch in batches), device=pl_module.device)
        samples = int(reduction_over(trainer)(own, "sum"))
        rank_zero_info(f"Calibrated {len(self.variants)} networks on {samples} samples.")

    def _calibrate(
        self, module: SpikingClassifier, batches: list[Any], reduce: Reduce, loggers: list[Plain]
    ) -> dict[str, float]:
        """Thresholds and biases of every variant, logged; returns the seconds that each took."""
        networks = {variant: module.network(variant) for variant in self.variants}
        reference = next(iter(networks.values())).traced(module.ann)
        seconds = {}
        with CalibrationProgress(len(self.variants)) as progress:
            draw = CalibrationDraw(
                *(reference, next(iter(networks.values())), batches),
                thresholds=self.settings,
                corrections=self.settings,
                reduce=reduce,
                progress=progress,
            )
            for variant, network in networks.items():
                progress.begin(f"T={variant.timesteps} {variant.method}")
                outcome, seconds[variant.key] = draw.calibrate(network, variant.method)
                log_rows(loggers, by_calibration(variant, network, outcome))
        return seconds


def _check_anytime(settings: Settings) -> None:
    """Raise `UserError` where thresholds or v0 depend on T."""
    rule = settings.threshold_rule
    found = f"calibration.threshold_rule {rule}" if RULES[rule].depends_on_timesteps else ""
    if settings.half_threshold == "per_step":
        found = f"{found} and " * bool(found) + "calibration.half_threshold per_step"
    if settings.target in DEPENDS_ON_TIMESTEPS:
        raise UserError(
            f"calibration.anytime serves every T with one network, but calibration.target "
            f"{settings.target} depends on T. Choose another target, or leave anytime out."
        )
    if found:
        fixed = [name for name, each in RULES.items() if not each.depends_on_timesteps]
        raise UserError(
            f"calibration.anytime serves every T with one network, but {found} depends on T. "
            f"Choose another threshold rule ({', '.join(fixed)}) with half_threshold initial or "
            "none, or leave anytime out."
        )


def _classifier(module: LightningModule) -> SpikingClassifier:
    if not isinstance(module, SpikingClassifier):
        raise UserError(
            f"ForwardTemporalBiasCorrection needs a SpikingClassifier, not {type(module).__name__};"
            " pass your network to SpikingClassifier(network)."
        )
    return module


def makes_networks(module: LightningModule, stage: str) -> bool:
    """Say whether a run that is being set up makes networks, rather than evaluate those of a file.

    It trains an ANN, or its networks are converted and not calibrated yet, or are in no file.
    """
    made = getattr(module, "phase", None) == "converted" or getattr(module, "unsaved", False)
    return stage == "fit" or made


def example_input(trainer: Trainer) -> Tensor:
    """One empty input of the shape, and where it has one the `input_dtype`, of the datamodule."""
    return example_of(datamodule_of(trainer))


def example_of(data: Any) -> Tensor:
    """One empty input of a datamodule.

    Raises:
        UserError: It does not say its shape.
    """
    shape = getattr(data, "input_shape", None)
    if shape is None:
        raise UserError(
            "The datamodule has no `input_shape`, the shape of one input such as (3, 32, 32); "
            "conversion needs it to know the channels of each layer."
        )
    return torch.zeros(1, *shape, dtype=getattr(data, "input_dtype", torch.float32))
