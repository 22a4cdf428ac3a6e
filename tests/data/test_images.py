"""Files of images: read as a person sees them, or refused by name."""

import logging
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from ftbc_lightning import UserError
from ftbc_lightning.cli import main
from ftbc_lightning.cli.failures import explain
from ftbc_lightning.data import ImageFolderDataModule
from ftbc_lightning.data.epochs import Drawn
from ftbc_lightning.data.folder import Images
from ftbc_lightning.data.image_file import files_of, read_image, sizes, unreadable
from ftbc_lightning.data.in_memory import Batches
from ftbc_lightning.data.transforms import Normalisation, imagenet_crop
from ftbc_lightning.files.run_configuration import run_configuration

RAMP = np.linspace(0, 1, 64).reshape(8, 8)


def saved(folder, name, values, mode=None):
    path = folder / name
    Image.fromarray(values, mode).save(path) if mode else Image.fromarray(values).save(path)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm"])
def test_sixteen_bits_are_scaled_by_their_own_range(tmp_path, name):
    path = saved(tmp_path, name, np.round(RAMP * 65535).astype(np.uint16))
    found = np.asarray(read_image(path))
    assert found.shape == (8, 8, 3)
    np.testing.assert_array_equal(found[..., 0], np.round(np.round(RAMP * 65535) / 257))


def test_floats_from_zero_to_one_are_scaled_and_others_refused_by_name(tmp_path):
    path = saved(tmp_path, "a.tif", RAMP.astype(np.float32))
    np.testing.assert_array_equal(np.asarray(read_image(path))[..., 2], np.round(255 * RAMP))
    wide = saved(tmp_path, "b.tif", (RAMP * 300).astype(np.float32))
    long = saved(tmp_path, "c.tif", (RAMP * 1e6).astype(np.int32))
    assert unreadable(map(str, (path, wide, long))) == {
        str(wide): "floats from 0 to 300 in place of 0 to 1",
        str(long): "integers of 32 bits from 0 to 1e+06 in place of bytes or 16 bits",
    }


def test_a_image_is_turned_as_its_camera_says(tmp_path):
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:, :8] = 255  # the left half is light
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise: the left comes to the top
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    found = read_image(tmp_path / "a.png")
    assert found.size == (8, 16)
    assert np.asarray(found)[:8].min() == 255
    assert np.asarray(found)[8:].max() == 0
    assert sizes([str(tmp_path / "a.png")], 1) == [(8, 16)]


