"""The gallery: networks that are trained here, as folders that are read back."""

import importlib.util
import sys
from dataclasses import replace

import pytest

from ftbc_lightning import UserError, from_pretrained
from tests.conftest import ROOT
from tests.interchange.test_hub import front

SMALL = ["--model.network.width", "4", "--trainer.max_epochs", "1", "--quiet"]
SMALL += ["--data.calibration_samples", "64"]


@pytest.fixture(scope="module")
def gallery():
    spec = importlib.util.spec_from_file_location(
        "make_networks", ROOT / "gallery/make_networks.py"
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


def test_a_network_is_trained_written_with_its_terms_and_read_back(gallery, tmp_path, capsys):
    entry = replace(gallery.DIGITS, config="digits_cnn", timesteps=2)
    folder = gallery.make(entry, tmp_path / "nets", *SMALL)
    assert {path.name for path in folder.iterdir()} == {"README.md", "model.safetensors"}
    assert from_pretrained(folder).timesteps == 2
    card = (folder / "README.md").read_text()
    assert front(card)["license"] == "apache-2.0"
    assert "UCI Machine Learning Repository, doi:10.24432/C50P49, CC BY 4.0" in card
    assert "| method | `weights+exact` |" in card
    assert "\nftbc fit --config digits_cnn --timesteps 2 " in card
    assert 'from_pretrained("nets/digits-resnet20")' in card
    assert f"{folder}: " in capsys.readouterr().out


def test_a_network_of_data_without_a_licence_has_none_and_needs_the_data(gallery, tmp_path, capsys):
    assert gallery.CIFAR10.license is None
    with pytest.raises(UserError, match="`ftbc fit` did not finish"):
        gallery.make(gallery.CIFAR10, tmp_path / "nets", "--data.root", str(tmp_path))
    assert "CIFAR10 cannot be read" in capsys.readouterr().err
    assert not (tmp_path / "nets" / "cifar10-resnet20").exists()
