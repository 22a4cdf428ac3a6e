"""A class for each place: loss and mean IoU by hand, and a run on shapes through every command."""

import re

import numpy as np
import pytest
import torch
from torch import nn
from torchmetrics.functional.classification import multiclass_jaccard_index

from ftbc_lightning import UserError
from ftbc_lightning.cli import main
from ftbc_lightning.data import DiabetesDataModule, ShapesDataModule
from ftbc_lightning.report.measure import MIOU
from ftbc_lightning.report.rows import Result
from ftbc_lightning.report.verdict import recommend
from ftbc_lightning.training.metrics import StepMeanIoU
from ftbc_lightning.training.tasks import DenseClassification
from tests.conftest import ROOT
from tests.tables import rows

CONFIG = ROOT / "configs" / "shapes_unet.yaml"
ONE = nn.Conv2d(1, 3, 1)


def command(subcommand, folder, *more):
    """A quiet, short command on shapes."""
    words = [subcommand, "--config", str(CONFIG), "--trainer.default_root_dir", str(folder)]
    words += ["--trainer.enable_progress_bar", "false", "--timesteps", "2,4"]
    words += ["--model.network.width", "4", "--data.calibration_samples", "64"]
    words += ["--trainer.max_epochs", "2", "--trainer.limit_train_batches", "20"]
    return [*words, "--calibration.methods", "[exact]", *more]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """`ftbc fit` and `ftbc test`, short and narrow."""
    folder = tmp_path_factory.mktemp("shapes")
    assert main(command("fit", folder)) == 0
    assert main(command("test", folder, "--ckpt_path", str(folder / "snn.ckpt"))) == 0
    return folder


def draw(*shape, classes=5, seed=0):
    """Outputs `[T, B, classes, H, W]` and labels, of which some are 255."""
    generator = torch.Generator().manual_seed(seed)
    steps, batch, height, width = shape
    outputs = torch.randn(steps, batch, classes, height, width, generator=generator)
    labels = torch.randint(0, classes - 1, (batch, height, width), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < 0.2] = 255
    return outputs, labels


# By hand


def looped(outputs, labels):
    """Mean intersection over union of one step, place by place."""
    found = outputs.argmax(1).flatten().tolist()
    pairs = [(f, k) for f, k in zip(found, labels.flatten().tolist(), strict=True) if k != 255]
    shares = []
    for one in range(outputs.shape[1]):
        both = sum(f == one and k == one for f, k in pairs)
        either = sum(one in pair for pair in pairs)
        shares += [both / either] if either else []
    return sum(shares) / len(shares)


def test_the_measure_is_that_of_a_loop_over_places_and_of_torchmetrics():
    outputs, labels = draw(3, 4, 6, 5)
    outputs[1, :, 4] = -9  # class 4 is labelled nowhere, and now found nowhere
    metric = StepMeanIoU(timesteps=3)
    for part in (slice(0, 3), slice(3, 4)):
        metric.update(outputs[:, part], labels[part])
    assert metric.curve() == pytest.approx([looped(step, labels) for step in outputs])
    theirs = [
        float(multiclass_jaccard_index(step, labels, num_classes=5, ignore_index=255))
        for step in outputs
    ]
    assert metric.curve() == pytest.approx(theirs)
    assert metric.samples == 4


def test_states_of_several_processes_add_up_also_with_one_that_has_no_sample():
    outputs, labels = draw(2, 6, 4, 4)
    whole = StepMeanIoU(timesteps=2)
    whole.update(outputs, labels)
    parts = [StepMeanIoU(timesteps=2) for _ in range(3)]
    parts[0].update(outputs[:, :2], labels[:2])
    parts[1].update(outputs[:, 2:], labels[2:])
    merged = StepMeanIoU(timesteps=2)
    merged._update_count = 1
    for name, reduce in merged._reductions.items():
        stacked = torch.stack([getattr(part, name) for part in parts])
        setattr(merged, name, reduce(stacked))
    assert torch.equal(merged.compute(), whole.compute())
    assert merged.samples == 6


