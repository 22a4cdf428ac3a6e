"""What is shown while a person waits."""

import io

import pytest
from rich.console import Console

from ftbc_lightning.cli import main
from ftbc_lightning.training.callbacks.progress import CalibrationProgress


def test_quiet_prints_the_table_alone(fitted, tmp_path, capsys):
    command = fitted.args("calibrate", "--quiet", folder=tmp_path)
    assert main([*command, "--ckpt_path", str(fitted.folder / "ann.ckpt")]) == 0
    printed = capsys.readouterr().out.strip().splitlines()
    assert "Accuracy in % on 360 validation samples" in printed[0]
    assert printed[-1].startswith("└")
    assert "SNN + FTBC exact" in "".join(printed)


def test_without_a_terminal_there_is_one_plain_line_for_each_network(capsys):
    CalibrationProgress.quiet = False
    with CalibrationProgress(2) as progress:
        progress.begin("T=1 exact")
        progress("calibration: exact", 1, 4)
        progress.begin("T=2 exact")
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["calibrating 1/2: T=1 exact", "calibrating 2/2: T=2 exact"]


def test_in_a_terminal_a_bar_names_the_work_and_the_time_left(monkeypatch):
    CalibrationProgress.quiet = False
    progress = CalibrationProgress(3)
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, width=120)
    progress.bars.live.console, progress.console = terminal, terminal
    progress.bars.disable = False
    with progress:
        progress.begin("T=4 exact")
        progress("thresholds: mse", 2, 19)
        progress.bars.refresh()
    shown = screen.getvalue()
    assert "networks: T=4 exact" in shown
    assert "thresholds: mse" in shown
    assert "2/19" in shown
    assert "-:--:--" in shown or "0:00:" in shown


def test_thresholds_and_layers_tell_their_progress():
    import torch

    from ftbc_lightning import calibrate, convert
    from tests.networks import residual_net, samples

    told = []
    ann, images = residual_net(dtype=torch.float32), samples(8, dtype=torch.float32)
    snn = convert(ann, images[:1], [images], timesteps=2, progress=lambda *call: told.append(call))
    calibrate(ann, snn, [images], progress=lambda *call: told.append(call))
    assert ("thresholds: mse", 2, 3) in told
    assert ("calibration: exact", 3, 3) in told


@pytest.fixture(autouse=True)
def _loud_again():
    yield
    CalibrationProgress.quiet = False
