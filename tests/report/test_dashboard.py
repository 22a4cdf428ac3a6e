"""The dashboard's definition, built offline."""

import json

import pytest
import yaml

from ftbc_lightning.cli import main
from tests.conftest import ROOT

SWEEP = yaml.safe_load((ROOT / "configs" / "logger" / "wandb_sweep.yaml").read_text())


def strings(value):
    if isinstance(value, str):
        yield value
    for part in value.values() if isinstance(value, dict) else value if type(value) is list else ():
        yield from strings(part)


def test_the_definition_compares_calibrated_and_uncalibrated_over_the_right_axis(tmp_path):
    pytest.importorskip("wandb_workspaces")
    path = tmp_path / "dashboard.json"
    assert main(["dashboard", "--project", "mine", "--out", str(path)]) == 0
    found = json.loads(path.read_text())
    text = set(strings(found))
    assert {"acc_by_T/ann", "acc_by_T/snn_uncalibrated", "acc_by_T/snn_ftbc_exact"} <= text
    assert {"timesteps", "timestep"} <= text
    assert {"^bias/.*/q50$", "figures/bias_maps", "^firing_rate/"} <= text
    assert {"^calibration/.*/T4/after$", "calibration_layer"} <= text
    assert any("gain/T4" in word for word in text)


def test_without_the_package_one_line_says_what_to_install(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "wandb_workspaces", None)
    monkeypatch.setitem(__import__("sys").modules, "wandb_workspaces.workspaces", None)
    monkeypatch.setitem(__import__("sys").modules, "wandb_workspaces.reports.v2", None)
    assert main(["dashboard", "--out", str(tmp_path / "d.json")]) == 2
    assert "pip install wandb-workspaces" in capsys.readouterr().err


def test_without_a_login_one_line_says_so(monkeypatch, capsys):
    import wandb

    pytest.importorskip("wandb_workspaces")

    def nobody(*args, **kwargs):
        raise wandb.errors.UsageError("No API key configured.")

    monkeypatch.setattr(wandb, "Api", nobody)
    assert main(["dashboard", "--project", "mine"]) == 2
    assert "run `wandb login` first" in capsys.readouterr().err


@pytest.mark.parametrize("name", SWEEP["parameters"])
def test_every_value_of_the_sweep_is_accepted(name, capsys):
    words = SWEEP["command"][1:]
    words.remove("${args}")
    chosen = [f"--{name}={value}" for value in SWEEP["parameters"][name]["values"]]
    with pytest.raises(SystemExit) as left:
        main([*words, *chosen, "--print_config"])
    assert left.value.code == 0
    assert name.rpartition(".")[2] in capsys.readouterr().out


def test_the_sweep_looks_for_a_figure_that_runs_have():
    assert SWEEP["metric"] == {"name": "acc/snn_ftbc/T4", "goal": "maximize"}
    assert SWEEP["command"][SWEEP["command"].index("--timesteps") + 1] == "4"
