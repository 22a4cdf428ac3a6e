"""Bad input, and the exact first line of what a person is told: the table is `messages.txt`.

In it `~` is the test's folder, `(...)` the name of an exception of a library, and a word of
`LISTS` the names that a registry has.
"""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from ftbc_lightning import UserError
from ftbc_lightning.ann import VGG16, LogMel, ResNet20, SmallCNN
from ftbc_lightning.calibration.stage import KINDS
from ftbc_lightning.calibration.stages import calibrating, of_kind
from ftbc_lightning.data import TonesDataModule
from ftbc_lightning.snn.thresholds import RULES
from ftbc_lightning.training.tasks import TASKS
from tests.bad_input import data, files, networks

DENSE = "dense_classification"
EVIL = {"network": {"class_path": "os.system", "init_args": {"command": "touch executed"}}}

ROWS = {
    # data: arrays in one file
    "array: no file": lambda f: data.ArrayDataModule(path=str(f / "a.npz")),
    "array: truncated": data.cut_array,
    "array: damaged": data.damaged_array,
    "array: not an archive": data.single_array,
    "array: key missing": lambda f: data.array(f, train_labels=None),
    "array: floats": lambda f: data.array(f, test_images=torch.zeros(20, 8, 8, 3).numpy()),
    "array: four channels": lambda f: data.array(f, train_images=bytes_of(40, 8, 8, 4)),
    "array: channels first": lambda f: data.array(f, train_images=bytes_of(40, 3, 8, 8)),
    "array: no pixels": lambda f: data.array(f, train_images=bytes_of(40, 8)),
    "array: fewer labels": lambda f: data.array(f, train_labels=longs(39)),
    "array: fractions as labels": lambda f: data.array(f, train_labels=longs(40) / 2),
    "array: negative label": lambda f: data.array(f, train_labels=longs(40) - 1),
    "array: label above": lambda f: data.array(f, test_labels=longs(20) + 60),
    "array: labels are ids": lambda f: data.array(f, train_labels=longs(40) + 10**12),
    "array: infinite labels": lambda f: data.array(f, train_labels=longs(40) + float("inf")),
    "array: a number for samples": lambda f: data.array(f, train_images=bytes_of()),
    "array: samples without pixels": lambda f: data.array(f, train_images=bytes_of(40, 0, 0, 3)),
    "array: no test samples": lambda f: data.array(
        f, test_images=bytes_of(0, 8, 8, 3), test_labels=longs(0)
    ),
    "array: other size": lambda f: data.array(f, test_images=bytes_of(20, 9, 9, 3)),
    "array: one class": lambda f: data.array(
        f, train_labels=longs(40) * 0, test_labels=longs(20) * 0
    ),
    "array: one class of two": lambda f: data.array(
        f, train_labels=longs(40) * 0, test_labels=longs(20) * 0, classes=["a", "b"]
    ),
    "array: one mean": lambda f: data.array(f, settings={"mean": [0.5], "std": [0.5]}),
    "array: std of zero": lambda f: data.array(f, settings={"mean": [0.5] * 3, "std": [0.0] * 3}),
    # data: folders
    "folder: missing": lambda f: data.unlabelled_folder(f / "none"),
    "folder: no classes": data.no_classes,
    "folder: empty class": data.empty_class,
    "folder: no test folder": lambda f: data.unlabelled_folder(data.samples(f, splits=("train",))),
    "folder: other classes": data.class_missing_in_test,
    "folder: one class": data.one_class_folder,
    "folder: truncated sample": data.broken_sample,
    "folder: empty sample": lambda f: data.broken_sample(f, b""),
    "folder: text for a sample": lambda f: data.broken_sample(f, b"no sample"),
    "folder: choice unknown": lambda f: data.unlabelled_folder(
        data.samples(f), unreadable="ignore"
    ),
    "folder: no size": lambda f: data.unlabelled_folder(data.samples(f), image_size=0),
    "folder: all for the test": lambda f: data.unlabelled_folder(
        data.samples(f), test_fraction=1.0
    ),
    "folder: two means": lambda f: data.unlabelled_folder(data.samples(f), mean=[0.5, 0.5]),
    "samples of two sizes": lambda f: data.mixed_sizes(),
    # data: settings
    "batch of 0": lambda f: data.digits(batch_size=0),
    "workers below 0": lambda f: data.digits(num_workers=-1),
    "no calibration samples": lambda f: data.digits(calibration_samples=0),
    "too many calibration samples": lambda f: data.digits(calibration_samples=5000),
    "everything validates": lambda f: data.array(f, settings={"validation_fraction": 1.0}),
    "nothing validates": lambda f: data.array(f, settings={"validation_fraction": 0.001}),
    # data: series and sounds
    "series: too short": lambda f: data.forecast(torch.arange(40.0)),
    "series: a gap": lambda f: data.forecast(torch.arange(200.0).log()),
    "series: never changes": lambda f: data.forecast(torch.ones(200)),
    "series: three axes": lambda f: data.forecast(torch.ones(200, 2, 2)),
    "series: everything tests": lambda f: data.forecast(torch.arange(200.0), test_fraction=1.0),
    "sounds: too few": lambda f: TonesDataModule(samples=8),
    "sounds: noise below 0": lambda f: TonesDataModule(noise=-1.0),
    "bands narrower than the window": lambda f: LogMel(bands=128),
    # samples and weights that are not finite
    "NaN pixel": lambda f: networks.broken_pixels(torch.nan),
    "infinite pixel": lambda f: networks.broken_pixels(torch.inf),
    "NaN weights": lambda f: networks.broken_weights(),
    # networks
    "no ReLU": lambda f: networks.converting(nn.Sequential(nn.Flatten(), nn.Linear(64, 4))),
    "nodes that are not supported": lambda f: networks.converting(networks.Smooth()),
    "path depends on data": lambda f: networks.converting(networks.Branching()),
    "writes into its input": lambda f: networks.converting(networks.Writing()),
    "clamps in place": lambda f: networks.converting(networks.Clamping()),
    "two inputs": lambda f: networks.converting(networks.TwoInputs()),
    "two outputs": lambda f: networks.checking(networks.TwoOutputs()),
    "product of two values": lambda f: networks.converting(networks.Product()),
    "no weights": lambda f: networks.converting(nn.Sequential(nn.Flatten(), nn.ReLU())),
    "recurrent": lambda f: networks.converting(nn.Sequential(nn.Flatten(), nn.LSTM(64, 4))),
    "channels do not fit": lambda f: networks.checking(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    ),
    "outputs do not fit": lambda f: networks.checking(networks.layers(), classes=7),
    "outputs are a sample": lambda f: networks.checking(
        nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU())
    ),
    "no axis of channels": lambda f: networks.rectified_scalars(),
    "labels in a column": lambda f: networks.two_columns_of_labels(),
    "another network": lambda f: networks.calibrating_for_another(9),
    "a deeper network": lambda f: networks.calibrate(
        networks.layers()[:2], networks.converting(networks.layers()), [networks.images()]
    ),
    "samples of another size": lambda f: networks.calibrating_on([torch.rand(4, 1, 9, 9)]),
    "samples of another size to convert with": lambda f: networks.converting(
        networks.layers(), torch.rand(4, 1, 9, 9)
    ),
    "samples of another size to simulate": lambda f: networks.simulate(
        networks.converting(networks.layers()), torch.rand(4, 1, 9, 9)
    ),
    "one tensor for batches": lambda f: networks.calibrating_on(networks.images()),
    "dictionaries for batches": lambda f: networks.calibrating_on([{"x": networks.images()}]),
    # a class for each place
    "places: one output": lambda f: networks.checking(networks.layers(), task=DENSE),
    "places: outputs do not fit": lambda f: networks.checking(
        networks.places(4), classes=7, task=DENSE
    ),
    "places: more classes than labels": lambda f: networks.checking(
        networks.places(256), task=DENSE
    ),
    "places: other size": lambda f: networks.judging_places(torch.zeros(2, 6, 6).long()),
    "places: fractions as labels": lambda f: networks.judging_places(torch.zeros(2, 8, 8)),
    "places: label above": lambda f: networks.judging_places(
        torch.tensor([4, 255, 5, 0] * 32).reshape(2, 8, 8)
    ),
    "places: stop early": lambda f: TASKS[DENSE](networks.places(4)).check_early_exit(),
    # settings
    "no input channel": lambda f: SmallCNN(in_channels=-1),
    "classes left empty": lambda f: ResNet20(num_classes=None),
    "dropout above 1": lambda f: VGG16(dropout=1.5),
    "T of 0": lambda f: networks.converting(networks.layers(), timesteps=0),
    "T of two and a half": lambda f: networks.converting(networks.layers(), timesteps=2.5),
    "levels of one and a half": lambda f: networks.converting(networks.layers(), levels=1.5),
    "T below 0": lambda f: networks.callback(timesteps=[2, -1]),
    "no T": lambda f: networks.callback(timesteps=[]),
    "T beyond memory": lambda f: networks.absurd_memory(),
    "weights beyond memory": lambda f: networks.absurd_layer(),
    "T beyond the conversion": lambda f: networks.simulating(timesteps=3),
    "nothing to simulate": lambda f: networks.simulating(0),
    "no thresholds yet": lambda f: networks.without_thresholds(),
    "no calibration batch": lambda f: networks.convert(
        networks.layers(), networks.images(1), [], timesteps=2
    ),
    "alpha of 0": lambda f: networks.calibrating(method="iterative", alpha=0.0),
    "alpha above 1": lambda f: networks.callback(alpha=1.5),
    "no rounds": lambda f: networks.callback(rounds=0),
    "percent of 0": lambda f: networks.callback(percent=0.0),
    "percent above 100": lambda f: networks.converting(
        networks.layers(), threshold_rule="percentile", percent=101
    ),
    "method unknown": lambda f: networks.callback(methods=["best"]),
    "rule unknown": lambda f: networks.converting(networks.layers(), threshold_rule="best"),
    "rule unknown to the callback": lambda f: networks.callback(threshold_rule="best"),
    "scope unknown": lambda f: networks.converting(networks.layers(), scope="neuron"),
    "half threshold unknown": lambda f: networks.converting(
        networks.layers(), half_threshold="both"
    ),
    "target unknown": lambda f: networks.calibrating(target="end"),
    "nothing was learned": lambda f: networks.converting(
        networks.layers(), threshold_rule="learned"
    ),
    # files
    "file: missing": lambda f: files.read_file(f / "file.pt"),
    "file: empty": files.empty,
    "file: text": files.text,
    "file: truncated": files.truncated,
    "file: truncated safetensors": files.truncated_safetensors,
    "file: code": files.code,
    "file: a pickle with code": files.bare_pickle,
    "file: a whole module": files.whole_module,
    "file: a list": files.a_list,
    "file: weights for a checkpoint": files.state_dict_for_checkpoint,
    "file: no version": files.no_version,
    "file: numbers for tensors": files.numbers_for_tensors,
    "file: other network": files.other_width,
    "file: other names": files.other_names,
    "file: other shapes": files.other_shapes,
    "file: NaN weights": files.nan_weights,
    "file: infinite weights": files.nan_checkpoint,
    "snn file: later format": lambda f: files.load(files.saved(f, files.described(format=2))),
    "snn file: earlier format": lambda f: files.load(files.saved(f, files.described(format=0))),
    "snn file: phase unknown": lambda f: files.load(files.saved(f, files.described(phase="x"))),
    "snn file: method unknown": lambda f: files.load(files.saved(f, files.described(method="x"))),
    "snn file: other T": lambda f: files.load(files.saved(f, files.described(timesteps=10**12))),
    "snn file: other neurons": lambda f: files.load(
        files.saved(f, files.described(neurons={"act9": [4, 8, 8]}))
    ),
    "snn file: other shapes": lambda f: files.load(
        files.saved(f, files.described(neurons={"act1": []}))
    ),
    "snn file: a size that is no number": lambda f: files.load(
        files.saved(f, files.described(neurons={"act1": [True, 8, 8]}))
    ),
    "snn file: an input that is no shape": lambda f: files.load(
        files.saved(f, files.described(input=3))
    ),
    "snn file: tensor missing": files.spiking_tensor_missing,
    "snn file: description missing": files.description_missing,
    "description: a function": lambda f: files.hyperparameters(f, **EVIL),
    "description: in a list": lambda f: files.hyperparameters(f, x=[{"y": "os.system"}]),
    "description: builder": lambda f: files.hyperparameters(f, _instantiator="os.system"),
    "description: not installed": lambda f: files.hyperparameters(
        f, network={"class_path": "nowhere.Network"}
    ),
    "description: a number": lambda f: files.load_described(f),
}


