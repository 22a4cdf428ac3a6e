import logging
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from ftbc_lightning import UserError
from ftbc_lightning.data import ArrayDataModule


def arrays(count=40, size=8, channels=3):
    generator = np.random.default_rng(0)
    shape = (count, size, size, channels) if channels else (count, size, size)
    return {
        "train_images": generator.integers(0, 256, shape, dtype=np.uint8),
        "train_labels": np.arange(count) % 4,
        "test_images": generator.integers(0, 256, shape, dtype=np.uint8),
        "test_labels": np.arange(count) % 4,
    }


def write(folder, **changes):
    content = {**arrays(), **changes}
    path = folder / "samples.npz"
    np.savez(path, **{key: value for key, value in content.items() if value is not None})
    return str(path)


def ready(path, **settings):
    data = ArrayDataModule(path=path, calibration_samples=8, **settings)
    data.prepare_data()
    data.setup()
    return data


def test_samples_are_normalised_and_channels_first(tmp_path):
    data = ready(write(tmp_path), mean=[0.5, 0.4, 0.3], std=[0.2, 0.3, 0.4])
    images, labels = next(iter(data.test_dataloader()))
    raw = torch.from_numpy(arrays()["test_images"]).permute(0, 3, 1, 2) / 255
    mean = torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1)
    std = torch.tensor([0.2, 0.3, 0.4]).view(3, 1, 1)
    torch.testing.assert_close(images, (raw - mean) / std)
    assert labels.tolist() == arrays()["test_labels"].tolist()
    assert (data.num_classes, data.input_shape) == (4, (3, 8, 8))


def test_grey_samples_without_a_channel_axis(tmp_path):
    grey = arrays(channels=0)
    data = ready(write(tmp_path, **grey))
    assert data.input_shape == (1, 8, 8)
    assert next(iter(data.val_dataloader()))[0].shape == (4, 1, 8, 8)


@pytest.mark.parametrize("augmentation", ["flip_crop", "cifar"])
def test_training_samples_are_augmented_and_others_are_not(tmp_path, augmentation):
    data = ready(write(tmp_path), augmentation=augmentation, batch_size=36)
    count = len(data.train_indices)
    indices, next_epoch = list(range(count)), list(range(count, 2 * count))
    first, second = (data.train_set.__getitems__(places)[0] for places in (indices, next_epoch))
    assert not torch.equal(first, second)
    plain = [data.calibration_pool.__getitems__(indices)[0] for _ in range(2)]
    assert torch.equal(*plain)
    assert not torch.equal(first, plain[0])


