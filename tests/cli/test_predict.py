"""`ftbc predict` and `ftbc export` on a finished run, and stopping early."""

import csv
import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from ftbc_lightning import SpikingClassifier, UserError, load, simulate
from ftbc_lightning.cli import main
from ftbc_lightning.files.run_configuration import run_configuration
from ftbc_lightning.snn.early_exit import (
    choose_confidence,
    confidence_of,
    exit_curve,
    exit_step,
    simulate_until_sure,
    stable_step,
)
from ftbc_lightning.training.finished_networks import choose
from ftbc_lightning.training.reload import datamodule, reload
from tests.graph.test_max_pooling import net as pooled_net
from tests.interchange.test_safetensors import calibrated
from tests.networks import residual_net, samples
from tests.tables import rows


@pytest.mark.parametrize("make", [residual_net, pooled_net])
def test_a_sample_that_stops_early_has_the_logits_of_the_step_at_which_it_was_sure(make):
    ann, images = make(), samples(16)
    snn = calibrated(ann, images, 6)
    everything = simulate(snn, images)
    threshold = float(confidence_of(everything)[0].median())
    logits, steps = simulate_until_sure(snn, images, confidence=threshold)
    expected = exit_step(confidence_of(everything)[0], threshold)
    assert torch.equal(steps, expected + 1)
    assert 1 <= steps.min() < steps.max() <= 6
    for n, last in enumerate(expected.tolist()):
        torch.testing.assert_close(
            logits[: last + 1, n], everything[: last + 1, n], rtol=0, atol=1e-12
        )
        assert torch.equal(logits[-1, n], logits[last, n])


def test_a_confidence_of_one_takes_every_step_and_a_wrong_one_is_refused():
    snn = calibrated(residual_net(), samples(8))
    assert simulate_until_sure(snn, samples(3), confidence=1.0)[1].tolist() == [4, 4, 4]
    with pytest.raises(UserError, match=r"early_exit is 1\.5"):
        simulate_until_sure(snn, samples(3), confidence=1.5)


def test_the_curve_ends_at_all_steps_and_the_chosen_point_loses_no_accuracy():
    images = samples(64)
    snn = calibrated(residual_net(), images, 8)
    logits = simulate(snn, images)
    labels = residual_net()(images).argmax(-1)
    curve = exit_curve(logits, labels)
    assert [point.mean_steps for point in curve] == sorted(point.mean_steps for point in curve)
    assert curve[-1].mean_steps == 8
    assert curve[-1].accuracy == float((logits[-1].argmax(-1) == labels).double().mean())
    chosen = choose_confidence(curve)
    assert chosen.accuracy >= curve[-1].accuracy
    assert chosen.mean_steps <= curve[-1].mean_steps
    assert choose_confidence(curve, loss=1.0).mean_steps == curve[0].mean_steps


def test_a_class_is_stable_from_the_step_after_its_last_change():
    labels = torch.tensor([[0, 1, 2], [1, 1, 2], [0, 1, 3], [0, 1, 2]])
    assert stable_step(labels).tolist() == [2, 0, 3]


def test_predict_finds_the_runs_own_configuration_and_writes_a_row_for_each_sample(
    fitted, tmp_path, capsys
):
    output = tmp_path / "predictions.csv"
    command = ["predict", "--ckpt_path", str(fitted.folder / "snn.ckpt")]
    assert main([*command, "--output", str(output), "--trainer.logger", "false"]) == 0
    found = rows(output)
    module = reload(fitted.folder / "snn.ckpt")
    data = datamodule(run_configuration(fitted.folder / "snn.ckpt"))
    data.prepare_data()
    data.setup()
    images, labels = map(torch.cat, zip(*data.predict_dataloader(), strict=True))
    logits = simulate(module.network(module.headline()), images)
    assert [row["class"] for row in found] == [str(k) for k in logits[-1].argmax(-1).tolist()]
    assert [row["true_class"] for row in found] == [str(k) for k in labels.tolist()]
    assert {row["steps"] for row in found} == {"2"}
    assert {row["stable_from"] for row in found} <= {"1", "2"}
    confidence = [float(row["confidence_2"]) for row in found]
    np.testing.assert_allclose(confidence, confidence_of(logits)[0][-1], atol=1e-4)
    assert (
        f"SNN + FTBC exact, T = 2: {len(labels)} samples, 2.00 of 2 steps"
        in capsys.readouterr().out
    )


