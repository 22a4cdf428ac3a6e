"""Labels and styles of methods follow the whole names of their stages."""

import pytest

from ftbc_lightning.calibration import parse_method
from ftbc_lightning.calibration.stage import Stage
from ftbc_lightning.calibration.stages import STAGES
from ftbc_lightning.report.rows import LayerRow
from ftbc_lightning.report.style import label_of, stages_of, style_of
from ftbc_lightning.report.verdict import worst_layers


@pytest.fixture
def foreign(monkeypatch):
    """Stages whose names hold those of others."""
    for kind, name in (("biases", "half_static"), ("weights", "weights_potential_free")):
        stage = Stage(kind, name, name.replace("_", " "), lambda settings: None)
        monkeypatch.setitem(STAGES, name, stage)


@pytest.mark.parametrize(
    ("method", "label"),
    [
        ("half_static", "SNN + half static"),
        ("static", "SNN + static bias"),
        ("weights+half_static", "SNN + weights + half static"),
        ("weights_potential_free", "SNN + weights potential free"),
        ("weights_potential_free+exact", "SNN + weights potential free + FTBC exact"),
    ],
)
def test_a_stage_is_found_by_its_whole_name(foreign, method, label):
    name = parse_method(method).result_name
    assert label_of(name) == label
    assert [stage.name for stage in stages_of(name)] == [STAGES[s].name for s in method.split("+")]


def test_a_stage_without_a_style_has_not_that_of_a_part_of_its_name(foreign):
    assert style_of("snn_half_static")["linestyle"] != style_of("snn_static")["linestyle"]
    assert style_of("snn_weights_half_static")["color"] == style_of("snn_weights")["color"]
    assert style_of("snn_weights_potential_free")["color"] != style_of("snn_weights")["color"]


def test_a_name_with_a_stage_that_is_not_there_is_its_own_label():
    assert label_of("snn_weights_half_static") == "snn_weights_half_static"


def test_advice_knows_a_bias_stage_from_outside(foreign):
    row = LayerRow("snn_half_static", 2, "a", 2, 0.3, 0.1, 0.1, 0.1, 0.0, 0.2, 0.2, "offset")
    assert "calibrate the temporal bias" not in worst_layers([], [row])[0].advice
