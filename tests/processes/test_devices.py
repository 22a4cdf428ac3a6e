"""The command line with several processes, on Lightning's own engine over gloo."""

import csv
import sys

import pytest
import torch

from tests.processes.launch import (
    PROGRAM,
    command,
    devices,
    failing,
    finish,
    free_port,
    ftbc,
    start,
)

pytestmark = pytest.mark.processes


def rows(folder, split="val"):
    """Results without the seconds."""
    with (folder / "results.csv").open() as file:
        found = [row for row in csv.DictReader(file) if row["split"] == split]
    return [tuple(row[k] for k in ("method", "timesteps", "accuracy", "n")) for row in found]


def quantized(folder):
    """Accuracies of the quantised ANN."""
    with (folder / "curves" / "operations.csv").open() as file:
        found = [row for row in csv.DictReader(file) if row["method"].startswith("ann_quantized")]
    assert found
    return [tuple(row[k] for k in ("method", "timesteps", "accuracy")) for row in found]


def state(folder):
    return torch.load(folder / "snn.ckpt", weights_only=True)["state_dict"]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """`ftbc fit` in two processes."""
    folder = tmp_path_factory.mktemp("fit")
    output = ftbc("fit", folder, *devices(2))
    assert "MEMBER: 2/2" in output
    return folder


@pytest.fixture(scope="module")
def alone(fitted, tmp_path_factory):
    """`ftbc calibrate` of what two processes trained, in one process."""
    folder = tmp_path_factory.mktemp("alone")
    ftbc("calibrate", folder, "--ckpt_path", str(fitted / "ann.ckpt"))
    return folder


def test_a_fit_in_two_processes_leaves_all_files_and_counts_each_sample_once(fitted):
    names = {path.name for path in fitted.iterdir()}
    assert {"ann.ckpt", "snn.ckpt", "results.csv", "run.json"} <= names
    assert {n for *_, n in rows(fitted)} == {"360"}
    assert float(rows(fitted)[0][2]) > 0.5


def test_two_processes_fine_tune_one_network(fitted, tmp_path):
    given = ("--ckpt_path", str(fitted / "snn.ckpt"), "--at", "2", "--epochs", "2")
    output = ftbc("finetune", tmp_path, *devices(2), *given)
    assert "MEMBER: 2/2" in output
    found = {name: float(accuracy) for name, _, accuracy, _ in rows(tmp_path / "finetuned")}
    assert found["snn_ftbc_exact_finetuned"] > found["snn_ftbc_exact"]
    before, after = state(fitted), state(tmp_path / "finetuned")
    assert all(torch.equal(value, before[name]) for name, value in after.items() if name in before)


@pytest.mark.parametrize("number", [2, 3])
def test_calibration_does_not_depend_on_the_number_of_processes(fitted, alone, tmp_path, number):
    output = ftbc("calibrate", tmp_path, *devices(number), "--ckpt_path", str(fitted / "ann.ckpt"))
    assert "on 101 samples" in output
    found, expected = state(tmp_path), state(alone)
    assert found.keys() == expected.keys()
    difference = max(
        float((found[k].double() - v.double()).abs().max()) for k, v in expected.items()
    )
    assert difference < 1e-4
    for one, many in zip(rows(alone), rows(tmp_path), strict=True):
        assert one[:2] + one[3:] == many[:2] + many[3:]
        assert abs(float(one[2]) - float(many[2])) <= 2 / 360


def test_evaluation_does_not_depend_on_the_number_of_processes(fitted, tmp_path):
    found = []
    for number in (1, 3):
        folder = tmp_path / str(number)
        ftbc("test", folder, *devices(number), "--ckpt_path", str(fitted / "snn.ckpt"))
        found.append(rows(folder, "test"))
    assert found[0] == found[1]
    assert {n for *_, n in found[0]} == {"355"}


def test_validating_in_one_process_gives_the_figures_of_the_fit_in_two(fitted, tmp_path):
    ftbc("validate", tmp_path, "--ckpt_path", str(fitted / "snn.ckpt"))
    assert rows(tmp_path) == rows(fitted)
    assert quantized(tmp_path) == quantized(fitted)


def test_two_nodes_by_environment_variables(fitted, alone, tmp_path):
    port = str(free_port())
    nodes = [
        start(
            [
                *PROGRAM,
                *command("calibrate", tmp_path, "--ckpt_path", str(fitted / "ann.ckpt")),
                *("--trainer.num_nodes", "2", *devices(1)),
            ],
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=port,
            NODE_RANK=str(rank),
        )
        for rank in range(2)
    ]
    for code, output in finish(*nodes):
        assert code == 0, output
    assert rows(tmp_path) == rows(alone)


def test_two_nodes_by_torchrun(fitted, tmp_path):
    port = str(free_port())
    run = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc_per_node=1"]
    run += ["--master_addr=127.0.0.1", f"--master_port={port}"]
    words = command("test", tmp_path, "--ckpt_path", str(fitted / "snn.ckpt"))
    words += ["--trainer.num_nodes", "2", *devices(1)]
    nodes = [
        start([*run, f"--node_rank={rank}", "-m", "ftbc_lightning", *words]) for rank in range(2)
    ]
    for code, output in finish(*nodes):
        assert code == 0, output
    assert {n for *_, n in rows(tmp_path, "test")} == {"355"}


PLACE = "ftbc_lightning.training.calibration_draw:choose_thresholds"


@pytest.mark.parametrize("fault", ["kill#1", "user#1", "user#0"])
def test_a_process_that_dies_ends_the_others_with_a_message(fitted, tmp_path, fault):
    before = (fitted / "ann.ckpt").read_bytes()
    arguments = (*devices(2), "--ckpt_path", str(fitted / "ann.ckpt"))
    code, output = failing(fault, PLACE, "calibrate", tmp_path, *arguments)
    assert code != 0
    assert "Another process of this run has ended" in output
    assert ("Sample 7 is broken." in output) == fault.startswith("user")
    assert "Traceback" not in output
    assert not (tmp_path / "snn.ckpt").exists()
    assert (fitted / "ann.ckpt").read_bytes() == before
    if fault == "kill#1":  # the harshest: the folder is free, and the run as good as ever
        ftbc("validate", tmp_path, "--ckpt_path", str(fitted / "snn.ckpt"))
