"""`ftbc` says once which device it uses, and the lines of others that it makes needless go."""

import logging

import pytest
import torch

from ftbc_lightning.cli import main
from ftbc_lightning.training.callbacks.device_line import described, total_memory
from tests.devices.conftest import command

NEEDLESS = ("GPU available", "TPU available", "Seed set to", "litlogger")


def printed(capsys, caplog, subcommand: str, folder, place: str, *more: str) -> str:
    caplog.clear()
    with caplog.at_level(logging.INFO):
        assert main(command(subcommand, folder, place, *more)) == 0
    captured = capsys.readouterr()
    everything = captured.out + captured.err + caplog.text
    assert not [words for words in NEEDLESS if words in everything]
    return captured.out


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("cpu", f"Device: {described(torch.device('cpu'))}"),
        ("pretend", "Device: pretend:0, a device that pretends, 8 GiB"),
    ],
)
def test_the_device_is_named_first_and_once(capsys, caplog, tmp_path, place, line):
    lines = printed(capsys, caplog, "validate", tmp_path, place).splitlines()
    assert lines[0] == line
    assert [other for other in lines if other.startswith("Device")] == [line]


def test_a_quiet_run_says_nothing_of_it(capsys, caplog, tmp_path):
    assert "Device" not in printed(capsys, caplog, "validate", tmp_path, "pretend", "--quiet")


def test_the_number_of_processes_is_told():
    assert described(torch.device("cpu"), processes=2).endswith("the first of 2 processes")


def test_memory_is_the_devices_own(device):
    assert total_memory(device) == 2**33
    assert total_memory(torch.device("cpu")) > 2**20
