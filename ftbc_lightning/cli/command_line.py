"""The command line: LightningCLI with more subcommands and with errors a person can read."""

import logging
import re
import sys
import warnings
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins.io import CheckpointIO

from ftbc_lightning.calibration.stages import calibrating
from ftbc_lightning.cli.arguments import (
    OneLineParser,
    check_given,
    nothing_fetched_in_vain,
    timesteps,
    trained_division,
    with_configuration,
    without,
)
from ftbc_lightning.cli.choices import list_choices
from ftbc_lightning.cli.configurations import with_paths
from ftbc_lightning.cli.names_of_today import names_of_today
from ftbc_lightning.data import DividedDataModule
from ftbc_lightning.errors import UserError
from ftbc_lightning.files.folder_lock import folder_locked
from ftbc_lightning.report.run_folder import LOGS
from ftbc_lightning.snn.neurons import NEURON_MODELS
from ftbc_lightning.snn.thresholds import RULES
from ftbc_lightning.training.callbacks import (
    ForwardTemporalBiasCorrection,
    LayerCurves,
    ResultFiles,
    RunRecord,
    Safeguard,
)
from ftbc_lightning.training.callbacks.device_line import described
from ftbc_lightning.training.callbacks.loggers import check_installed, finished_runs
from ftbc_lightning.training.callbacks.progress import CalibrationProgress
from ftbc_lightning.training.callbacks.safeguard import check_writable
from ftbc_lightning.training.callbacks.strategies import refuse_losing
from ftbc_lightning.training.checkpoints import SafeCheckpointIO
from ftbc_lightning.training.module import SpikingClassifier
from ftbc_lightning.training.subcommands import finetune
from ftbc_lightning.training.subcommands.obeyed import NEEDED, refuse_nothing_to_do
from ftbc_lightning.training.tasks import TASKS
from ftbc_lightning.training.trainer import Trainer

NOT_FOR_PEOPLE = {
    *("model", "datamodule", "dataloaders", "train_dataloaders", "val_dataloaders"),
    *("weights_only", "verbose", "return_predictions"),
}
"""Arguments of the Trainer's methods that make no sense on a command line."""


NOISE = (
    ".*does not have many workers.*",  # data in memory needs none
    ".*isinstance.treespec, LeafSpec.*",  # inside Lightning
    ".*exists and is not empty.*",  # a run is repeated in its own folder
    ".*dirpath has changed from.*",  # a checkpoint is evaluated into another folder
    ".*when logging on epoch level in distributed setting.*",  # counts are merged before
    ".*args parameter is intended to run from within Python.*",  # a run's own configuration
    ".*skip_none parameter was deprecated.*",  # inside Lightning
    ".*in eval mode at the start of training.*",  # spiking networks stay so
)
"""Warnings of libraries that a person can do nothing about."""


SAID_OTHERWISE = re.compile(
    r"litlogger|^(GPU|TPU|HPU) available: |^Seed set to |^LOCAL_RANK: |^You are using a CUDA device"
    r"|^`Trainer\.\w+` stopped: |^Loading `train_dataloader` to estimate"
)
"""Lines of Lightning: advertisements, and what the line on the device and the record say."""

SPEAKERS = (
    *("pytorch.utilities.rank_zero", "fabric.utilities.rank_zero", "fabric.utilities.seed"),
    *("pytorch.accelerators.cuda", "fabric.accelerators.cuda"),
)
"""Lightning's loggers that say them."""


def _is_news(record: logging.LogRecord) -> bool:
    return SAID_OTHERWISE.search(record.getMessage()) is None


def _listen_to_lightning(*, quiet: bool, verbose: bool) -> None:
    """Let Lightning say what a person has asked for: everything, news, or warnings alone."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING if quiet else logging.INFO)
    for speaker in SPEAKERS:
        logger = logging.getLogger(f"lightning.{speaker}")
        (logger.removeFilter if verbose else logger.addFilter)(_is_news)


CHOICES: Mapping[str, Collection[str]] = {
    "calibration.threshold_rule": RULES,
    "calibration.neuron": NEURON_MODELS,
    "model.task": TASKS,
}
"""Each option whose values are names, and the registry of those."""

READING = ("inspect", "diagnose")
"""Subcommands that leave nothing in the run's folder."""