def test_of_labels_in_bytes_the_measure_is_the_same():
    outputs, labels = draw(1, 2, 4, 4)
    curves = []
    for given in (labels, labels.to(torch.uint8), labels.to(torch.int32)):
        metric = StepMeanIoU(timesteps=1)
        metric.update(outputs, given)
        curves.append(metric.curve())
    assert curves[0] == curves[1] == curves[2]


def test_the_loss_is_the_mean_over_the_places_that_are_labelled():
    task = DenseClassification(ONE)
    (outputs, *_), labels = draw(1, 2, 3, 3, classes=3)
    images = torch.zeros(2, 1, 3, 3)
    kept = labels != 255
    by_place = -outputs.log_softmax(1).movedim(1, -1)[kept]
    expected = by_place.gather(1, labels[kept][:, None]).mean()
    torch.testing.assert_close(task.loss(outputs, labels, images), expected)
    torch.testing.assert_close(task.evaluation_loss(outputs, labels, images), expected)
    changed = torch.where(kept[:, None], outputs, 7.0)
    torch.testing.assert_close(task.loss(changed, labels, images), expected)
    smooth = DenseClassification(ONE, label_smoothing=0.1).loss(outputs, labels, images)
    torch.testing.assert_close(smooth, 0.9 * expected + 0.1 * by_place.mean())


def test_where_no_place_is_labelled_the_loss_is_zero_and_has_a_gradient():
    outputs = torch.randn(1, 3, 2, 2, requires_grad=True)
    labels = torch.full((1, 2, 2), 255)
    loss = DenseClassification(ONE).loss(outputs, labels, torch.zeros(1, 1, 2, 2))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(outputs.grad, torch.zeros_like(outputs))


def test_the_divergence_is_that_of_each_place_averaged():
    (outputs, wanted), _ = draw(2, 2, 3, 4)
    found = DenseClassification(nn.Conv2d(1, 5, 1)).divergence(
        outputs, wanted, torch.zeros(2, 1, 3, 4), temperature=2.0
    )
    p, q = ((each / 2).softmax(1).movedim(1, -1).reshape(-1, 5) for each in (wanted, outputs))
    by_place = [float((a * (a / b).log()).sum()) for a, b in zip(p, q, strict=True)]
    assert float(found) == pytest.approx(4 * sum(by_place) / len(by_place), rel=1e-5)


def test_probabilities_of_a_network_that_ends_in_softmax_are_taken_back_to_logits():
    (outputs, *_), labels = draw(1, 2, 3, 3, classes=3)
    images = torch.zeros(2, 1, 3, 3)
    plain = DenseClassification(ONE).loss(outputs, labels, images)
    ending = DenseClassification(nn.Sequential(ONE, nn.Softmax(1)))
    torch.testing.assert_close(ending.loss(outputs.softmax(1), labels, images), plain)


@pytest.mark.parametrize(
    ("shape", "labels", "said"),
    [
        ((2, 3, 4, 4), torch.zeros(2, dtype=torch.long), r"labels are int64 \[2\]; outputs \[B, c"),
        ((2, 3, 4, 4), torch.zeros(2, 8, 8, dtype=torch.long), r"int64 \[2, 8, 8\]"),
        ((2, 3, 4, 4), torch.zeros(2, 4, 4), r"float32 \[2, 4, 4\]; .* an integer for each place"),
        ((2, 3), torch.zeros(2, dtype=torch.long), r"returns \[2, 3\]"),
        ((1, 3, 1, 3), torch.tensor([[[0, 3, 255]]]), "labels 3, but .* 3 classes.*0 to 2, or be"),
        ((1, 3, 1, 3), torch.tensor([[[0, -1, 256]]]), "labels -1, 256, but"),
    ],
)
def test_labels_that_do_not_fit_are_one_line_of_loss_and_measure(shape, labels, said):
    outputs = torch.zeros(shape)
    with pytest.raises(UserError, match=said):
        DenseClassification(ONE).loss(outputs, labels, torch.zeros(len(outputs), 1, 4, 4))
    with pytest.raises(UserError, match=said):
        StepMeanIoU(timesteps=1).update(outputs[None], labels)


