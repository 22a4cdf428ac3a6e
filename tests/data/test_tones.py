"""Tones: what each kind sounds like, how they are divided, and a run through every command."""

import csv

import pytest
import torch

from ftbc_lightning import UserError
from ftbc_lightning.cli import main
from ftbc_lightning.data import TonesDataModule
from ftbc_lightning.data.sounds import HIGH, KINDS, LOW, SAMPLE_RATE, Draw, make_sounds
from tests.conftest import ROOT

CONFIG = ROOT / "configs" / "tones_cnn.yaml"


def made(kind, count=8):
    return KINDS[kind](Draw(count, torch.Generator().manual_seed(0)))


def loudest(sound, parts=10):
    """The loudest frequency of each part of a sound, in Hz."""
    pieces = sound.reshape(parts, -1)
    return torch.fft.rfft(pieces, n=SAMPLE_RATE).abs().argmax(1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_sound_is_a_second_between_minus_one_and_one_or_noise(kind):
    sounds = made(kind)
    assert sounds.shape == (8, SAMPLE_RATE)
    assert sounds.dtype is torch.float32
    assert sounds.abs().max() <= (1.0001 if kind not in ("burst", "clicks") else 3)
    assert (sounds.abs().amax(1) > 0.3).all()


def test_a_steady_tone_stays_a_rising_one_rises_and_a_falling_one_falls():
    for sound in made("steady"):
        heard = loudest(sound)
        assert heard.max() - heard.min() <= 10
        assert LOW - 10 < heard[0] < HIGH + 10
    for kind, sign in (("rising", 1), ("falling", -1)):
        for sound in made(kind):
            assert (sign * loudest(sound).diff() > 0).all()


def test_a_vibrato_swings_and_a_tremolo_fades():
    for sound in made("vibrato"):
        heard = loudest(sound, parts=40).float()
        assert heard.std() / heard.mean() > 0.015
    for sound in made("tremolo"):
        loudness = sound.reshape(80, -1).square().mean(1)
        assert loudness.min() < 0.05 * loudness.max()


def test_sounds_follow_from_the_seed_alone():
    one, same, other = (TonesDataModule(samples=80, seed=seed) for seed in (1, 1, 2))
    for split in ("train", "test"):
        found, again, another = (
            d.dataset(split, augmented=False).images for d in (one, same, other)
        )
        assert torch.equal(found, again)
        assert not (found == another).all(-1).any()
    seen = torch.cat(
        [d.dataset(s, augmented=False).images for d in (one, other) for s in ("train", "test")]
    )
    assert len(seen.unique(dim=0)) == 160


def test_noise_has_the_deviation_that_is_asked_for():
    both = [make_sounds(8, noise=n, generator=torch.Generator().manual_seed(0)) for n in (0.0, 2.0)]
    (clean, labels), (noisy, _) = both
    assert float((noisy - clean).std()) == pytest.approx(2, rel=0.02)
    assert labels.tolist() == list(range(8))


def test_every_kind_is_in_every_part():
    data = TonesDataModule()
    data.setup()
    labels = torch.tensor(data.labels("train"))
    parts = [labels[data.train_indices], labels[data.validation_indices]]
    parts.append(torch.tensor(data.labels("test")))
    assert [len(part) for part in parts] == [960, 320, 320]
    for part in parts:
        assert (part.bincount() == len(part) // 8).all()


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"samples": 0}, "samples is 0; it must be a whole number from 1"),
        ({"samples": 39}, "samples is 39; at least 40 are needed"),
        ({"noise": -0.1}, r"noise is -0\.1; it must be 0 or more"),
    ],
)
def test_a_setting_out_of_range_is_named(setting, said):
    with pytest.raises(UserError, match=said):
        TonesDataModule(**setting)


def words(subcommand, folder, *more):
    """A short command on few sounds."""
    return [
        *(subcommand, "--config", str(CONFIG), "--timesteps", "2"),
        *("--data.samples", "320", "--data.calibration_samples", "32"),
        *("--model.network.width", "4", "--trainer.max_epochs", "4"),
        *("--calibration.methods", "[exact]", "--trainer.logger", "false"),
        *("--trainer.default_root_dir", str(folder), "--trainer.enable_progress_bar", "false"),
        *more,
    ]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tones")
    assert main(words("fit", folder)) == 0
    assert main(words("test", folder, "--ckpt_path", str(folder / "snn.ckpt"))) == 0
    return folder


def test_sounds_are_told_apart_by_their_spectrogram(trained):
    with (trained / "results.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
    assert {row["n"] for row in rows} == {"64"}
    assert float(rows[0]["accuracy"]) > 0.3  # by chance: 0.125


def test_sounds_go_through_every_subcommand(trained, tmp_path, capsys):
    snn, ann = ("--ckpt_path", str(trained / "snn.ckpt")), str(trained / "ann.ckpt")
    assert main(words("inspect", tmp_path)) == 0
    assert "SoundCNN converts: yes, 6 layers of neurons." in capsys.readouterr().out
    assert main(["predict", *snn, "--output", str(tmp_path / "kinds.csv")]) == 0
    with (tmp_path / "kinds.csv").open() as file:
        assert {row["true_class"] for row in csv.DictReader(file)} == set(KINDS)
    assert main(["diagnose", *snn]) == 0
    assert main(["report", str(trained), "--out", str(tmp_path / "page.html")]) == 0
    assert main(words("calibrate", tmp_path, "--ckpt_path", ann)) == 0
    assert main(words("compare", tmp_path, "--ckpt_path", ann, "--seeds", "1")) == 0
    assert main(words("finetune", tmp_path, *snn, "--at", "2", "--epochs", "1")) == 0


def test_a_format_of_layers_alone_names_the_spectrogram(trained, tmp_path, capsys):
    words = ["--ckpt_path", str(trained / "snn.ckpt"), "--output", str(tmp_path / "net")]
    assert main(["export", *words, "--format", "safetensors"]) == 2
    said = capsys.readouterr().err
    assert "stft (stft, in forward): there is no such operation" in said
    assert "onnx and torch_export take every network that converts" in said