class FTBCCLI(LightningCLI):
    """`ftbc fit | validate | test | predict | calibrate | compare | finetune | ...`."""

    given: Sequence[str] = ()
    ends = ExitStack()
    """What is undone when a command ends."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The subcommands, and the arguments of each that are not offered."""
        evaluating = ("fit", "validate", "test", "predict", "calibrate", "compare", "finetune")
        subcommands = (*evaluating, "inspect", "diagnose", "benchmark")
        return {subcommand: set(NOT_FOR_PEOPLE) for subcommand in subcommands}

    def _prepare_subcommand_parser(
        self, klass: type, subcommand: str, **kwargs: Any
    ) -> LightningArgumentParser:
        """Give arguments to the subcommand that a person has named alone: each costs 40 ms."""
        named = self.given[0] if self.given else None
        if named in self.subcommands() and subcommand != named:
            self._subcommand_method_arguments[subcommand] = []
            return self.init_parser(**kwargs)
        return super()._prepare_subcommand_parser(klass, subcommand, **kwargs)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the callbacks as groups, and tie together what is one setting to a person."""
        parser.add_argument(
            "--timesteps",
            type=timesteps,
            default=[1, 2, 4, 8, 16],
            help="Every T to convert and calibrate for, as 4 or 1,2,4.",
        )
        parser.add_argument(
            "--quiet", action="store_true", help="Print the final table and errors alone."
        )
        parser.add_argument(
            "-v", "--verbose", action="store_true", help="Print Lightning's own lines too."
        )
        parser.add_lightning_class_args(ForwardTemporalBiasCorrection, "calibration")
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        parser.set_defaults(
            {
                "checkpoint.filename": "ann",
                "checkpoint.save_on_train_epoch_end": True,
                "checkpoint.enable_version_counter": False,
            }
        )
        list_choices(parser, {**CHOICES, "calibration.methods": calibrating()})
        parser.link_arguments("timesteps", "calibration.timesteps")
        parser.link_arguments("trainer.default_root_dir", "checkpoint.dirpath")

    def before_instantiate_classes(self) -> None:
        """Let one seed be every draw's, and loggers without a folder write into the run's."""
        chosen = self.config[self.subcommand]
        data = chosen.data.get("init_args") or {}
        check_given(chosen.data.class_path, data)
        if "seed" in data and data["seed"] is None and type(chosen.seed_everything) is int:
            data["seed"] = chosen.seed_everything
        trainer = chosen.trainer
        if self.subcommand == "finetune":  # beside the run, whose files stay
            folder = finetune.folder_of(Path(trainer.default_root_dir or "."))
            trainer.default_root_dir = chosen.checkpoint.dirpath = str(folder)
            chosen.checkpoint.filename = finetune.FILE
        CalibrationProgress.quiet = CalibrationProgress.quiet or chosen.quiet
        if CalibrationProgress.quiet:
            trainer.enable_progress_bar = False
        loggers = trainer.logger if isinstance(trainer.logger, list) else [trainer.logger]
        for logger in loggers:
            check_installed(getattr(logger, "class_path", ""))
            settings = getattr(logger, "init_args", None)
            if settings is not None and settings.get("save_dir") == ".":
                settings.save_dir = trainer.default_root_dir or "."

    def instantiate_classes(self) -> None:
        """Build everything; samples are divided as when the network was trained."""
        with nothing_fetched_in_vain(str(self.subcommand), self.config[self.subcommand]):
            super().instantiate_classes()
        if self.subcommand in ("fit", "finetune"):
            self.resolve_last()
        weights = self._get(self.config, "model").get("weights")
        trained = trained_division(self._get(self.config_init, "ckpt_path"), weights)
        if trained is not None and isinstance(self.datamodule, DividedDataModule):
            self.datamodule.division_seed = trained
        settings = self.config[self.subcommand].data.get("init_args") or {}
        if settings.get("image_size", 0) is None:  # a finished run must not choose another one
            settings["image_size"] = getattr(self.datamodule, "image_size", None)
        if self.subcommand != "inspect":
            self._say_device()

    def _say_device(self) -> None:
        """Say where the work is done."""
        trainer = self.trainer
        if trainer.is_global_zero and not CalibrationProgress.quiet:
            device = trainer.strategy.root_device
            print(f"Device: {described(device, processes=trainer.world_size)}")

    def instantiate_trainer(self, **kwargs: Any) -> lightning.Trainer:
        """Log to CSV files in the run's folder unless told otherwise; load in safe mode."""
        config = self._get(self.config_init, "trainer")
        if config.get("fast_dev_run"):  # its figures say nothing, and real ones may lie there
            config["default_root_dir"] = str(
                Path(config.get("default_root_dir") or ".") / "fast_dev_run"
            )
        if self.subcommand != "inspect":
            check_writable(Path(config.get("default_root_dir") or "."), needed=0)
        if config.get("logger") is None:
            config["logger"] = CSVLogger(config.get("default_root_dir") or ".", name=LOGS)
        plugins = config.get("plugins") or []
        plugins = plugins if isinstance(plugins, list) else [plugins]
        if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
            config["plugins"] = [*plugins, SafeCheckpointIO()]
        try:
            return super().instantiate_trainer(**kwargs)
        except ValueError as error:  # a strategy without its devices, for instance
            raise UserError(" ".join(str(error).split())) from error

    def _run_subcommand(self, subcommand: str) -> None:
        """Refuse what would be lost or do nothing, before other processes are started.

        Then hold the run's folder; ranks are known by now.
        """
        if subcommand in NEEDED:
            refuse_losing(self.trainer.strategy)
        refuse_nothing_to_do(self.trainer, subcommand)
        if subcommand not in READING and self.trainer.is_global_zero:
            folder = Path(self.trainer.default_root_dir)
            self.ends.enter_context(folder_locked(folder, self.given))
        super()._run_subcommand(subcommand)

    def _parse_ckpt_path(self) -> None:
        """Leave the configuration as the person gave it: a file does not override it."""

    def resolve_last(self) -> None:
        """Let `--ckpt_path last` mean the file that this command's own runs write."""
        config = self.config_init[self.subcommand]
        if config.ckpt_path == "last":
            checkpoint = self._get(self.config, "checkpoint")
            own = Path(checkpoint.dirpath or ".") / f"{checkpoint.filename}.ckpt"
            if own.is_file():
                config.ckpt_path = str(own)
            elif self.subcommand == "finetune":
                raise UserError(f"There is no {own} to go on with; give --ckpt_path snn.ckpt.")

    def before_calibrate(self) -> None:
        """Refuse two sources of weights."""
        config = self.config_init["calibrate"]
        if config.ckpt_path and self._get(self.config, "model").get("weights"):
            raise UserError(
                "--ckpt_path and --model.weights both give the ANN's weights; leave one out."
            )

    def inspect(self, **arguments: Any) -> None:
        """Print the report; a network that does not convert makes the exit code 1."""
        assert isinstance(self.trainer, Trainer)
        if not self.trainer.inspect(**arguments).convertible:
            sys.exit(1)

    def predict(self, **arguments: Any) -> None:
        """Classify, and write the file; a sample that cannot be read makes the exit code 1."""
        assert isinstance(self.trainer, Trainer)
        folder = Path(self.trainer.default_root_dir)
        arguments["output"] = arguments.get("output") or str(folder / "predictions.csv")
        self.trainer.predict(**arguments)
        if self.trainer.unreadable:
            sys.exit(1)

    def after_fit(self) -> None:
        """Calibrate and compare on the validation split, then say what to do next."""
        self.trainer.validate(self.model, datamodule=self.datamodule, verbose=False)
        self._say_next()

    def after_calibrate(self) -> None:
        """Say what to do next."""
        self._say_next()

    def after_finetune(self) -> None:
        """Say what to do next."""
        if self.trainer.is_global_zero and not CalibrationProgress.quiet:
            print(f"Next: ftbc test --ckpt_path {self.trainer.default_root_dir}/snn.ckpt")

    def _say_next(self) -> None:
        if not self.trainer.is_global_zero or CalibrationProgress.quiet:
            return
        path = Path(self.trainer.default_root_dir) / "snn.ckpt"
        given = " ".join(without(self.given, "--ckpt_path", "--model.weights", "--timesteps"))
        print(f"Next: ftbc test {given} --ckpt_path {path}")


