"""The networks of a checkpoint, rebuilt without Lightning, and files that cannot be."""

import pytest
import torch

from ftbc_lightning import UserError
from ftbc_lightning.training.finished_networks import finished_networks
from tests.conftest import ROOT

FILE = ROOT / "tests/fixtures/run_of_0_1_0/snn.ckpt"


def changed(tmp_path, hyperparameters):
    content = torch.load(FILE, weights_only=True)
    content["hyper_parameters"] = hyperparameters
    torch.save(content, tmp_path / "snn.ckpt")
    return tmp_path / "snn.ckpt"


def test_they_are_those_of_the_file():
    networks = finished_networks(FILE)
    assert networks.phase == "calibrated"
    assert all(networks.network(variant) is not None for variant in networks.every_variant())


@pytest.mark.parametrize(
    ("described", "message"),
    [
        (None, "does not tell how to build its network"),
        (
            {"network": {"class_path": "ftbc_lightning.ann.MLP", "init_args": {"bends": 3}}},
            r"cannot be built: [^\n]*bends[^\n]*\. Read the file with the version",
        ),
    ],
)
def test_a_file_that_does_not_describe_a_network_is_refused_in_one_line(
    described, message, tmp_path
):
    with pytest.raises(UserError, match=message):
        finished_networks(changed(tmp_path, described))