def test_predict_takes_the_network_that_is_asked_for(fitted, tmp_path, capsys):
    output = tmp_path / "predictions.csv"
    command = ["predict", "--ckpt_path", str(fitted.folder / "snn.ckpt"), "--output", str(output)]
    assert main([*command, "--method", "static", "--at", "1"]) == 0
    found = rows(output)
    right = sum(row["class"] == row["true_class"] for row in found) / len(found)
    model, data = fitted.cli.model, fitted.cli.datamodule
    data.setup("test")
    network = model.network(model.variants["snn_static_T1"])
    (images, labels) = (torch.cat(part) for part in zip(*data.test_dataloader(), strict=True))
    assert right == pytest.approx(float((network(images)[-1].argmax(-1) == labels).float().mean()))
    assert {row["steps"] for row in found} == {"1"}
    capsys.readouterr()
    assert main([*command, "--method", "best"]) == 2
    assert "no network with method best; there are: none at T = 1, 2" in capsys.readouterr().err


def test_what_evaluates_a_run_without_a_logger_leaves_its_configuration_alone(fitted, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(fitted.folder, folder)
    own = run_configuration(folder / "snn.ckpt")
    root = ["--trainer.default_root_dir", str(folder), "--trainer.logger", "false"]
    assert main(["predict", "--ckpt_path", f"{folder}/snn.ckpt", *root, "--at", "1"]) == 0
    assert run_configuration(folder / "snn.ckpt") == own
    assert not (folder / "config.yaml").exists()
    again = ["--trainer.default_root_dir", str(tmp_path / "again"), "--trainer.logger", "false"]
    command = fitted.args("calibrate", "--ckpt_path", f"{folder}/snn.ckpt", *again)
    assert main([*command, "--calibration.methods", "[static]"]) == 0
    made = run_configuration(tmp_path / "again" / "snn.ckpt")
    assert "- static" in made.read_text()


def test_a_choice_of_a_network_is_for_one_prediction(fitted):
    model, data, trainer = fitted.cli.model, fitted.cli.datamodule, fitted.cli.trainer
    trainer.predict(model, datamodule=data, at=1, method="static", early_exit=0.9)
    model.early_exit = 0.1
    found = trainer.predict(model, datamodule=data)
    assert {len(batch["label"]) for batch in found} == {2}
    assert {int(step) for batch in found for step in batch["steps"]} == {1}
    model.early_exit = None


def test_a_choice_without_spiking_networks_is_refused(fitted, capsys):
    assert main(["predict", "--ckpt_path", str(fitted.folder / "ann.ckpt"), "--at", "1"]) == 2
    assert "no calibrated network to choose; give --ckpt_path snn.ckpt" in capsys.readouterr().err


def test_an_anytime_network_is_used_at_every_t_that_it_serves(fitted, tmp_path, capsys):
    ann = ["--ckpt_path", str(fitted.folder / "ann.ckpt")]
    rule = ["--calibration.anytime", "true", "--calibration.threshold_rule", "max"]
    assert main(fitted.args("calibrate", *ann, *rule, folder=tmp_path)) == 0
    snn, output = ["--ckpt_path", str(tmp_path / "snn.ckpt")], tmp_path / "predictions.csv"
    data = fitted.cli.datamodule
    data.setup("test")
    images = torch.cat([images for images, _ in data.test_dataloader()])
    module = reload(tmp_path / "snn.ckpt")
    logits = module.network(module.headline())(images)
    for t in (1, 2):
        assert main(["predict", *snn, "--at", str(t), "--output", str(output)]) == 0
        classes = [int(row["class"]) for row in rows(output)]
        assert classes == logits[t - 1].argmax(-1).tolist()
        capsys.readouterr()
        assert main(fitted.args("diagnose", *snn, "--at", str(t), folder=tmp_path)) == 0
        cells = [line.split("│") for line in capsys.readouterr().out.splitlines() if "act" in line]
        assert any(row[2] != row[3] for row in cells if len(row) > 3)  # before and after
    assert main(["report", str(tmp_path)]) == 0
    with (tmp_path / "curves" / "operations.csv").open() as file:
        assert {row["timesteps"] for row in csv.DictReader(file)} == {"1", "2"}


def test_predict_takes_a_folder_of_samples_and_stops_them_early(fitted, tmp_path, capsys):
    data = datamodule(run_configuration(fitted.folder / "snn.ckpt"))
    data.prepare_data()
    data.setup()
    images, _ = next(iter(data.predict_dataloader()))
    (tmp_path / "samples" / "more").mkdir(parents=True)
    for n, image in enumerate(images[:6]):
        folder = tmp_path / "samples" / ("more" if n > 3 else "")
        array = (image[0] * 255).round().byte().numpy()
        Image.fromarray(array).convert("RGB").save(folder / f"{n}.png")
    output = tmp_path / "p.csv"
    command = ["predict", "--ckpt_path", str(fitted.folder / "snn.ckpt"), "--output", str(output)]
    command += ["--data.folder", str(tmp_path / "samples"), "--trainer.logger", "false"]
    assert main([*command, "--early_exit", "0.3"]) == 0
    found = rows(output)
    assert [row["file"].rpartition("/")[2] for row in found] == [f"{n}.png" for n in range(6)]
    assert "true_class" not in found[0]
    assert {row["steps"] for row in found} <= {"1", "2"}
    assert all((row["confidence_2"] == "") == (row["steps"] == "1") for row in found)
    assert main([*command, "--early_exit", "auto"]) == 0
    assert "chosen" in capsys.readouterr().out


def test_mistakes_of_predict_are_one_line(fitted, tmp_path, capsys):
    command = ["predict", "--ckpt_path", str(fitted.folder / "snn.ckpt"), "--trainer.logger=false"]
    assert main([*command, "--data.folder", str(tmp_path / "none")]) == 2
    assert "There is no folder" in capsys.readouterr().err
    assert main([*command, "--data.folder", str(tmp_path)]) == 2
    assert "has no images" in capsys.readouterr().err
    assert main([*command, "--early_exit", "2"]) == 2
    assert "early_exit is 2.0" in capsys.readouterr().err
    assert main([*command, "--early_exit", "confidence"]) == 2
    assert "give a confidence from 0 to 1, such as 0.9, or auto" in capsys.readouterr().err


def test_export_writes_the_network_that_was_asked_for(fitted, tmp_path, capsys):
    path = tmp_path / "made" / "static.safetensors"
    command = ["export", "--ckpt_path", str(fitted.folder / "snn.ckpt"), "--method", "static"]
    assert main([*command, "--timesteps", "1", "--output", str(path)]) == 0
    assert f"static, T = 1: {path}" in capsys.readouterr().out
    module = reload(fitted.folder / "snn.ckpt")
    images = torch.rand(4, 1, 8, 8)
    expected = module.network(choose(module, method="static", timesteps=1))(images)
    torch.testing.assert_close(load(path)(images), expected, rtol=0, atol=1e-5)


def test_export_says_what_nir_cannot_and_what_the_mean_bias_costs(fitted, tmp_path, capsys):
    pytest.importorskip("nir")
    command = ["export", "--ckpt_path", str(fitted.folder / "snn.ckpt"), "--format", "nir"]
    command += ["--output", str(tmp_path / "snn.nir")]
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("Note: NIR has no time-varying bias")
    assert main([*command, "--bias", "mean"]) == 0
    assert "on 360 validation samples the accuracy is" in capsys.readouterr().out


def test_mistakes_of_export_are_one_line(fitted, tmp_path, capsys):
    def error(*words):
        assert main(["export", *words]) == 2
        return capsys.readouterr().err

    snn = str(fitted.folder / "snn.ckpt")
    assert "--ckpt_path snn.ckpt" in error()
    assert "There is no file" in error("--ckpt_path", str(tmp_path / "none.ckpt"))
    assert "no calibrated spiking" in error("--ckpt_path", str(fitted.folder / "ann.ckpt"))
    found = error("--ckpt_path", snn, "--format", "csv")
    assert "format is 'csv'; choose one of safetensors, nir" in found
    found = error("--ckpt_path", snn, "--timesteps", "3")
    assert "no network with T = 3" in found
    assert "exact at T = 1, 2" in found
    assert "is a folder; give the name of a file" in error(
        "--ckpt_path", snn, "--output", str(tmp_path)
    )


def test_a_network_calibrated_for_few_bits_is_exported_in_integers(fitted, tmp_path, capsys):
    ann, folder = str(fitted.folder / "ann.ckpt"), tmp_path / "run"
    words = ("--calibration.weight_bits", "5", "--calibration.methods", "[exact, weights+exact]")
    assert main(fitted.args("calibrate", "--ckpt_path", ann, *words, folder=folder)) == 0
    assert {r["neuron"] for r in rows(folder / "results.csv")} == {"if", "if, 5-bit weights"}
    capsys.readouterr()
    for method in ("none", "weights+exact"):
        command = ["export", "--ckpt_path", str(folder / "snn.ckpt"), "--bits", "5"]
        path = tmp_path / "a.safetensors"
        assert main([*command, "--method", method, "--output", str(path)]) == 0
        assert "Note" not in capsys.readouterr().out
        module = reload(folder / "snn.ckpt")
        network = module.network(choose(module, method=method, timesteps=None))
        images = torch.rand(50, 1, 8, 8)
        difference = (load(path)(images) - network(images)).abs().amax((0, 2))
        assert difference.median() < 1e-2  # of some a spike flips: biases are rounded too


def test_a_network_calibrated_for_other_bits_is_exported_with_a_note(fitted, tmp_path, capsys):
    command = ["export", "--ckpt_path", str(fitted.folder / "snn.ckpt"), "--bits", "4"]
    assert main([*command, "--output", str(tmp_path / "a.safetensors")]) == 0
    assert "Note: this network was not calibrated for weights of 4 bits" in capsys.readouterr().out
    assert main([*command, "--format", "onnx"]) == 2
    assert "bits=4 is for safetensors alone" in capsys.readouterr().err


def test_help_of_export_says_what_it_does(capsys):
    with pytest.raises(SystemExit):
        main(["export", "--help"])
    assert "Write one spiking network of a checkpoint to a file" in capsys.readouterr().out


def test_a_checkpoint_made_in_python_says_what_to_do(fitted, tmp_path):
    content = torch.load(fitted.folder / "snn.ckpt", weights_only=True)
    del content["hyper_parameters"]["network"]
    torch.save(content, tmp_path / "snn.ckpt")
    with pytest.raises(
        UserError, match=r"made in Python.*load_from_checkpoint\(path, network=yours"
    ):
        reload(tmp_path / "snn.ckpt")
    module = SpikingClassifier.load_from_checkpoint(
        tmp_path / "snn.ckpt", network=fitted.cli.model.ann
    )
    assert module.phase == "calibrated"


def test_a_run_that_was_copied_still_knows_its_configuration(fitted, tmp_path):
    copied = tmp_path / "copied"
    shutil.copytree(fitted.folder, copied, copy_function=shutil.copyfile)
    os.utime(copied / "snn.ckpt", (0, 0))
    found = run_configuration(copied / "snn.ckpt")
    assert found is not None
    assert found.read_text() == run_configuration(fitted.folder / "snn.ckpt").read_text()
