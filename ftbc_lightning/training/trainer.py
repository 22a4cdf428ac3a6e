"""Lightning's Trainer with the subcommands of this package, one a file in `subcommands/`."""

from ftbc_lightning.training.subcommands.benchmark import BenchmarkTrainer
from ftbc_lightning.training.subcommands.compare import CompareTrainer
from ftbc_lightning.training.subcommands.diagnose import DiagnoseTrainer
from ftbc_lightning.training.subcommands.finetune import FineTuneTrainer
from ftbc_lightning.training.subcommands.inspect import InspectTrainer
from ftbc_lightning.training.subcommands.predict import PredictTrainer


class Trainer(
    InspectTrainer,
    DiagnoseTrainer,
    BenchmarkTrainer,
    CompareTrainer,
    PredictTrainer,
    FineTuneTrainer,
):
    """Lightning's Trainer, which also inspects, calibrates, compares, predicts and fine-tunes."""
