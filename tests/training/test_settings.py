"""Settings stand in one place: functions and callback have the names and defaults of the object."""

import inspect
from dataclasses import fields

import pytest

from ftbc_lightning import calibrate, convert
from ftbc_lightning.calibration import CalibrationSettings
from ftbc_lightning.cli import main
from ftbc_lightning.snn.thresholds import ThresholdSettings


@pytest.mark.parametrize(
    ("function", "settings"), [(convert, ThresholdSettings), (calibrate, CalibrationSettings)]
)
def test_a_function_takes_each_setting_with_its_default(function, settings):
    taken = inspect.signature(function).parameters
    own = {field.name: (field.type, field.default) for field in fields(settings)}
    assert {name: (taken[name].annotation, taken[name].default) for name in own} == own


def test_the_command_line_shows_each_setting_with_its_text(capsys):
    with pytest.raises(SystemExit):
        main(["fit", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for settings in (ThresholdSettings, CalibrationSettings):
        for field in fields(settings):
            assert f"--calibration.{field.name} " in shown
    assert "Damping of `iterative`, above 0 and at most 1" in shown
    assert "Of the `percentile` rule, above 0 and at most 100" in shown


def test_options_are_all_the_settings_of_a_calibration():
    settings = CalibrationSettings(alpha=0.25, rounds=3)
    assert CalibrationSettings(**settings.options()) == settings
