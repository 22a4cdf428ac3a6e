"""What a run leaves in files and loggers, read back from them."""

import csv
import shutil
from types import SimpleNamespace

import pytest
import torch

from ftbc_lightning.analysis.diagnosis import diagnose
from ftbc_lightning.analysis.network_variants import Variant
from ftbc_lightning.analysis.quantized_ann import corrected_ann, quantized_logits
from ftbc_lightning.cli import main, run
from ftbc_lightning.files.csv_rows import read_rows
from ftbc_lightning.graph.tracing import TRACED
from ftbc_lightning.report.rows import LayerRow, OperationRow, Result, StepRow
from ftbc_lightning.snn.network import SpikingNetwork
from ftbc_lightning.training.callbacks.layer_curves import LayerCurves
from ftbc_lightning.training.callbacks.measurements import shown_variant
from tests.conftest import ROOT

LOGGERS = ROOT / "configs" / "logger"


def test_a_run_leaves_rows_of_its_layers(fitted):
    names = {path.name for path in (fitted.folder / "curves").iterdir()}
    assert names == {"layers.csv", "histograms.csv", "operations.csv"}
    layers = read_rows(fitted.folder / "curves" / "layers.csv", LayerRow)
    assert {row.layer for row in layers} == set(fitted.cli.model.network(_best(fitted)).shapes)
    model = fitted.cli.model
    shown = shown_variant(model.results, model.every_variant()).name
    assert {row.method for row in layers} == {"snn_uncalibrated", shown}


def _best(fitted):
    return fitted.cli.model.headline()


def test_the_layer_rows_are_a_diagnosis_of_the_validation_samples(fitted):
    layers = read_rows(fitted.folder / "curves" / "layers.csv", LayerRow)
    row = [r for r in layers if r.method != "snn_uncalibrated"][-1]
    model, data = fitted.cli.model, fitted.cli.datamodule
    samples = torch.cat([images for images, _ in data.val_dataloader()])[:32]
    variant = next(v for v in model.variants.values() if v.key == f"{row.method}_T{row.timesteps}")
    found = diagnose(model.ann, model.network(variant), [samples]).layers[row.layer]
    assert row.total == pytest.approx(found.total[-1], rel=1e-4)
    assert row.firing_rate == pytest.approx(found.firing_rate[-1], rel=1e-4)


def result(method, timesteps, accuracy):
    return Result("val", method, timesteps, accuracy, 400, 0, 0.0)


@pytest.mark.parametrize(
    ("best", "shown"),
    [
        (("snn_weights_ftbc_exact", 1), ("weights+exact", 1)),
        (("snn_static", 2), ("static", 2)),
        (("snn_uncalibrated", 2), ("exact", 2)),
    ],
)
def test_the_layers_that_are_shown_are_those_of_the_recommended_network(best, shown):
    methods = ("none", "static", "exact", "weights+exact")
    variants = [Variant(method, t) for t in (1, 2) for method in methods]
    results = [result("ann", None, 0.9)]
    results += [
        result(v.name, v.timesteps, 0.5 + 0.4 * ((v.name, v.timesteps) == best)) for v in variants
    ]
    found = shown_variant(results, variants)
    assert (found.method, found.timesteps) == shown


def test_of_a_network_that_serves_every_t_the_first_steps_are_shown():
    variants = [Variant(method, 4, serves=(1, 2, 4)) for method in ("none", "exact")]
    results = [result("ann", None, 0.9)]
    results += [result(v.name, t, 0.9 if t > 1 else 0.5) for v in variants for t in v.serves]
    every = [one for variant in variants for one in variant.each]
    assert shown_variant(results, every) == Variant("exact", 2)


def test_steps_hold_the_accuracy_after_each_step(fitted):
    steps = read_rows(fitted.folder / "steps.csv", StepRow)
    assert len(steps) == 5 * (1 + 2)
    with (fitted.folder / "results.csv").open() as file:
        for row in csv.DictReader(file):
            if row["timesteps"]:
                last = [
                    s.accuracy
                    for s in steps
                    if s.method == row["method"] and s.step == s.timesteps == int(row["timesteps"])
                ]
                assert last == [pytest.approx(float(row["accuracy"]), abs=1e-5)]


def test_at_one_step_the_uncalibrated_network_is_the_quantised_ann(fitted):
    rows = read_rows(fitted.folder / "curves" / "operations.csv", OperationRow)
    found = {(row.method, row.timesteps): row.accuracy for row in rows}
    assert found["ann_quantized", 1] == pytest.approx(found["snn_uncalibrated", 1], abs=0.003)
    energies = {(row.method, row.timesteps): row.energy_once for row in rows}
    assert energies["ann", 1] < energies["ann_dense", 1]
    assert energies["snn_ftbc_exact", 1] < energies["snn_ftbc_exact", 2] < energies["ann_dense", 1]