@pytest.mark.parametrize(
    ("shape", "wanted", "said"),
    [
        ([1, 4], 4, r"returns \[1, 4\] for one input; \[1, classes, H, W\].*model\.task class"),
        ([1, 4, 8], 4, r"returns \[1, 4, 8\]"),
        ([1, 3, 8, 8], 4, r"3 outputs at each place, but the data has 4 classes"),
        ([1, 256, 8, 8], None, "at most 255 classes"),
    ],
)
def test_a_network_that_does_not_fit_is_one_line(shape, wanted, said):
    with pytest.raises(UserError, match=said):
        DenseClassification(ONE).check_outputs(shape, wanted, name="Net")


def test_as_good_as_the_ann_is_within_two_points():
    def reached(method, timesteps, value):
        return Result("val", method, timesteps, value, 400, 0, 0.0, measure="miou")

    results = [reached("ann", None, 0.80), reached("snn_uncalibrated", 4, 0.70)]
    results += [reached("snn_ftbc_exact", 4, 0.779), reached("snn_ftbc_exact", 8, 0.785)]
    found = recommend(results)
    assert found.chosen.timesteps == 8
    assert found.reason.endswith("It is the smallest T within 2.0 points of the ANN.")
    assert found.explanation.startswith("2.0 points of mean IoU are a fixed bound")
    near = recommend([*results, reached("snn_static", 4, 0.781)])
    assert near.chosen.method == "snn_static"
    assert "chance" not in near.gain


# On shapes


def test_shapes_are_drawn_from_the_seed_and_every_class_is_there():
    data, again, other = (ShapesDataModule(seed=seed) for seed in (3, 3, 4))
    for each in (data, again, other):
        each.setup()
    sizes = [len(data.train_indices), len(data.validation_indices), len(data.test_set)]
    assert sizes == [1200, 400, 400]
    images, same, others = (
        each.dataset("train", augmented=False).images for each in (data, again, other)
    )
    assert torch.equal(images, same)
    assert not torch.equal(images, others)
    labels = data.dataset("train", augmented=False).labels
    assert images.shape == (1600, 1, 32, 32)
    shares = labels.flatten().bincount(minlength=4) / labels.numel()
    assert 0.5 < shares[0] < 0.9
    assert shares[1:].min() > 0.03
    assert shares.sum() == pytest.approx(1)


def test_shapes_have_their_areas():
    from ftbc_lightning.data.shapes import inside

    kind = torch.tensor([1, 2, 3]).view(3, 1, 1)
    place = torch.full((3, 1, 1), 15.5)
    size, angle = torch.full((3, 1, 1), 12.0), torch.full((3, 1, 1), 0.3)
    areas = inside(kind, place, place, size, angle).sum((1, 2)) / 144
    assert areas.tolist() == pytest.approx([np.pi, 2, 3 * 3**0.5 / 4], rel=0.05)


