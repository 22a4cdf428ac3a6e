"""Lightning's Trainer with the verbs of this package; each is in a file of its own in `verbs/`."""

from ftbc_lightning.verbs.compare import CompareTrainer
from ftbc_lightning.verbs.diagnose import DiagnoseTrainer
from ftbc_lightning.verbs.inspect import InspectTrainer
from ftbc_lightning.verbs.predict import PredictTrainer


class Trainer(InspectTrainer, DiagnoseTrainer, CompareTrainer, PredictTrainer):
    """Lightning's Trainer, which also inspects, calibrates, compares, diagnoses and predicts."""