def test_a_quantised_ann_with_corrected_weights_stands_beside_every_t(fitted):
    rows = read_rows(fitted.folder / "curves" / "operations.csv", OperationRow)
    found = {(row.method, row.timesteps): row for row in rows}
    model, data = fitted.cli.model, fitted.cli.datamodule
    plain = next(v for v in model.every_variant() if (v.method, v.timesteps) == ("none", 2))
    network = model.network(plain)
    corrected = corrected_ann(model.ann, network, list(data.calibration_dataloader()))
    right = sum(
        int((quantized_logits(corrected, network, images).argmax(-1) == labels).sum())
        for images, labels in data.val_dataloader()
    )
    row = found["ann_quantized_weights", 2]
    assert row.accuracy == pytest.approx(right / model.results[0].n, abs=1e-5)
    assert row.accuracy > found["ann_quantized", 2].accuracy
    assert row.dense_once == found["ann_quantized", 2].dense_once
    assert ("ann_quantized_weights", 1) in found


def test_without_a_weight_stage_no_quantised_ann_has_corrected_weights(fitted, tmp_path):
    path = str(fitted.folder / "ann.ckpt")
    methods = ("--calibration.methods", "[exact]", "--timesteps", "1")
    run(fitted.args("calibrate", "--ckpt_path", path, *methods, folder=tmp_path))
    rows = read_rows(tmp_path / "curves" / "operations.csv", OperationRow)
    assert "ann_quantized" in {row.method for row in rows}
    assert "ann_quantized_weights" not in {row.method for row in rows}


def test_the_ann_is_traced_once_for_all_t_and_not_for_a_batch(fitted, monkeypatch):
    traced = []
    plain = SpikingNetwork.traced
    monkeypatch.setattr(
        SpikingNetwork, "traced", lambda *given: traced.append(given) or plain(*given)
    )
    callback = LayerCurves()
    trainer = SimpleNamespace(is_global_zero=True, sanity_checking=False, world_size=1)
    trainer.strategy = SimpleNamespace(batch_to_device=lambda batch: batch)
    trainer.datamodule = fitted.cli.datamodule
    callback.on_validation_start(trainer, fitted.cli.model)
    batch = (torch.rand(2, 1, 8, 8), torch.zeros(2, dtype=torch.long))
    for _ in range(3):
        callback.on_validation_batch_end(trainer, fitted.cli.model, None, batch, 0)
    anew = [ann for _, ann in traced if not getattr(ann, "meta", {}).get(TRACED)]
    assert len(anew) == 1
    assert len(callback.quantized) == 4


def test_samples_that_are_watched_are_as_many_as_asked_for(fitted):
    callback = LayerCurves(samples=3)

    class Quiet:
        is_global_zero, sanity_checking = True, False

    images = torch.rand(2, 1, 8, 8)
    for _ in range(3):
        batch = (images, torch.zeros(2, dtype=torch.long))
        callback.on_validation_batch_end(Quiet(), fitted.cli.model, None, batch, 0)
    assert sum(map(len, callback.kept)) == 3


def test_diagnose_names_the_layer_that_was_broken_in_the_file(fitted, tmp_path, capsys):
    checkpoint = torch.load(fitted.folder / "snn.ckpt", weights_only=True)
    for key, value in checkpoint["state_dict"].items():
        if "block1_act2" in key and key.endswith(("threshold", "amplitude", "initial_membrane")):
            value /= 20
    torch.save(checkpoint, tmp_path / "broken.ckpt")
    shutil.copy(fitted.folder / "snn.ckpt", tmp_path / "whole.ckpt")
    for name in ("broken", "whole"):
        command = fitted.args("diagnose", "--ckpt_path", str(tmp_path / f"{name}.ckpt"))
        assert main([*command, "--at", "2"]) == 0
        first = next(x for x in capsys.readouterr().out.splitlines() if x.startswith("1. "))
        assert first.startswith("1. block1_act2: raise the threshold") == (name == "broken")


def test_diagnose_of_a_file_or_time_step_that_is_not_there(fitted, capsys):
    command = fitted.args("diagnose", "--ckpt_path", str(fitted.folder / "ann.ckpt"))
    assert main(command) == 2
    assert "holds no calibrated network" in capsys.readouterr().err
    command = fitted.args("diagnose", "--ckpt_path", str(fitted.folder / "snn.ckpt"), "--at", "3")
    assert main(command) == 2
    error = capsys.readouterr().err
    assert "no network with T = 3; there are: none at T = 1, 2" in error
    assert main([*command[:-1], "2", "--method", "weights"]) == 2
    assert "no network with method weights, T = 2" in capsys.readouterr().err
