"""`ftbc compare`: one row for each network, resumed and never mixed."""

import csv
import json
from itertools import product
from math import prod

import pytest

from ftbc_lightning.calibration import parse_method
from ftbc_lightning.calibration.stages import of_kind
from ftbc_lightning.cli import main
from ftbc_lightning.report.style import label_of, style_of


def command(fitted, folder, *more):
    return [
        *fitted.args("compare", folder=folder),
        *("--ckpt_path", str(fitted.folder / "ann.ckpt"), "--seeds", "2", "--samples", "60"),
        *("--calibration.methods", "[weights+exact]", *more),
    ]


def read(folder):
    with (folder / "compare" / "results.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def compared(fitted, tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare")
    assert main(command(fitted, folder)) == 0
    return folder


def test_there_is_a_row_for_each_draw_method_and_t(compared):
    found = [(row["seed"], row["method"], row["timesteps"]) for row in read(compared)]
    methods = ("snn_uncalibrated", "snn_weights_ftbc_exact")
    expected = [(s, m, t) for s in "01" for t in "12" for m in methods]
    assert found == [("", "ann", ""), *expected]
    assert {(row["split"], row["n"]) for row in read(compared)} == {("test", "60")}
    assert (compared / "compare" / "comparison.png").stat().st_size > 0


def test_what_is_missing_is_added_and_the_rest_is_left(compared, fitted, capsys):
    path = compared / "compare" / "results.csv"
    whole = path.read_text().splitlines()
    words = whole[2].split(",")
    marked = [*whole[:2], ",".join([*words[:3], "0.5", *words[4:]]), *whole[3:]]
    path.write_text("\n".join(marked[:-3]) + "\n")
    assert main(command(fitted, compared)) == 0
    lines = path.read_text().splitlines()
    assert lines[:-3] == marked[:-3]  # a row that is there is not measured again
    strip = [line.split(",")[:6] for line in lines[-3:]]  # without the seconds
    assert strip == [line.split(",")[:6] for line in whole[-3:]]
    path.write_text("\n".join(whole) + "\n")
    printed = capsys.readouterr().out
    assert printed.count("draw 1, T=") == 3
    assert "draw 0" not in printed
    assert "60 of 355 test samples" in printed


def test_rows_of_other_settings_are_not_mixed(compared, fitted, capsys):
    before = read(compared)
    assert main(command(fitted, compared, "--calibration.threshold_rule", "max")) == 2
    error = capsys.readouterr().err
    assert "threshold_rule: mse, now max" in error
    assert "Traceback" not in error
    assert read(compared) == before
    settings = json.loads((compared / "compare" / "settings.json").read_text())
    assert settings["threshold_rule"] == "mse"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--seeds", "0"), "seeds is 0"),
        (("--samples", "1000"), "samples is 1000; the test split has 355"),
        (("--calibration.methods", "[exact+weights]"), "'exact+weights' is unknown"),
    ],
)
def test_a_mistake_is_one_line(fitted, tmp_path, capsys, more, message):
    assert main(command(fitted, tmp_path, *more)) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_every_combination_of_stages_has_a_label_and_a_style_of_its_own():
    before, biases = [of_kind("weights"), of_kind("membranes")], of_kind("biases")
    names = {
        parse_method("+".join(filter(None, stages))).result_name
        for stages in product(*(["", *kind] for kind in before), biases)
    }
    groups = prod(len(kind) + 1 for kind in before)
    assert len(names) == groups * len(biases)
    assert len({label_of(name) for name in names}) == len(names)
    styles = [style_of(name) for name in names]
    keys = ("marker", "linestyle")  # what is left in grey
    assert len({tuple(style[key] for key in keys) for style in styles}) == len(names)
    # biases alone have a colour each
    assert len({style["color"] for style in styles}) == len(biases) + groups - 1
