"""Networks and weights on the Hugging Face Hub, which is a folder on disk here."""

import re
import shutil
import sys

import pytest
import torch
import yaml
from safetensors.torch import save_file

from ftbc_lightning import UserError, from_pretrained, load, push_to_hub, simulate
from ftbc_lightning.ann import SmallCNN
from ftbc_lightning.cli import main
from ftbc_lightning.files import hub
from ftbc_lightning.training.finished_networks import choose, finished_networks
from ftbc_lightning.training.pretrained import load_pretrained
from tests.conftest import ROOT
from tests.interchange.test_safetensors import calibrated
from tests.networks import residual_net, samples

RUN = ROOT / "tests" / "fixtures" / "run_of_0_1_0"
QUIET = ["--quiet", "--trainer.logger", "false"]
LICENCE = ["--license", "apache-2.0"]


class LocalHub:
    """Repositories as folders; what huggingface_hub does with them."""

    def __init__(self, folder):
        self.folder, self.asked = folder, []
        self.token = "given"  # of nobody
        self.made = {}

    def HfApi(self):
        return self

    def get_token(self):
        return self.token

    def create_repo(self, repo, *, private, exist_ok):
        self.made[repo] = private
        return f"hub:{repo}"

    def upload_folder(self, *, repo_id, folder_path, commit_message):
        shutil.copytree(folder_path, self.folder / repo_id, dirs_exist_ok=True)

    def hf_hub_download(self, repo, file, revision=None):
        self.asked.append((repo, file, revision))
        if not (self.folder / repo / file).is_file():
            raise FileNotFoundError("404 Client Error.\n\nEntry not found.\nMore lines.")
        return str(self.folder / repo / file)


@pytest.fixture
def local(tmp_path, monkeypatch):
    found = LocalHub(tmp_path / "hub")
    monkeypatch.setattr(hub, "imported_hub", lambda: found)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    return found


@pytest.fixture
def run(tmp_path):
    return shutil.copytree(RUN, tmp_path / "run")


def front(card):
    """What the hub reads of a page."""
    return yaml.safe_load(card.partition("---\n")[2].partition("---\n")[0])


def test_what_was_sent_is_read_back_with_the_same_logits(local, tmp_path):
    snn, images = calibrated(residual_net(), samples(8)), samples(8)
    assert push_to_hub(snn, "me/net", private=True) == "hub:me/net"
    assert local.made == {"me/net": True}
    for place in ("me/net", local.folder / "me" / "net"):
        torch.testing.assert_close(
            simulate(from_pretrained(place), images), simulate(snn, images), rtol=0, atol=1e-10
        )
    assert local.asked == [("me/net", "model.safetensors", None)]
    from_pretrained("me/net", "v1")
    assert local.asked[-1][2] == "v1"
    assert list((tmp_path / "temporary").iterdir()) == []


