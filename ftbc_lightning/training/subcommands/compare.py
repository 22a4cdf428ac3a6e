"""`ftbc compare`: all methods at every T over several calibration draws."""

from dataclasses import asdict, fields
from functools import partial
from pathlib import Path

from lightning import LightningDataModule
from rich.console import Console

from ftbc_lightning import report
from ftbc_lightning.analysis.network_variants import Variant
from ftbc_lightning.data import DividedDataModule
from ftbc_lightning.errors import UserError
from ftbc_lightning.files.checkpoint import CHECKPOINT_KEY, read_checkpoint
from ftbc_lightning.files.whole_file import write_whole
from ftbc_lightning.report.comparison_rows import Row, RowFile
from ftbc_lightning.report.measure import measure_of
from ftbc_lightning.report.rows import PLAIN
from ftbc_lightning.report.style import label_of, save_png
from ftbc_lightning.snn.network import SpikingNetwork
from ftbc_lightning.snn.neurons.settings import NeuronSettings
from ftbc_lightning.training.callbacks.ftbc import example_of
from ftbc_lightning.training.comparison import Comparison, EvaluationSamples, fixed_by
from ftbc_lightning.training.module import SpikingClassifier
from ftbc_lightning.training.reload import fill
from ftbc_lightning.training.subcommands.calibrate import CalibrateTrainer, take_ann
from ftbc_lightning.training.subcommands.obeyed import refuse_unobeyed

NAMED = (*(field.name for field in fields(NeuronSettings)), "weight_bits")
"""Settings that a row itself tells: rows of several neurons, or bits, stand in one table."""


class CompareTrainer(CalibrateTrainer):
    """A Trainer that compares calibration methods."""

    def compare(
        self,
        model: SpikingClassifier,
        datamodule: LightningDataModule | None = None,
        ckpt_path: str | None = None,
        seeds: int = 5,
        samples: int | None = None,
    ) -> list[Row]:
        """Compare all methods at every T on the test split, over several calibration draws.

        Calibration samples come from the training part alone. `compare/results.csv` in the run's
        folder gets a row for each network as soon as it is evaluated; the same command goes on
        where it was interrupted.

        Args:
            model: Holds the ANN.
            datamodule: Has `calibration_dataloader(seed=...)` and a test split.
            ckpt_path: A checkpoint whose ANN is taken; without it the model's own weights are. Of a
                file with networks that were trained after their calibration, these are added.
            seeds: How many calibration draws: 0, 1 .. seeds - 1.
            samples: Evaluate this many test samples, drawn once, for a quick look; all if
                left out.

        Returns:
            All rows of the file.

        Raises:
            UserError: The file holds rows of other settings, a setting is out of range, or there
                are several processes.
        """
        callback = self.ftbc()
        refuse_unobeyed(self, "compare", instead="--samples N evaluates N test samples.")
        if seeds < 1:
            raise UserError(f"seeds is {seeds}; at least 1 calibration draw is needed.")
        if not isinstance(datamodule, DividedDataModule):
            raise UserError("compare needs one of the data modules in ftbc_lightning.data.")
        trained: dict[Variant, SpikingNetwork] = {}
        if ckpt_path is not None:
            trained = trained_networks(model, ckpt_path)
            take_ann(model, ckpt_path)
        datamodule.prepare_data()
        datamodule.setup("test")
        model.follow(datamodule)
        images = EvaluationSamples(datamodule, samples, self.strategy.batch_to_device)
        folder = Path(self.default_root_dir) / "compare"
        settings = {
            **fixed_by(model.ann, datamodule, images),
            "precision": str(self.precision),
            "anytime": callback.anytime,
            **({} if callback.functions == "refuse" else {"functions": callback.functions}),
            **{k: v for k, v in asdict(callback.settings).items() if k not in NAMED},
        }
        file = RowFile(folder / "results.csv", settings)
        title = f"{model.task.measure.title} on {images.described}"
        console = Console()
        console.print(f"{title}; calibration samples are training samples.")
        model.ann.to(self.strategy.root_device)
        example = example_of(datamodule).to(self.strategy.root_device)
        structure = callback.structure(model, example, model.task.outputs_of(datamodule))
        comparison = Comparison(
            structure.traced(model.ann),
            structure,
            callback.variants,
            callback.settings,
            lambda seed: [
                self.strategy.batch_to_device(batch)
                for batch in datamodule.calibration_dataloader(seed=seed)
            ],
            images,
            model.task,
        )
        try:
            with self.precision_plugin.forward_context():
                comparison.run(file, seeds=seeds, told=partial(_tell, console))
                comparison.add(file, trained, told=partial(_tell, console))
        except KeyboardInterrupt:
            console.print(f"{file.path} has {len(file.rows)} rows; the same command goes on.")
            raise
        figure = report.comparison_figure(file.rows, title=title)
        drawn = write_whole(folder / "comparison.png", partial(save_png, figure))
        console.print(report.comparison_table(file.rows, title=title))
        for path in (file.path, drawn):
            console.print(f"  {path}", highlight=False, soft_wrap=True)
        return file.rows


def trained_networks(model: SpikingClassifier, ckpt_path: str) -> dict[Variant, SpikingNetwork]:
    """The networks of a file that were trained after their calibration."""
    if read_checkpoint(ckpt_path).get(CHECKPOINT_KEY, {}).get("phase") != "calibrated":
        return {}
    fill(model, ckpt_path)
    found = [variant for variant in model.every_variant() if variant.stages.training]
    return {variant: model.network(variant) for variant in found}


def _tell(console: Console, row: Row) -> None:
    console.print(_line(row))


def _line(row: Row) -> str:
    draw = "" if row.seed is None else f"draw {row.seed}, "
    where = "" if row.timesteps is None else f"{draw}T={row.timesteps}: "
    taken = "" if row.seconds is None else f" ({row.seconds:.1f} s)"
    neuron = "" if row.neuron == PLAIN else f" ({row.neuron})"
    return f"{where}{label_of(row.method)}{neuron} {measure_of([row]).exactly(row.accuracy)}{taken}"