def test_the_run_is_judged_by_mean_iou_in_tables_files_and_page(trained, capsys, tmp_path):
    found = rows(trained / "results.csv")
    assert {row["measure"] for row in found} == {"miou"}
    assert {row["split"] for row in found} == {"val", "test"}
    reached = {(r["split"], r["method"], r["timesteps"]): float(r["accuracy"]) for r in found}
    assert 0.25 < reached["val", "ann", ""] < 1  # background everywhere: below 0.2
    assert main(command("validate", trained, "--ckpt_path", str(trained / "snn.ckpt"))) == 0
    said = capsys.readouterr().out
    assert "Mean IoU in % on 400 validation samples" in " ".join(said.split())
    assert main(["report", str(trained), "--out", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text()
    for text in (said, page):
        assert not re.search("accura", text, flags=re.IGNORECASE)
    assert (trained / "miou_by_step.png").is_file()
    (path,) = trained.glob("logs/version_0/metrics.csv")
    header = path.read_text().splitlines()[0].split(",")
    assert {"val/loss", "val/miou", "train/loss", "miou/snn_ftbc_exact/T4"} <= set(header)


def test_predictions_are_a_row_for_each_sample_or_the_maps(trained, tmp_path, capsys):
    path, maps = tmp_path / "shapes.csv", tmp_path / "shapes.npz"
    words = ["predict", "--ckpt_path", str(trained / "snn.ckpt"), "--at", "2"]
    for output in (path, maps):
        assert main([*words, "--output", str(output)]) == 0
    data = ShapesDataModule()
    labels = data.dataset("test", augmented=False).labels
    archive = np.load(maps)
    assert archive["label"].shape == (400, 32, 32)
    assert archive["classes"].tolist() == data.class_names
    assert archive["sample"].tolist() == [str(n) for n in range(400)]
    found = rows(path)
    shares = [f"share[{name}]" for name in data.class_names]
    steps = ["confidence_1", "confidence_2"]
    assert list(found[0]) == ["file", "confidence", "steps", *shares, "right", *steps]
    for n, row in enumerate(found[:20]):
        counts = np.bincount(archive["label"][n].ravel(), minlength=4) / 1024
        assert [float(row[name]) for name in shares] == pytest.approx(counts.tolist(), abs=1e-4)
        right = (archive["label"][n] == labels[n].numpy()).mean()
        assert float(row["right"]) == pytest.approx(right, abs=1e-4)
    reached = {(r["split"], r["method"], r["timesteps"]): r for r in rows(trained / "results.csv")}
    value = float(reached["test", "snn_ftbc_exact", "2"]["accuracy"])
    right = (torch.from_numpy(archive["label"]) == labels).double().mean()
    line = (
        f"400 samples, 2 steps, mean IoU {MIOU.exactly(value)}, {100 * right:.2f} % of the places"
    )
    assert line in capsys.readouterr().out


def test_a_folder_of_images_has_no_labels_to_compare_with(trained, tmp_path, capsys):
    from PIL import Image

    Image.new("RGB", (40, 50)).save(tmp_path / "one.png")
    words = ["predict", "--ckpt_path", str(trained / "snn.ckpt"), "--data.folder", str(tmp_path)]
    assert main([*words, "--output", str(tmp_path / "found.csv")]) == 0
    (row,) = rows(tmp_path / "found.csv")
    assert row["file"].endswith("one.png")
    assert "right" not in row
    assert "1 samples, 4 steps\n" in capsys.readouterr().out


def test_early_exit_is_refused_by_name(trained, capsys):
    for confidence in ("0.9", "auto"):
        words = ["predict", "--ckpt_path", str(trained / "snn.ckpt"), "--early_exit", confidence]
        assert main(words) == 2
        assert "dense classification has a class for each place" in capsys.readouterr().err


def test_compare_diagnose_finetune_and_export_go_with_maps(trained, tmp_path, capsys):
    words = ["--timesteps", "2", "--ckpt_path", str(trained / "ann.ckpt")]
    assert main(command("compare", tmp_path, *words, "--seeds", "2")) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Mean IoU in % on the test split, 400 samples" in said
    assert {row["measure"] for row in rows(tmp_path / "compare" / "results.csv")} == {"miou"}
    snn = ["--ckpt_path", str(trained / "snn.ckpt")]
    assert main(["diagnose", *snn]) == 0
    more = ["--at", "2", "--epochs", "1", "--loss", "both"]
    assert main(command("finetune", tmp_path, *snn, *more)) == 0
    assert "SNN + FTBC exact + fine-tuned" in capsys.readouterr().out
    output = tmp_path / "a.pt2"
    assert main(["export", *snn, "--format", "torch_export", "--output", str(output)]) == 0
    program = torch.export.load(output).module()
    assert program(torch.zeros(1, 1, 32, 32)).shape == (4, 1, 4, 32, 32)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--model.task", "classification"], "returns [1, 4, 32, 32] for one input"),
        (["--model.task", "regression"], "has classes and no real targets"),
        (["--model.network.num_classes", "3"], "3 outputs at each place, but the data has 4"),
        (["--data", "DigitsDataModule"], "10 classes"),
    ],
)
def test_what_does_not_fit_the_task_is_one_line(tmp_path, capsys, more, said):
    assert main(command("fit", tmp_path, *more)) == 2
    assert said in capsys.readouterr().err


def test_data_with_real_targets_is_refused():
    with pytest.raises(UserError, match="has real targets and no classes"):
        DenseClassification(ONE).outputs_of(DiabetesDataModule())
