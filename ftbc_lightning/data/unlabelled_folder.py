"""Images without labels, prepared as a data module prepares its own."""

from pathlib import Path
from typing import Any

import torch
from lightning import LightningDataModule
from lightning.pytorch.utilities import rank_zero_info
from torch.utils.data import Dataset
from torchvision.transforms import v2

from ftbc_lightning.data.folder import ImageFolderDataModule, Images
from ftbc_lightning.data.image_file import EXTENSIONS, files_of, not_read, unreadable
from ftbc_lightning.data.normalized import InMemoryDataModule
from ftbc_lightning.data.transforms import imagenet_evaluation
from ftbc_lightning.errors import UserError


def unlabelled_folder(folder: str | Path, like: LightningDataModule) -> Dataset[Any]:
    """Every image of a folder and of those in it, in order of their names.

    Args:
        folder: Where they are.
        like: Tells size, channels and normalisation: images are made grey or RGB, resized at the
            short side, cropped to the centre, and normalised as it normalises its own.

    Raises:
        UserError: There is no such folder, or no image in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}; give one with --data.folder.")
    found, others = files_of(folder)
    if others:
        rank_zero_info(not_read(folder, others))
    if not found:
        raise UserError(f"{folder} has no images ({', '.join(EXTENSIONS)}).")
    files = sorted(Path(path) for path in found)
    return Images([(str(path), -1) for path in files], preparation(like))


def readable(images: Dataset[Any]) -> tuple[Dataset[Any], dict[str, str]]:
    """Images without those whose files cannot be read, and why each of these cannot.

    Every file is read once for it. Images that come from no files are all readable.
    """
    if not isinstance(images, Images):
        return images, {}
    reasons = unreadable(path for path, _ in images.samples)
    kept = [sample for sample in images.samples if sample[0] not in reasons]
    return Images(kept, images.transform), reasons


def preparation(like: LightningDataModule) -> v2.Transform:
    """From a PIL image to what the networks of a data module read."""
    if isinstance(like, ImageFolderDataModule):
        return imagenet_evaluation(like.mean, like.std, like.image_size)
    shape = getattr(like, "input_shape", None)
    if shape is None:
        raise UserError(f"{type(like).__name__} does not say the shape of an image (input_shape).")
    if len(shape) != 3:
        raise UserError(
            f"Samples of {type(like).__name__} have the shape {list(shape)} and are no images; "
            "leave --data.folder out."
        )
    channels, height, width = shape
    steps: list[Any] = [
        v2.Grayscale() if channels == 1 else v2.Identity(),
        v2.ToImage(),
        v2.Resize(max(height, width)),
        v2.CenterCrop([height, width]),
        v2.ToDtype(torch.float32, scale=True),
    ]
    if isinstance(like, InMemoryDataModule):
        steps.append(v2.Normalize(list(like.mean), list(like.std)))
    return v2.Compose(steps)
