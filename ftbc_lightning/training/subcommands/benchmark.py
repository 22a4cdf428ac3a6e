"""`ftbc benchmark`: NeuroBench's metrics of a calibrated network."""

import json
from pathlib import Path
from typing import Any

import lightning
from lightning import LightningDataModule
from rich.console import Console

from ftbc_lightning.analysis.network_variants import Variant
from ftbc_lightning.analysis.neurobench_harness import (
    Correctness,
    imported_neurobench,
    left_out,
    neurobench_results,
)
from ftbc_lightning.data import DividedDataModule
from ftbc_lightning.errors import UserError
from ftbc_lightning.files.whole_file import write_whole
from ftbc_lightning.report.style import label_of
from ftbc_lightning.training.comparison import EvaluationSamples
from ftbc_lightning.training.finished_networks import choose, given
from ftbc_lightning.training.module import SpikingClassifier
from ftbc_lightning.training.reload import fill
from ftbc_lightning.training.subcommands.obeyed import refuse_unobeyed
from ftbc_lightning.version import __version__

FOLDER = "neurobench"
"""In the run's folder: a file for each network that was measured."""

CORRECTNESS: dict[str, Correctness] = {"accuracy": "ClassificationAccuracy", "rmse": "MSE"}
"""NeuroBench's metric for a measure of ours; the others have none there."""


class BenchmarkTrainer(lightning.Trainer):
    """A Trainer that runs NeuroBench's harness."""

    def benchmark(
        self,
        model: SpikingClassifier,
        datamodule: LightningDataModule | None = None,
        ckpt_path: str | None = None,
        at: int | None = None,
        method: str | None = None,
        samples: int | None = None,
    ) -> dict[str, Any]:
        """Measure a calibrated network with NeuroBench's harness on the test split.

        Needs the extra `neurobench`. Writes `neurobench/NETWORK.json` in the run's folder: the
        harness's own results, and beside them its version, the network and the samples.

        Args:
            model: Holds the ANN.
            datamodule: Its test samples are taken.
            ckpt_path: The file of calibrated networks, `snn.ckpt`.
            at: T of the network that is measured; the largest if not given.
            method: Whose calibration is taken; exact, or the last in the file, if not given.
            samples: Take this many test samples, drawn once, for a quick look; all if left out.

        Returns:
            What was written.

        Raises:
            UserError: NeuroBench is not installed, the file holds no such network, or a setting
                is out of range.
        """
        refuse_unobeyed(self, "benchmark", instead="--samples N takes N test samples.")
        package = imported_neurobench()
        ckpt_path = given(ckpt_path)
        if not isinstance(datamodule, DividedDataModule):
            raise UserError("benchmark needs one of the data modules in ftbc_lightning.data.")
        fill(model, ckpt_path)
        model.to(self.strategy.root_device)
        variant = choose(model, method=method, timesteps=at)
        network = model.network(variant)
        datamodule.prepare_data()
        datamodule.setup("test")
        model.follow(datamodule)
        taken = EvaluationSamples(datamodule, samples, self.strategy.batch_to_device)
        results = neurobench_results(
            network,
            taken,
            samples=taken.count,
            parts=len(taken.loader),
            correctness=CORRECTNESS.get(model.task.measure.name),
            progress=self.progress_bar_callback is not None,
        )
        written = {
            "neurobench": str(package.__version__),
            "ftbc_lightning": __version__,
            "method": variant.method,
            "timesteps": variant.timesteps,
            "neuron": variant.neuron,
            "dataset": type(datamodule).__name__,
            "split": "test",
            "samples": taken.count,
            "not_counted": left_out(network),
            "results": results,
        }
        path = Path(self.default_root_dir) / FOLDER / f"{variant.key}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(written, indent=4) + "\n"
        write_whole(path, lambda beside: beside.write_text(text, encoding="utf-8"))
        _tell(variant, taken.described, results, path)
        return written


def _tell(variant: Variant, described: str, results: dict[str, Any], path: Path) -> None:
    console = Console()
    title = f"{label_of(variant.name)}, T = {variant.timesteps}, {described}:"
    console.print(title, highlight=False, soft_wrap=True)
    for name, value in results.items():
        parts = value if isinstance(value, dict) else {"": value}
        if name.endswith("ByLayer"):  # as long as the network is deep: in the file
            continue
        for part, number in parts.items():
            said = " ".join(filter(None, (name, part)))
            console.print(f"  {said}: {_plainly(number)}", markup=False, highlight=False)
    console.print(f"  {path}", highlight=False, soft_wrap=True)


def _plainly(number: float) -> str:
    """Up to four places behind the point.

    >>> _plainly(1364120.0), _plainly(0.9492957)
    ('1,364,120', '0.9493')
    """
    return f"{number:,.4f}".rstrip("0").rstrip(".")