def test_of_a_gif_the_first_frame_is_read(tmp_path):
    frames = [Image.fromarray(np.full((4, 4), value, np.uint8)) for value in (200, 10)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert np.asarray(read_image(tmp_path / "a.gif")).min() == 200
    assert files_of(tmp_path)[0] == [str(tmp_path / "a.gif")]


def broken(folder):
    """Four broken files, and what is wrong with each."""
    noise = np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    whole = saved(folder, "whole.png", noise).read_bytes()
    (folder / "cut.png").write_bytes(whole[:150])
    (folder / "empty.jpg").touch()
    (folder / "text.png").write_text("no image")
    (folder / "link.png").symlink_to(folder / "nowhere.png")
    reasons = ("damaged or truncated", "empty file", "a link to nowhere", "not an image")
    return dict(zip(("cut.png", "empty.jpg", "link.png", "text.png"), reasons, strict=True))


def test_what_is_wrong_with_a_file_is_said_in_words(tmp_path):
    expected = {str(tmp_path / name): why for name, why in broken(tmp_path).items()}
    assert unreadable(files_of(tmp_path)[0]) == expected


def test_a_link_to_a_folder_above_ends(tmp_path):
    saved(tmp_path, "a.png", np.zeros((4, 4, 3), np.uint8))
    (tmp_path / "again").symlink_to(tmp_path)
    assert files_of(tmp_path)[0] == [str(tmp_path / "a.png")]


def classes(root, size=(40, 30), count=10):
    noise = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for n in range(count):
            pixels = noise.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
            saved(root / name, f"{n}.png", pixels)
    return str(root)


def data_of(root, **settings):
    settings = {"num_workers": 0, "calibration_samples": 4, "batch_size": 4, **settings}
    return ImageFolderDataModule(root=root, **settings)


@pytest.mark.parametrize("workers", [0, 2])
def test_every_broken_image_is_named_before_anything_is_trained(tmp_path, workers):
    root = classes(tmp_path)
    names = broken(tmp_path / "cat")
    data = data_of(root, num_workers=workers, test_fraction=0.01)
    data.setup()
    with pytest.raises(UserError, match="4 images cannot be decoded") as caught:
        data.train_dataloader()
    for name, why in names.items():
        assert f"{tmp_path}/cat/{name} ({why})" in str(caught.value)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_image_that_breaks_during_the_run_is_one_plain_message(tmp_path, workers):
    data = data_of(classes(tmp_path), num_workers=workers)
    data.setup()
    loader = data.train_dataloader()
    for path, _ in data.samples("train")[:3]:
        Path(path).write_bytes(b"")
    with pytest.raises(UserError) as caught:
        list(loader)
    message = explain(caught.value)
    assert message.startswith("3 images cannot be decoded: ")
    assert message.endswith("or leave them out with --data.unreadable skip.")
    assert "Traceback" not in message


def said(caplog, make):
    caplog.clear()
    with caplog.at_level(logging.INFO):
        made = make()
    return made, " ".join(caplog.messages)


@pytest.mark.parametrize(("size", "expected"), [((32, 32), 32), ((40, 30), 30), ((400, 300), 224)])
def test_the_size_follows_the_images_and_is_said(tmp_path, caplog, size, expected):
    data, line = said(caplog, lambda: data_of(classes(tmp_path, size, count=4)))
    assert (data.image_size, data.input_shape) == (expected, (3, expected, expected))
    assert f"read at {expected}x{expected} pixels" in line
    assert "--data.image_size" in line
    data, line = said(caplog, lambda: data_of(str(tmp_path), image_size=16))
    assert data.image_size == 16
    assert line == ""


def test_the_size_does_not_fix_the_division(tmp_path):
    """The seed of the training is known after the data module is made."""
    data, other = data_of(classes(tmp_path)), data_of(str(tmp_path), seed=3)
    data.division_seed = 3
    assert data.samples("test") == other.samples("test")


def test_files_that_are_no_images_are_counted(tmp_path, caplog):
    root = classes(tmp_path)
    (tmp_path / "cat" / "note.txt").touch()
    (tmp_path / "cat" / "photo.heic").touch()
    (tmp_path / "dog" / "._0.png").touch()
    (tmp_path / ".hidden").mkdir()
    data, line = said(caplog, lambda: data_of(root, image_size=8).samples("train"))
    assert "3 files are no images by their names and were not read" in line
    assert ".heic 1" in line
    assert len(data) == 16


def test_predict_lists_what_it_could_not_read_and_predicts_the_others(fitted, tmp_path, capfd):
    folder = tmp_path / "images"
    folder.mkdir()
    names = broken(folder)
    command = ["predict", "--ckpt_path", str(fitted.folder / "snn.ckpt"), "--trainer.logger=false"]
    command += ["--folder", str(folder), "--output", str(tmp_path / "p.csv")]
    with pytest.raises(SystemExit) as ended:
        main(command)
    assert ended.value.code == 1
    assert len((tmp_path / "p.csv").read_text().splitlines()) == 2
    listed = (tmp_path / "p_unreadable.csv").read_text().splitlines()
    assert listed == ["file,reason", *(f"{folder}/{name},{why}" for name, why in names.items())]
    assert "4 of 5 images could not be read" in capfd.readouterr().err
    for name in names:
        (folder / name).unlink()
    assert main(command) == 0
    assert not (tmp_path / "p_unreadable.csv").exists()
    (folder / "whole.png").write_bytes(b"")
    assert main(command) == 2
    assert "None of 1 images can be read: " in capfd.readouterr().err


def test_a_plain_image_is_read_as_torchvision_reads_it(tmp_path):
    from torchvision.datasets.folder import default_loader

    noise = np.random.default_rng(0).integers(0, 256, (12, 9, 4), dtype=np.uint8)
    for name, values in (("a.png", noise), ("b.jpg", noise[..., :3]), ("c.png", noise[..., 0])):
        path = saved(tmp_path, name, values)
        expected = torch.from_numpy(np.array(default_loader(str(path))))
        assert torch.equal(torch.from_numpy(np.array(read_image(path))), expected)


def test_a_run_records_the_size_it_chose_and_a_broken_image_ends_it_in_one_line(tmp_path, capfd):
    root = classes(tmp_path / "images", size=(12, 12), count=20)
    command = ["fit", "--data", "ImageFolderDataModule", "--data.root", root, "--timesteps", "1"]
    command += ["--data.calibration_samples", "8", "--data.num_workers", "0", "--quiet"]
    command += ["--model.network", "ftbc_lightning.ann.SmallCNN", "--calibration.methods", "[]"]
    command += ["--model.network.num_classes", "2", "--model.network.in_channels", "3"]
    command += ["--trainer.max_epochs", "1", "--trainer.default_root_dir", str(tmp_path / "run")]
    command += ["--trainer.accelerator", "cpu"]
    assert main(command) == 0
    saved_by_run = run_configuration(tmp_path / "run" / "snn.ckpt").read_text()
    assert "image_size: 12" in saved_by_run
    broken(Path(root) / "cat")
    capfd.readouterr()
    assert main(command) == 2
    lines = capfd.readouterr().err.splitlines()
    assert lines[-1].startswith("ftbc: error: ")
    assert "images cannot be decoded: " in lines[-1]


def test_on_a_device_the_same_training_images_are_normalised_there(tmp_path):
    data = data_of(classes(tmp_path))
    data.setup()
    expected = torch.cat([images for images, _ in data.train_dataloader()])
    cropped = Drawn(
        Images(data.samples("train"), imagenet_crop(data.image_size)),
        data.train_indices,
        seed=data.seed,
    )
    prepare = Normalisation(data.mean, data.std)
    batches = Batches(data._loader(cropped, shuffle=True), data.batch_size, prepare=prepare)
    assert torch.equal(torch.cat([images for images, _ in batches]), expected)
    strategy = SimpleNamespace(root_device=torch.device("meta"))
    data.trainer = SimpleNamespace(global_rank=0, world_size=1, strategy=strategy)
    found = list(data.train_dataloader())
    assert {part.device.type for batch in found for part in batch} == {"meta"}
    assert sum(len(images) for images, _ in found) == len(expected)
    assert found[0][0].dtype == torch.float32