def test_the_command_sends_a_network_of_a_run_with_a_page_on_it(local, run, capsys):
    words = [
        "push",
        str(run),
        "--repo",
        "me/digits",
        "--method",
        "weights+exact",
        "--timesteps",
        "1",
    ]
    assert main([*words, *LICENCE]) == 0
    assert capsys.readouterr().out == "weights+exact, T = 1: hub:me/digits\n"
    assert local.made == {"me/digits": None}
    networks = finished_networks(run / "snn.ckpt")
    images = torch.rand((4, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    snn = networks.network(choose(networks, method="weights+exact", timesteps=1))
    expected = simulate(snn, images)
    torch.testing.assert_close(simulate(from_pretrained("me/digits"), images), expected)
    card = (local.folder / "me" / "digits" / "README.md").read_text()
    found = front(card)
    assert found["license"] == "apache-2.0"
    assert found["library_name"] == "ftbc-lightning"
    assert "spiking-neural-network" in found["tags"]
    assert "| method | `weights+exact` |" in card
    assert re.search(r"\| ANN \| `ftbc_lightning.ann.SmallCNN\(num_classes=10, ", card)
    assert re.search(
        r"\| SNN \+ weights \+ FTBC exact \| 1 \| [\d.]+ \| 360 \| validation \| 0 \|", card
    )
    assert re.search(r"\| SNN \+ weights \+ FTBC exact \| 1 \| [\d.]+ \| 355 \| test \| 0 \|", card)
    assert "SNN + FTBC exact |" not in card
    assert 'from_pretrained("me/digits")' in card


def test_energy_is_on_the_page_if_it_was_measured(run, tmp_path):
    words = ["push", str(run), "--repo", "me/digits", "--out"]
    assert main([*words, str(tmp_path / "measured")]) == 0
    assert "cost table 45nm-fp32" in (tmp_path / "measured" / "README.md").read_text()
    (run / "curves" / "operations.csv").unlink()
    assert main([*words, str(tmp_path / "not")]) == 0
    assert "energy" not in (tmp_path / "not" / "README.md").read_text()


def test_the_page_tells_the_command_without_the_folders_of_who_ran_it(run, tmp_path):
    command = '["/home/me/bin/ftbc", "fit", "--config", "/home/me/a.yaml", "--data.root=/d/b"]'
    (run / "run.json").write_text(f'{{"val": {{"command": {command}}}}}')
    assert main(["push", str(run), "--repo", "me/digits", "--out", str(tmp_path / "out")]) == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert "ftbc fit --config a.yaml --data.root=b\n" in card
    assert "/home" not in card


def test_with_out_nothing_is_sent_and_no_package_is_needed(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    out = tmp_path / "a" / "b"
    assert main(["push", str(run), "--repo", "me/digits", "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"exact, T = 4: {out} (written; nothing was sent)\n"
    assert {path.name for path in out.iterdir()} == {"README.md", "model.safetensors"}
    assert "license" not in front((out / "README.md").read_text())
    assert from_pretrained(out).timesteps == 4
    assert main(["push", str(run), "--repo", "me/digits", "--out", str(out)]) == 0
    assert main(["push", str(run), "--repo", "me/digits"]) == 2
    assert "pip install huggingface_hub (the extra `hub`" in capsys.readouterr().err


def test_a_folder_is_exported_once_more(run, tmp_path, capsys):
    folder = tmp_path / "net"
    assert main(["push", str(run), "--repo", "me/net", "--out", str(folder)]) == 0
    capsys.readouterr()
    words = ["export", "--ckpt_path", str(folder)]
    assert main([*words, "--bits", "14"]) == 0
    assert capsys.readouterr().out == f"net, T = 4: {folder / 'net.safetensors'}\n"
    images = torch.rand((8, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    own, integers = (
        simulate(snn, images)[-1]
        for snn in (from_pretrained(folder), load(folder / "net.safetensors"))
    )
    assert 0 < (own - integers).norm() < 0.05 * own.norm()
    for more in (["--method", "exact"], ["--timesteps", "2"]):
        assert main([*words, *more]) == 2
        assert "holds one network, for T = 4; leave --method and" in capsys.readouterr().err


def test_a_folder_is_no_checkpoint_and_the_message_says_what_reads_it(run, tmp_path, capsys):
    folder = str(tmp_path / "net")
    assert main(["push", str(run), "--repo", "me/net", "--out", folder]) == 0
    place = ["--trainer.default_root_dir", str(tmp_path / "run")]
    assert main(["test", "--config", "digits_cnn", "--ckpt_path", folder, *QUIET, *place]) == 2
    assert f"{folder} is a folder; give the checkpoint in it." in capsys.readouterr().err


def test_a_page_of_somebody_s_own_is_left_alone(tmp_path):
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(UserError, match=r"has a README.md of its own"):
        push_to_hub(calibrated(residual_net(), samples(4)), "me/net", out=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]


def refuse(*_, **__):
    raise ConnectionError("no way out")


@pytest.mark.parametrize(("token", "why"), [(None, "no token: run `hf auth"), ("a", "no way out")])
def test_what_could_not_be_sent_is_one_line_and_the_folder_stays(
    local, run, monkeypatch, capsys, token, why
):
    local.token = token
    monkeypatch.setattr(local, "create_repo", refuse, raising=True)
    assert main(["push", str(run), "--repo", "me/digits"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("ftbc: error: Nothing was sent to me/digits (")
    assert why in said
    assert said.count("\n") == 1
    folder = re.search(r"What would be sent is in (.*)\.$", said)[1]
    assert from_pretrained(folder).timesteps == 4


def test_a_network_that_no_file_holds_leaves_nothing(local, tmp_path):
    snn = calibrated(residual_net(), samples(4))
    snn.input_shape = None
    with pytest.raises(UserError, match="input_shape"):
        push_to_hub(snn, "me/net")
    assert list((tmp_path / "temporary").iterdir()) == []
    assert local.made == {}


def test_mistakes_are_one_line(local, run, tmp_path, capsys):
    def error(*words):
        assert main(["push", *words]) == 2
        return capsys.readouterr().err

    assert "--repo OWNER/NAME" in error(str(run))
    assert "'digits' is no name of a repository" in error(str(run), "--repo", "digits")
    assert "There is no folder" in error(str(tmp_path / "none"), "--repo", "me/digits")
    assert "no network with T = 3" in error(str(run), "--repo", "me/a", "--timesteps", "3")
    with pytest.raises(UserError, match=r"hf://me/none/model.safetensors cannot be fetched \(File"):
        from_pretrained("me/none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"There is no file .*model.safetensors"):
        from_pretrained(tmp_path / "empty")


@pytest.fixture
def weights(local):
    """A network's weights in a repository, and the network."""
    torch.manual_seed(1)
    ann = SmallCNN(in_channels=1, width=4)
    (local.folder / "me" / "ann").mkdir(parents=True)
    save_file(ann.state_dict(), local.folder / "me" / "ann" / "small.safetensors")
    return ann


def test_weights_of_the_hub_are_loaded_at_a_revision(local, weights):
    ann = SmallCNN(in_channels=1, width=4)
    load_pretrained(ann, "hf://me/ann@v1/small.safetensors")
    assert local.asked == [("me/ann", "small.safetensors", "v1")]
    assert all(torch.equal(value, weights.state_dict()[k]) for k, value in ann.state_dict().items())
    wider = SmallCNN(in_channels=1, width=8)
    with pytest.raises(UserError, match=r"in hf://me/ann/small.safetensors do not fit SmallCNN"):
        load_pretrained(wider, "hf://me/ann/small.safetensors")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("hf://me/ann/none.pt", r"none.pt cannot be fetched \(FileNotFoundError: 404 .* its path"),
        ("hf://me/ann", "names no file of the Hugging Face Hub; write hf://OWNER/NAME/FILE"),
    ],
)
def test_weights_that_cannot_be_had_are_named(local, weights, source, message):
    with pytest.raises(UserError, match=message):
        load_pretrained(weights, source)


def test_weights_are_fetched_for_a_calibration_and_not_for_what_needs_none(
    local, weights, tmp_path, capsys
):
    words = ["--config", str(ROOT / "configs" / "digits_cnn.yaml"), "--timesteps", "2"]
    words += ["--model.network.width", "4", "--trainer.default_root_dir", str(tmp_path / "run")]
    words += ["--model.weights", "hf://me/ann/small.safetensors"]
    assert main(["inspect", *words]) == 0
    assert local.asked == []
    assert main(["calibrate", *words, "--calibration.methods", "[exact]"]) == 0
    assert len(local.asked) == 1
    assert main(["test", "--ckpt_path", str(tmp_path / "run" / "snn.ckpt")]) == 0
    assert len(local.asked) == 1
    assert "weights of the ANN" not in capsys.readouterr().out
    out = tmp_path / "out"
    assert main(["push", str(tmp_path / "run"), "--repo", "me/a", "--out", str(out)]) == 0
    card = (out / "README.md").read_text()
    assert "| weights of the ANN | hf://me/ann/small.safetensors |" in card


def test_offline_the_cache_is_read(tmp_path, monkeypatch):
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    snapshot = tmp_path / "models--me--net" / "snapshots" / "abc"
    push_to_hub(calibrated(residual_net(), samples(4)), "me/net", out=snapshot)
    (tmp_path / "models--me--net" / "refs").mkdir()
    (tmp_path / "models--me--net" / "refs" / "main").write_text("abc")
    assert from_pretrained("me/net").timesteps == 4
    with pytest.raises(UserError, match=r"hf://me/other/.* cannot be fetched .* give its path"):
        from_pretrained("me/other")
