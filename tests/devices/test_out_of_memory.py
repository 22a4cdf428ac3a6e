"""Where memory ends: smaller parts to the same bits, or one line with the way out."""

import pytest
import torch
from torch import nn

from ftbc_lightning import convert, simulate
from ftbc_lightning.cli import main
from ftbc_lightning.cli.failures import explain
from ftbc_lightning.snn.out_of_memory import in_parts, is_out_of_memory
from tests import pretend_device
from tests.devices.conftest import command


@pytest.fixture(scope="module")
def network(device):
    """All its values are multiples of 1/64, so that no order of adding rounds."""
    torch.manual_seed(0)
    ann = nn.Sequential(nn.Conv2d(2, 6, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(216, 4))
    for parameter in ann.parameters():
        parameter.data = torch.randint(-4, 5, parameter.shape) / 8
    images = torch.randint(0, 9, (16, 2, 6, 6)) / 8
    snn = convert(ann, images[:1], [images], timesteps=4, threshold_rule="max")
    return snn.to(device), images.to(device)


def test_simulation_carries_fewer_samples_when_memory_ends(network):
    snn, images = network
    expected = simulate(snn, images).cpu()
    one_sample = 4 * 4 * 6 * 6 * 6  # bytes x steps x channels x height x width
    for fitting in (8, 3, 1):
        with pretend_device.memory(fitting * one_sample):
            with pytest.raises(torch.OutOfMemoryError):
                torch.zeros(fitting * one_sample + 1, dtype=torch.uint8, device="pretend")
            assert torch.equal(simulate(snn, images).cpu(), expected)


def test_a_single_sample_that_does_not_fit_is_an_error(network):
    snn, images = network
    with pretend_device.memory(1000), pytest.raises(torch.OutOfMemoryError):
        simulate(snn, images)


def test_parts_are_halved_and_no_result_is_lost_or_doubled():
    tried = []

    def carry(part):
        tried.append(len(part))
        if len(part) > 3:
            raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling ...")
        return part

    images = torch.arange(23.0)
    assert torch.equal(torch.cat(in_parts(carry, images, 16)), images)
    assert tried == [16, 8, 4, *[2] * 11, 1]


def test_other_errors_are_not_tried_again():
    def carry(part):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        in_parts(carry, torch.zeros(4), 4)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
        MemoryError("Unable to allocate: not enough memory"),
    ],
    ids=lambda error: str(error)[:12],
)
def test_the_line_names_what_to_lower(error):
    assert is_out_of_memory(error)
    line = explain(error)
    assert "\n" not in line
    for option in ("--data.batch_size", "--data.calibration_samples", "--timesteps"):
        assert option in line


def test_a_command_that_does_not_fit_ends_in_one_line(capsys, tmp_path):
    with pretend_device.memory(2000):
        assert main(command("fit", tmp_path, "pretend")) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[-1].startswith("ftbc: error: There is not enough memory (pretend out of memory.")
    assert not any("Traceback" in line for line in said)


def test_a_calibration_that_cannot_fit_is_refused_before_the_training(capsys, tmp_path):
    more = ["--timesteps", "100000000"]
    assert main(command("fit", tmp_path, "pretend", *more)) == 2
    assert "but there are 8.6 GB" in capsys.readouterr().err
