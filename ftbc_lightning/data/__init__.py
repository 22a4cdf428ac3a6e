"""One data module a data set; all share splits, loaders and the calibration draw."""

from ftbc_lightning.data.array import ArrayDataModule
from ftbc_lightning.data.base import ClassificationDataModule, DividedDataModule
from ftbc_lightning.data.dense_classification import DenseClassificationDataModule
from ftbc_lightning.data.diabetes import DiabetesDataModule
from ftbc_lightning.data.digits import DigitsDataModule
from ftbc_lightning.data.eeg import EEGDataModule
from ftbc_lightning.data.folder import ImageFolderDataModule, ImageNetDataModule
from ftbc_lightning.data.forecast import ForecastDataModule
from ftbc_lightning.data.multilabel import MultilabelDataModule
from ftbc_lightning.data.regression import RegressionDataModule
from ftbc_lightning.data.shapes import ShapesDataModule
from ftbc_lightning.data.tones import TonesDataModule
from ftbc_lightning.data.torchvision_sets import (
    CIFAR10DataModule,
    CIFAR100DataModule,
    FashionMNISTDataModule,
)

__all__ = [
    "ArrayDataModule",
    "CIFAR10DataModule",
    "CIFAR100DataModule",
    "ClassificationDataModule",
    "DenseClassificationDataModule",
    "DiabetesDataModule",
    "DigitsDataModule",
    "DividedDataModule",
    "EEGDataModule",
    "FashionMNISTDataModule",
    "ForecastDataModule",
    "ImageFolderDataModule",
    "ImageNetDataModule",
    "MultilabelDataModule",
    "RegressionDataModule",
    "ShapesDataModule",
    "TonesDataModule",
]
