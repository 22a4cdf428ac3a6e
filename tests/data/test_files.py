"""The real loaders of torchvision's formats and of folders, on small files made here."""

import gzip
import pickle
import struct

import numpy as np
import pytest
import torch
from PIL import Image

from ftbc_lightning import UserError
from ftbc_lightning.data import (
    CIFAR10DataModule,
    CIFAR100DataModule,
    FashionMNISTDataModule,
    ImageFolderDataModule,
    ImageNetDataModule,
)


def write_cifar(folder, names, key, classes):
    generator = np.random.default_rng(0)
    folder.mkdir()
    for name in names:
        labels = [int(label) for label in np.arange(20) % classes]
        data = generator.integers(0, 256, (20, 3072), dtype=np.uint8)
        (folder / name).write_bytes(pickle.dumps({"data": data, key: labels}))
    meta = {"label_names": list("abcdefghij"), "fine_label_names": [str(i) for i in range(100)]}
    for name in ("batches.meta", "meta"):
        (folder / name).write_bytes(pickle.dumps(meta))


@pytest.fixture
def unchecked(monkeypatch):
    """Small files do not have the checksums of the real ones."""
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *a, **k: True)


@pytest.mark.usefixtures("unchecked")
def test_cifar10_is_read_from_its_own_format(tmp_path):
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    write_cifar(tmp_path / "cifar-10-batches-py", names, "labels", 10)
    data = CIFAR10DataModule(root=str(tmp_path), calibration_samples=16, augmentation="none")
    data.prepare_data()
    data.setup()
    assert (len(data.train_indices), len(data.validation_indices)) == (90, 10)
    images, labels = next(iter(data.test_dataloader()))
    assert images.shape == (20, 3, 32, 32)
    raw = pickle.loads((tmp_path / "cifar-10-batches-py" / "test_batch").read_bytes())
    first = torch.from_numpy(raw["data"][0].reshape(3, 32, 32)) / 255
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in CIFAR10DataModule.normalization)
    torch.testing.assert_close(images[0], (first - mean) / std)
    assert labels.tolist() == raw["labels"]


@pytest.mark.usefixtures("unchecked")
def test_cifar100_is_read_from_its_own_format(tmp_path):
    write_cifar(tmp_path / "cifar-100-python", ["train", "test"], "fine_labels", 2)
    data = CIFAR100DataModule(root=str(tmp_path), calibration_samples=8)
    data.prepare_data()
    data.setup()
    assert data.num_classes == 100
    assert next(iter(data.train_dataloader()))[0].shape == (18, 3, 32, 32)


def test_fashion_mnist_is_read_from_its_own_format(tmp_path):
    folder = tmp_path / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    for prefix in ("train", "t10k"):
        images = np.random.default_rng(0).integers(0, 256, (100, 28, 28), dtype=np.uint8)
        labels = (np.arange(100) % 10).astype(np.uint8)
        for name, array in (("images-idx3", images), ("labels-idx1", labels)):
            head = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(
                f">{array.ndim}I", *array.shape
            )
            path = folder / f"{prefix}-{name}-ubyte"
            path.write_bytes(head + array.tobytes())
            path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
    data = FashionMNISTDataModule(root=str(tmp_path), calibration_samples=8)
    data.prepare_data()
    data.setup()
    assert next(iter(data.test_dataloader()))[0].shape == (100, 1, 28, 28)


@pytest.mark.parametrize("kind", [CIFAR10DataModule, CIFAR100DataModule, FashionMNISTDataModule])
def test_missing_files_say_how_to_get_them(tmp_path, kind):
    with pytest.raises(UserError, match=r"--data\.download true"):
        kind(root=str(tmp_path / "none")).prepare_data()