def run(args: Sequence[str] | None = None, *, program: type[FTBCCLI] = FTBCCLI) -> FTBCCLI:
    """Run one command; errors are raised, not printed. For use in a process of one's own."""
    FTBCCLI.given = sys.argv[1:] if args is None else args
    CalibrationProgress.quiet = "--quiet" in FTBCCLI.given
    for noise in NOISE:
        warnings.filterwarnings("ignore", message=noise)
    verbose = bool({"-v", "--verbose"} & set(FTBCCLI.given))
    _listen_to_lightning(quiet=CalibrationProgress.quiet, verbose=verbose)
    words = with_configuration(with_paths(names_of_today(FTBCCLI.given)))
    with ExitStack() as FTBCCLI.ends, finished_runs():
        return program(
            SpikingClassifier,
            DividedDataModule,
            subclass_mode_data=True,
            trainer_class=Trainer,
            parser_class=OneLineParser,
            trainer_defaults={
                "callbacks": [ResultFiles(), LayerCurves(), Safeguard()],
                "enable_model_summary": False,
            },
            save_config_callback=RunRecord,
            seed_everything_default=0,
            save_config_kwargs={"overwrite": True},
            auto_configure_optimizers=False,
            parser_kwargs={"description": "Train an ANN, convert it to an SNN, calibrate it."},
            args=words if args is not None or words != list(FTBCCLI.given) else None,
        )
