"""Settings of data modules stand in one place, and the command line shows them all."""

import inspect

import pytest
from docstring_parser import parse

from ftbc_lightning import data
from ftbc_lightning.cli import main
from ftbc_lightning.cli.arguments import defaults
from ftbc_lightning.data import DigitsDataModule, DividedDataModule
from tests.conftest import ROOT

SHARED = {
    "batch_size": 128,
    "num_workers": 0,
    "validation_fraction": 0.1,
    "calibration_samples": 512,
    "seed": "null",
    "labelled": True,
}
IMAGES = {**SHARED, "mean": "null", "std": "null"}
TORCHVISION = {**IMAGES, "augmentation": "cifar", "root": "datasets", "download": False}
FOLDER = {
    **IMAGES,
    "batch_size": 64,
    "num_workers": 2,
    "image_size": "null",
    "test_fraction": 0.2,
    "unreadable": "refuse",
}
SHOWN = {
    "ArrayDataModule": {**IMAGES, "augmentation": "none"},
    "CIFAR10DataModule": TORCHVISION,
    "CIFAR100DataModule": TORCHVISION,
    "DiabetesDataModule": {
        **SHARED,
        "batch_size": 32,
        "validation_fraction": 0.25,
        "calibration_samples": 256,
    },
    "DigitsDataModule": {**SHARED, "batch_size": 64, "validation_fraction": 0.25},
    "EEGDataModule": {
        **SHARED,
        "window": 8,
        "horizon": 2,
        "test_fraction": 0.2,
        "batch_size": 32,
        "validation_fraction": 0.25,
    },
    "FashionMNISTDataModule": TORCHVISION,
    "ImageFolderDataModule": FOLDER,
    "ImageNetDataModule": FOLDER,
    "ShapesDataModule": {
        **SHARED,
        "batch_size": 32,
        "validation_fraction": 0.25,
        "calibration_samples": 256,
    },
    "TonesDataModule": {
        **SHARED,
        "samples": 1600,
        "noise": 0.2,
        "batch_size": 32,
        "validation_fraction": 0.25,
    },
}
REQUIRED = {
    "ArrayDataModule": {"path"},
    "ImageFolderDataModule": {"root"},
    "ImageNetDataModule": {"root"},
}


def family(kind=DividedDataModule):
    """The data modules of the package, those between among them."""
    own = [each for each in kind.__subclasses__() if each.__module__.startswith("ftbc_lightning.")]
    return [kind, *(found for each in own for found in family(each))]


def texts(kind) -> dict[str, str]:
    """What the docstring of a data module says of each setting of its own."""
    found = parse(inspect.cleandoc(kind.__doc__)).params if kind in family() else ()
    return {
        each.arg_name: " ".join(each.description.split())
        for each in found
        if each.args[0] == "param" and each.arg_name != "settings"
    }


def test_every_data_module_is_among_those_that_are_compared():
    kinds = ("Classification", "DenseClassification", "Divided", "Forecast", "Multilabel")
    bases = {f"{kind}DataModule" for kind in (*kinds, "Regression")}
    assert set(SHOWN) == set(data.__all__) - bases


@pytest.mark.parametrize("name", SHOWN)
def test_the_help_of_a_data_module_shows_each_setting_with_text_and_default(
    capsys, monkeypatch, name
):
    kind = getattr(data, name)
    monkeypatch.setenv("COLUMNS", "1000")
    said = {setting: text for base in kind.__mro__[::-1] for setting, text in texts(base).items()}
    assert set(said) == set(SHOWN[name]) | REQUIRED.get(name, set())
    with pytest.raises(SystemExit):
        main(["fit", f"--data.help={name}"])
    _, _, shown = " ".join(capsys.readouterr().out.split()).partition(" Help for ")
    for setting, text in said.items():
        shown = shown.replace(f", --data.{setting}+ {setting.upper()}", "")  # of a list
        line = shown.partition(f"--data.{setting} ")[2].partition(" --data.")[0]
        assert text in line
        end = f"default: {SHOWN[name][setting]})" if setting in SHOWN[name] else "(required"
        assert end in line


def test_the_text_of_a_setting_stands_once_in_the_package():
    source = " ".join(
        " ".join(path.read_text().split()) for path in (ROOT / "ftbc_lightning").rglob("*.py")
    )
    for kind in family():
        inherited = {name for base in kind.__mro__[1:] for name in texts(base)}
        assert inherited & set(texts(kind)) == set(), f"{kind.__name__} repeats them"
        for name, text in texts(kind).items():
            assert source.count(f"{name}: {text}") == 1


def test_a_setting_that_there_is_not_is_refused():
    with pytest.raises(TypeError, match="unexpected keyword argument 'batchsize'"):
        DigitsDataModule(batchsize=32)
    assert DigitsDataModule(batch_size=32).batch_size == 32


def test_a_setting_of_a_base_class_that_is_left_empty_is_named(capsys, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(
        (ROOT / "configs" / "digits_cnn.yaml")
        .read_text()
        .replace("calibration_samples: 512", "calibration_samples:")
    )
    assert main(["inspect", "--config", str(config)]) == 2
    assert "data.calibration_samples is left empty" in capsys.readouterr().err


def test_defaults_are_the_nearest_and_those_of_functions_too():
    assert defaults(DigitsDataModule)["batch_size"] == 64
    assert defaults(DigitsDataModule)["num_workers"] == 0
    assert defaults(lambda size=3: size) == {"size": 3}
