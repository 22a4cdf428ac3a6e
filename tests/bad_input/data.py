"""Broken samples, arrays and folders."""

import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ftbc_lightning.data import (
    ArrayDataModule,
    DigitsDataModule,
    ForecastDataModule,
    ImageFolderDataModule,
)
from ftbc_lightning.data.base import DividedDataModule, collate


def arrays() -> dict[str, Any]:
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
    labels = np.arange(40) % 4
    return {
        "train_images": images,
        "train_labels": labels,
        "test_images": images[:20],
        "test_labels": labels[:20],
    }


def array(folder: Path, *, settings: dict[str, Any] | None = None, **changes: Any) -> None:
    """Read a file in which arrays are changed, or missing where None."""
    content = {key: value for key, value in {**arrays(), **changes}.items() if value is not None}
    np.savez(folder / "a.npz", **content)
    given = {"calibration_samples": 8, **(settings or {})}
    ready(ArrayDataModule(path=str(folder / "a.npz"), **given))


def ready(data: DividedDataModule) -> None:
    data.prepare_data()
    data.setup()
    for loader in (data.train_dataloader, data.test_dataloader, data.calibration_dataloader):
        for _ in loader():
            pass


def cut_array(folder: Path) -> None:
    np.savez(folder / "a.npz", **arrays())
    path = folder / "a.npz"
    path.write_bytes(path.read_bytes()[:2000])
    ArrayDataModule(path=str(path))


def damaged_array(folder: Path) -> None:
    path = folder / "a.npz"
    np.savez_compressed(path, **arrays())
    content = bytearray(path.read_bytes())
    content[30 + sum(struct.unpack("<2H", content[26:30]))] = 0xFF
    path.write_bytes(content)
    ArrayDataModule(path=str(path))


def single_array(folder: Path) -> None:
    np.save(folder / "a.npy", np.zeros(3))
    ArrayDataModule(path=str(folder / "a.npy"))


def samples(folder: Path, *, splits: tuple[str, ...] = ("train", "test")) -> Path:
    """A folder of two classes with twelve samples each and split."""
    noise = np.random.default_rng(0)
    for split in splits:
        for name in ("cat", "dog"):
            (folder / split / name).mkdir(parents=True)
            for index in range(12):
                image = Image.fromarray(noise.integers(0, 256, (12, 12, 3), dtype=np.uint8))
                image.save(folder / split / name / f"{index}.png")
    return folder


def unlabelled_folder(folder: Path, **settings: Any) -> None:
    small = {"image_size": 8, "num_workers": 0, "calibration_samples": 4, "batch_size": 4}
    ready(ImageFolderDataModule(root=str(folder), **{**small, **settings}))


def broken_sample(folder: Path, content: bytes | None = None, **settings: Any) -> None:
    """One training sample holds other bytes; half of its own if None."""
    path = samples(folder) / "train" / "cat" / "3.png"
    path.write_bytes(path.read_bytes()[:200] if content is None else content)
    unlabelled_folder(folder, **settings)


def no_classes(folder: Path) -> None:
    (folder / "train").mkdir()
    (folder / "test").mkdir()
    unlabelled_folder(folder)


def empty_class(folder: Path) -> None:
    (samples(folder) / "train" / "emu").mkdir()
    unlabelled_folder(folder)


def class_missing_in_test(folder: Path) -> None:
    (samples(folder) / "test" / "dog").rename(folder / "test" / "wolf")
    unlabelled_folder(folder)


def one_class_folder(folder: Path) -> None:
    for split in ("train", "test"):
        shutil.rmtree(samples(folder, splits=(split,)) / split / "dog")
    unlabelled_folder(folder)


def digits(**settings: Any) -> None:
    ready(DigitsDataModule(**settings))


def mixed_sizes() -> None:
    collate([(torch.zeros(3, 8, 8), 0), (torch.zeros(3, 9, 9), 1)])


def forecast(series: torch.Tensor, **settings: Any) -> None:
    """Cut a series into windows of eight values and the next two."""

    class Given(ForecastDataModule):
        def series(self) -> torch.Tensor:
            return series

    ready(Given(window=8, horizon=2, calibration_samples=8, **settings))