def bytes_of(*shape: int):
    return torch.zeros(shape, dtype=torch.uint8).numpy()


def longs(count: int):
    return torch.arange(count).numpy() % 4


LINES = (Path(__file__).parent / "messages.txt").read_text().splitlines()
MESSAGES = dict(line.split(" => ", 1) for line in LINES)
LISTS = {
    "METHODS": ", ".join(calibrating()),
    "GROUPS": "; ".join(" or ".join(", ".join(of_kind(k)).rsplit(", ", 1)) for k in KINDS[:3]),
    "RULES": ", ".join(RULES),
}


def test_the_table_is_complete():
    assert list(ROWS) == list(MESSAGES)
    assert len(ROWS) >= 60


@pytest.mark.parametrize("name", ROWS)
def test_the_first_line_says_what_is_wrong(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        ROWS[name](tmp_path)
    line = str(caught.value).splitlines()[0].replace(str(tmp_path), "~")
    line = re.sub(r"\((\w*Error|error|BadZipFile)\)", "(...)", line)
    expected = MESSAGES[name]
    for word, names in LISTS.items():
        expected = expected.replace(word, names)
    assert line == expected
    assert not Path("executed").exists()


@pytest.mark.parametrize("content", [b"", b"no sample", None])
def test_samples_that_cannot_be_decoded_are_skipped_and_named_if_asked(tmp_path, content):
    with pytest.warns(UserWarning, match=r"1 of 24 images .*train/cat/3\.png"):
        data.broken_sample(tmp_path, content, unreadable="skip")