def test_flip_and_crop_moves_every_sample_by_its_own_draw():
    from ftbc_lightning.data.transforms import flip_and_crop

    torch.manual_seed(0)
    image = torch.arange(1, 65, dtype=torch.uint8).view(1, 1, 8, 8)
    moved = flip_and_crop(image.expand(200, 1, 8, 8))
    padded = torch.nn.functional.pad(image, (4,) * 4)[0]
    windows = [padded[:, y : y + 8, x : x + 8] for y in range(9) for x in range(9)]
    windows += [window.flip(2) for window in windows]
    known = {tuple(window.flatten().tolist()) for window in windows}
    found = {tuple(sample.flatten().tolist()) for sample in moved}
    assert found <= known
    assert len(found) > 80


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_labels": None}, "has no train_labels"),
        ({"test_images": arrays()["test_images"].astype(np.float32)}, "test_images is float32"),
        ({"train_images": np.zeros((40, 8), dtype=np.uint8)}, r"uint8 \[40, 8\]"),
        ({"train_labels": np.arange(39)}, "40 train_images but 39 train_labels"),
        ({"train_labels": np.arange(40) / 2}, "train_labels is float64"),
        ({"test_labels": np.full(40, 9)}, "labels from 9 to 9, but 4 classes"),
        ({"train_labels": np.arange(40) - 1}, "labels from -1 to 38"),
        (
            {"test_images": np.zeros((0, 8, 8, 3), np.uint8), "test_labels": np.zeros(0, int)},
            "test_images is empty",
        ),
        ({"classes": np.array([{}], dtype=object)}, "holds Python objects"),
        ({"classes": np.array("cat")}, r"classes has the shape \[\]"),
        (
            {"train_images": np.zeros((40, 3, 8, 8), np.uint8)},
            r"uint8 \[40, 3, 8, 8\]; uint8 \[N, H, W, 3\]",
        ),
    ],
)
def test_wrong_arrays_are_refused(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        ArrayDataModule(path=write(tmp_path, **changes))


def test_test_samples_of_another_size_are_refused(tmp_path):
    path = write(tmp_path, test_images=np.zeros((40, 9, 9, 3), np.uint8))
    with pytest.raises(UserError, match=r"test_images are \[9, 9, 3\], train_images \[8, 8, 3\]"):
        ready(path)


def test_a_missing_or_truncated_file_is_refused(tmp_path):
    with pytest.raises(UserError, match="There is no file"):
        ArrayDataModule(path=str(tmp_path / "none.npz"))
    path = tmp_path / "cut.npz"
    path.write_bytes(Path(write(tmp_path)).read_bytes()[:2000])
    with pytest.raises(UserError, match=r"cannot be read as a \.npz file"):
        ArrayDataModule(path=str(path))


def test_a_damaged_compressed_file_and_a_single_array_are_refused(tmp_path):
    path = tmp_path / "damaged.npz"
    np.savez_compressed(path, **arrays())
    content = bytearray(path.read_bytes())
    names = struct.unpack("<2H", content[26:30])
    content[30 + sum(names)] = 0xFF  # no deflate block starts so: zlib refuses it
    path.write_bytes(content)
    np.save(tmp_path / "single.npy", arrays()["train_images"])
    for name in ("damaged.npz", "single.npy"):
        with pytest.raises(UserError, match=r"cannot be read as a \.npz file"):
            ArrayDataModule(path=str(tmp_path / name))


def test_mean_and_std_must_fit_the_channels(tmp_path):
    with pytest.raises(UserError, match=r"mean \[0.5\] and std \[0.5\] must have 3 values each"):
        ready(write(tmp_path), mean=[0.5], std=[0.5])
    with pytest.raises(UserError, match="std above 0"):
        ArrayDataModule(path=write(tmp_path), mean=[0.5] * 3, std=[0.0] * 3)


def shown(path, caplog, **settings):
    """The data module of a file, and what was said of it."""
    caplog.clear()
    with caplog.at_level(logging.INFO):
        data = ready(path, **settings)
    return data, " ".join(caplog.messages)


def content(data):
    """Everything that a data module reads of a file."""
    return [part for split in ("train", "test") for part in data.samples(split)]


def alike(one, other):
    return all(torch.equal(a, b) for a, b in zip(content(one), content(other), strict=True))


def both(key, change):
    """A change of the arrays of both splits."""
    return {f"{split}_{key}": change(arrays()[f"{split}_{key}"]) for split in ("train", "test")}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (both("labels", lambda v: v[:, None]), None),
        (both("labels", lambda v: v.astype(np.uint8)), None),
        (both("labels", lambda v: v.astype(np.float32)), "whole numbers written as floats"),
        (both("labels", lambda v: np.eye(4)[v]), "labels are one-hot"),
        (both("labels", lambda v: np.array(list("abcd"))[v]), "names, numbered a, b, c, d"),
        (both("labels", lambda v: np.array([b"a", b"b", b"c", b"d"])[v]), "numbered a, b, c, d"),
        (both("images", lambda v: v.transpose(0, 3, 1, 2)), "channels come first"),
        (both("images", lambda v: v.astype(np.int64)), "int64 samples hold whole numbers"),
        (both("images", lambda v: v.astype(np.float32)), "float32 samples hold whole numbers"),
        (both("images", lambda v: v / 255), "float64 samples from 0 to 1"),
        (both("images", lambda v: v.astype(np.uint16) * 257), "scaled from 65535 to 255"),
        (both("images", lambda v: v.astype(np.uint16)), "uint16 samples hold whole numbers"),
        (
            both("images", lambda v: np.concatenate([v, np.full_like(v[..., :1], 255)], 3)),
            "the fourth channel, opaque everywhere, is left out",
        ),
    ],
)
def test_what_can_be_meant_in_one_way_is_read_and_said(tmp_path, caplog, changes, words):
    plain, line = shown(write(tmp_path), caplog)
    assert line == ""
    (tmp_path / "other").mkdir()
    data, line = shown(write(tmp_path / "other", **changes), caplog)
    assert alike(data, plain)
    assert (data.num_classes, data.input_shape) == (4, (3, 8, 8))
    assert (words is None and line == "") or words in line
    assert len(caplog.messages) <= 1


