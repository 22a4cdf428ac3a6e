"""Networks and weights of timm by their names; its hub is a folder on disk here."""

import pytest
import torch

from ftbc_lightning import UserError
from ftbc_lightning.ann import timm_network
from ftbc_lightning.cli import main
from ftbc_lightning.training.pretrained import load_pretrained
from tests.conftest import ROOT

timm = pytest.importorskip("timm")
WEIGHTS = "timm/test_resnet.r160_in1k"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The cache of timm's hub, empty, and no way to the hub."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def test_a_network_by_its_name_has_random_weights_and_the_outputs_that_are_asked_for(hub):
    net = timm_network("resnet18d", num_classes=7, in_channels=1).eval()
    assert net(torch.rand(2, 1, 32, 32)).shape == (2, 7)


def test_a_name_that_timm_does_not_have_is_refused_with_names_that_begin_alike():
    with pytest.raises(UserError, match=r"no network 'resnet18q'; names that begin alike: .*18d"):
        timm_network("resnet18q")


def test_the_size_of_a_sample_reaches_networks_that_are_made_for_one():
    net = timm_network("deit_tiny_patch16_224", num_classes=3, image_size=32)
    assert net(torch.zeros(1, 3, 32, 32)).shape == (1, 3)
    with pytest.raises(UserError, match="timm's resnet18 takes no image_size; leave it out"):
        timm_network("resnet18", image_size=32)
    with pytest.raises(UserError, match="image_size is 0"):
        timm_network("deit_tiny_patch16_224", image_size=0)


def test_without_timm_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(UserError, match="need timm, which is not installed: pip install timm"):
        timm_network("resnet18d")


def test_weights_by_their_name_come_from_the_hub_s_cache(hub):
    from safetensors.torch import save_file

    torch.manual_seed(1)
    published = timm_network("test_resnet")
    repository = hub / "models--timm--test_resnet.r160_in1k"
    (repository / "snapshots" / "abc").mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    state = {name: value.clone() for name, value in published.state_dict().items()}
    save_file(state, repository / "snapshots" / "abc" / "model.safetensors")
    net = timm_network("test_resnet")
    load_pretrained(net, WEIGHTS)
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    with pytest.raises(UserError, match=r"do not fit ResNet; of another shape: head|fc"):
        load_pretrained(timm_network("test_resnet", num_classes=3), WEIGHTS)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (WEIGHTS, r"weights timm/test_resnet.r160_in1k cannot be fetched .* give its path"),
        ("timm/test_resnet.other", r"has no weights timm/test_resnet.other; there are: timm/test"),
        ("timm/nothing", "there are: none of that network"),
    ],
)
def test_weights_that_cannot_be_had_are_named(hub, source, message):
    with pytest.raises(UserError, match=message):
        load_pretrained(timm_network("test_resnet"), source)


@pytest.mark.parametrize("form", ["words", "equals", "file"])
def test_the_command_line_takes_the_name_alone(hub, tmp_path, capsys, form):
    words = ["inspect", "--config", str(ROOT / "configs" / "cifar10_resnet20.yaml")]
    (tmp_path / "net.yaml").write_text("model:\n  network: timm/resnet18d\n")
    words += {
        "words": ["--model.network", "timm/resnet18d", "--model.network.num_classes", "10"],
        "equals": ["--model.network=timm/resnet18d"],
        "file": ["--config", str(tmp_path / "net.yaml")],
    }[form]
    assert main(words) == 0
    assert "ResNet converts: yes, 19 layers of neurons" in capsys.readouterr().out


def test_a_run_and_the_checkpoint_that_it_leaves(hub, tmp_path):
    words = ["--config", str(ROOT / "configs" / "digits_resnet20.yaml"), "--timesteps", "2"]
    words += ["--model.network", "timm/test_resnet", "--model.network.num_classes", "10"]
    words += ["--model.network.in_channels", "1", "--calibration.methods", "[exact]"]
    words += ["--trainer.max_epochs", "1", "--trainer.default_root_dir", str(tmp_path / "run")]
    assert main(["fit", *words]) == 0
    assert main(["test", "--ckpt_path", str(tmp_path / "run" / "snn.ckpt")]) == 0
