"""Real samples and weights beside the repository; where they are absent, tests skip."""

import csv
import io
import zipfile

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from tests.conftest import ROOT

SHARED = ROOT.parent / "shared" / "data"
WEIGHTS = SHARED / "weights"
HERE = SHARED.is_dir()


def cifar10(split: str) -> tuple[Tensor, Tensor]:
    """10,000 samples of CIFAR-10, uint8 `[10000, 3, 32, 32]`, and their classes.

    Args:
        split: "test", or "train" for the first fifth of the training samples.
    """
    name = "test" if split == "test" else "train_0"
    Image.MAX_IMAGE_PIXELS = None
    with Image.open(SHARED / "cifar10" / f"{name}.webp") as file:
        mosaic = np.asarray(file.convert("RGB"))
    rows, columns = (size // 32 for size in mosaic.shape[:2])
    tiles = mosaic.reshape(rows, 32, columns, 32, 3).transpose(0, 2, 4, 1, 3).reshape(-1, 3, 32, 32)
    labels = np.load(SHARED / "cifar10" / f"{split}_labels.npy")[: rows * columns].astype(np.int64)
    return torch.from_numpy(tiles.copy()), torch.from_numpy(labels)


def imagenet(count: int) -> tuple[Tensor, Tensor]:
    """ImageNet training samples, one of a class, uint8 `[count, 3, 224, 224]`, and classes."""
    with zipfile.ZipFile(SHARED / "imagenet" / "eli1000_224_q95.zip") as archive:
        rows = list(csv.DictReader(io.StringIO(archive.read("labels.csv").decode())))[:count]
        files = [io.BytesIO(archive.read(row["file"])) for row in rows]
        images = [v2.functional.pil_to_tensor(Image.open(f).convert("RGB")) for f in files]
    return torch.stack(images), torch.tensor([int(row["class_index"]) for row in rows])