def write_folders(root, classes=("cat", "dog"), count=10, size=(40, 30)):
    generator = np.random.default_rng(0)
    for name in classes:
        (root / name).mkdir(parents=True)
        for index in range(count):
            pixels = generator.integers(0, 256, (*size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{index}.png")


def folder(root, kind=ImageFolderDataModule, **settings):
    data = kind(root=str(root), image_size=32, num_workers=0, calibration_samples=4, **settings)
    data.prepare_data()
    data.setup()
    return data


def test_any_folder_of_classes_is_divided(tmp_path):
    write_folders(tmp_path)
    data = folder(tmp_path, test_fraction=0.2)
    assert (data.num_classes, data.class_names) == (2, ["cat", "dog"])
    files = {split: {path for path, _ in data.samples(split)} for split in ("train", "test")}
    assert len(files["train"]) == 16
    assert len(files["test"]) == 4
    assert not files["train"] & files["test"]
    assert next(iter(data.train_dataloader()))[0].shape[1:] == (3, 32, 32)


def test_imagenet_tests_on_its_validation_folder(tmp_path):
    write_folders(tmp_path / "train")
    write_folders(tmp_path / "val", count=3)
    data = folder(tmp_path, ImageNetDataModule)
    assert all("/val/" in path for path, _ in data.samples("test"))
    assert len(data.samples("test")) == 6
    assert all("/train/" in path for path, _ in data.samples("train"))


def test_missing_folders_and_classes_are_refused(tmp_path):
    with pytest.raises(UserError, match="There is no folder"):
        ImageFolderDataModule(root=str(tmp_path / "none"))
    with pytest.raises(UserError, match="has no class folders"):
        ImageFolderDataModule(root=str(tmp_path))
    write_folders(tmp_path / "train")
    write_folders(tmp_path / "test", classes=("cat", "dog", "cow"))
    with pytest.raises(UserError, match="has 3 classes, the training folder 2"):
        folder(tmp_path)


def test_an_empty_class_folder_is_refused(tmp_path):
    write_folders(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="Found no valid file for the classes empty"):
        folder(tmp_path)


def test_a_broken_image_is_named(tmp_path):
    write_folders(tmp_path)
    (tmp_path / "cat" / "0.png").write_bytes(b"not an image")
    data = folder(tmp_path, test_fraction=0.1)
    with pytest.raises(UserError, match=r"cat/0.png cannot be decoded"):
        [*data.train_dataloader(), *data.val_dataloader(), *data.test_dataloader()]


@pytest.mark.parametrize("kept", ["train", "val"])
def test_imagenet_without_one_of_its_folders_is_refused(tmp_path, kept):
    write_folders(tmp_path / kept)
    missing = {"train": "val", "val": "train"}[kept]
    with pytest.raises(UserError, match=rf"There is no folder \S+/{missing}; "):
        ImageNetDataModule(root=str(tmp_path))


def test_imagenet_does_not_take_its_root_for_classes(tmp_path):
    write_folders(tmp_path)
    with pytest.raises(UserError, match=r"needs train/<class>/ and val/<class>/"):
        ImageNetDataModule(root=str(tmp_path))


def test_images_of_mixed_sizes_and_modes_are_made_equal(tmp_path):
    write_folders(tmp_path)
    Image.new("L", (9, 50)).save(tmp_path / "cat" / "0.png")
    Image.new("RGBA", (64, 64)).save(tmp_path / "dog" / "0.png")
    data = folder(tmp_path, test_fraction=0.1)
    loaders = (data.train_dataloader(), data.val_dataloader(), data.test_dataloader())
    shapes = {tuple(images.shape[1:]) for loader in loaders for images, _ in loader}
    assert shapes == {(3, 32, 32)}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_size": 0}, "image_size is 0"),
        ({"mean": [0.5]}, "must have 3 values each"),
        ({"test_fraction": 1.0}, "test_fraction is 1.0"),
    ],
)
def test_folder_settings_out_of_range_are_refused(tmp_path, settings, message):
    write_folders(tmp_path)
    with pytest.raises(UserError, match=message):
        ImageFolderDataModule(root=str(tmp_path), **settings)