@pytest.mark.parametrize("upper", [False, True])
def test_kerass_names_are_read(tmp_path, caplog, upper):
    plain = ready(write(tmp_path))
    own = arrays()
    short = {"images": "X" if upper else "x", "labels": "y"}
    renamed = {f"{short[k.split('_')[1]]}_{k.split('_')[0]}": v for k, v in own.items()}
    np.savez(tmp_path / "keras.npz", **renamed)
    data, line = shown(str(tmp_path / "keras.npz"), caplog)
    assert alike(data, plain)
    assert "x_ are images and y_ labels" in line


def test_samples_that_validate_are_those_of_the_file(tmp_path, caplog):
    own = arrays(12)
    val = {"val_images": 255 - own["test_images"], "val_labels": own["test_labels"][:, None]}
    data, line = shown(write(tmp_path, **val), caplog)
    assert "12 val_images validate" in line
    images, labels = next(iter(data.val_dataloader()))
    expected = data.train_set.dataset.prepare(
        torch.from_numpy(val["val_images"]).permute(0, 3, 1, 2)
    )
    assert torch.equal(images, expected)
    assert labels.tolist() == own["test_labels"].tolist()
    assert data.train_indices == list(range(40))
    drawn = torch.cat([images for images, _ in data.calibration_dataloader()])
    training = {tuple(image.flatten().tolist()) for image, _ in data.calibration_pool}
    assert len(training) == 40
    assert {tuple(image.flatten().tolist()) for image in drawn} <= training


def test_names_of_labels_follow_the_classes_of_the_file(tmp_path):
    names = np.array(["d", "c", "b", "a"])
    data = ready(write(tmp_path, classes=names, **both("labels", lambda v: names[v])))
    assert data.class_names == ["d", "c", "b", "a"]
    assert alike(data, ready(write(tmp_path)))


def test_labels_that_begin_at_one_are_said_to_make_a_class_too_many(tmp_path):
    path = write(tmp_path, **both("labels", lambda v: v + 1))
    with pytest.warns(UserWarning, match=r"5 classes, but class 0 has no training .* subtract 1"):
        data = ready(path)
    assert data.num_classes == 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (both("images", lambda v: v / 255 - 0.5), "from -0.5 to 0.5, and which value is white"),
        (both("images", lambda v: v * np.nan), "float64 from nan to nan"),
        (both("images", lambda v: (v > 99).astype(np.int64)), "int64 from 0 to 1, and which"),
        (both("images", lambda v: v.astype(np.int64) * 9), "int64 from 0 to 2295"),
        (both("images", lambda v: v.astype(np.complex64)), "train_images is complex64"),
        (both("images", lambda v: np.concatenate([v, v[..., :1]], 3)), "fourth channel is not 255"),
        (both("labels", lambda v: np.eye(4)[v] * 2), r"train_labels is float64 \[40, 4\]"),
        ({"test_labels": np.array(["cow"] * 40)}, "some labels are names and some are numbers"),
        ({"val_images": arrays()["test_images"]}, "has no val_labels"),
        ({"x_train": arrays()["train_images"]}, "has train_images twice"),
        (
            {"train_labels": np.array(["a", "b"] * 20), "test_labels": np.array(["cow"] * 40)},
            "test_labels has cow, which is no class; the classes are a, b",
        ),
        ({"test_images": None}, r"It holds train_images uint8 \[40, 8, 8, 3\], train_labels int64"),
    ],
)
def test_what_means_nothing_or_several_things_is_refused(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        ArrayDataModule(path=write(tmp_path, **changes))
