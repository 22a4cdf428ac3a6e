"""The figure of several neurons: accuracy by T, and against energy."""

from ftbc_lightning.report.measure import ACCURACY
from ftbc_lightning.report.style import pixels
from ftbc_lightning.report.trade_off import Reached, trade_off_figure

ROWS = [
    Reached("ANN", None, 0.98, 1200.0),
    Reached("if", 4, 0.96, 400.0),
    Reached("if", 1, 0.90, 180.0),
    Reached("signed", 1, 0.92, 160.0),
    Reached("signed", 2, 0.97, 250.0),
]


def drawn(axes):
    """Each line by its label: places and heights."""
    return {
        line.get_label(): (list(line.get_xdata()), list(line.get_ydata()))
        for line in axes.get_lines()
    }


def figure(rows=ROWS):
    return trade_off_figure(rows, ACCURACY, samples="validation, n = 360", energy="45nm-fp32")


def test_each_kind_is_a_line_by_t_and_the_same_points_against_energy():
    left, right = map(drawn, figure().axes)
    assert left["if"] == ([1, 4], [90.0, 96.0])
    assert right["if"] == ([180.0, 400.0], [90.0, 96.0])
    assert left["signed"][0] == [1, 2]
    assert right["signed"][0] == [160.0, 250.0]


def test_the_ann_is_a_line_in_both_and_a_star_at_its_cost():
    left, right = figure().axes
    assert [list(drawn(axes)["ANN 98.0 %"][1]) for axes in (left, right)] == [[98.0, 98.0]] * 2
    stars = [line for line in right.get_lines() if line.get_marker() == "*"]
    assert [(list(star.get_xdata()), list(star.get_ydata())) for star in stars] == [
        ([1200.0], [98.0])
    ]


def test_kinds_differ_in_grey_too_and_the_figure_can_be_drawn():
    shown = figure()
    lines = [line for line in shown.axes[0].get_lines() if line.get_label() in ("if", "signed")]
    assert len({line.get_marker() for line in lines}) == 2
    assert len({str(line.get_linestyle()) for line in lines}) == 2
    assert pixels(shown).std() > 0
    assert len(figure(ROWS[1:]).axes[1].get_lines()) == 2
