"""The page of `ftbc report`: what it says, that it needs no network, and how it looks."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

from ftbc_lightning.cli import main
from ftbc_lightning.report.rows import LayerRow, Result
from ftbc_lightning.report.verdict import recommend, worst_layers

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def page(fitted, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    assert main(["report", str(fitted.folder), "--out", str(path)]) == 0
    return path


class Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.ids, self.pictures, self.words = [], [], [], []

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if tag not in ("meta", "link", "br", "img"):
            self.open.append(tag)
        self.ids += [attributes["id"]] if "id" in attributes else []
        if attributes.get("role") == "img":
            self.pictures.append(attributes.get("aria-label"))

    def handle_startendtag(self, tag, attrs):
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def test_the_page_is_well_formed_and_each_picture_has_a_text_alternative(page):
    reader = Reader()
    reader.feed(page.read_text())
    assert reader.open == []
    assert len(reader.ids) == len(set(reader.ids))
    assert len(reader.pictures) == 8
    assert all(text and len(text) > 40 for text in reader.pictures)


def test_the_page_fetches_nothing(page):
    text = page.read_text()
    assert not re.search(r'(src|href)="(?!#|data:)', text)
    assert "url(http" not in text
    assert "<script" not in text


def test_the_page_names_t_the_worst_layer_settings_and_commands(fitted, page):
    text = page.read_text()
    chosen = recommend(fitted.cli.model.results)
    assert chosen.headline in text
    assert re.search(r"Worst layer at T = \d: <b>\w+</b>", text)
    assert "ftbc fit --config" in text
    assert "<dt>threshold rule</dt><dd>mse</dd>" in text
    assert "45nm-fp32" in text
    assert "Horowitz" in text


def test_a_folder_without_results(tmp_path, capsys):
    assert main(["report", str(tmp_path / "none")]) == 2
    assert "There is no folder" in capsys.readouterr().err
    assert main(["report", str(tmp_path)]) == 2
    assert "no results.csv with validation results" in capsys.readouterr().err


def test_a_page_needs_no_more_than_the_results(fitted, tmp_path):
    for name in ("results.csv", "steps.csv"):
        shutil.copy(fitted.folder / name, tmp_path)
    assert main(["report", str(tmp_path)]) == 0
    text = (tmp_path / "report.html").read_text()
    assert "Accuracy by time steps" in text
    assert "Where it is lost" not in text


def test_damaged_rows_are_named(fitted, tmp_path, capsys):
    shutil.copytree(fitted.folder, tmp_path / "run")
    path = tmp_path / "run" / "steps.csv"
    path.write_text(path.read_text().replace("0.", "x.", 1))
    assert main(["report", str(tmp_path / "run")]) == 2
    assert "steps.csv is damaged in line" in capsys.readouterr().err


def result(method, timesteps, accuracy):
    return Result("val", method, timesteps, accuracy, 400, 0, 0.0)


def test_the_smallest_t_within_one_standard_error_of_the_ann_is_recommended():
    rows = [result("ann", None, 0.9), result("snn_uncalibrated", 4, 0.5)]
    rows += [result("snn_ftbc_exact", 4, 0.886), result("snn_static", 4, 0.888)]
    rows += [result("snn_ftbc_exact", 8, 0.95), result("snn_ftbc_exact", 2, 0.884)]
    found = recommend(rows)  # the standard error is 1.5 points
    assert (found.chosen.timesteps, found.chosen.method) == (4, "snn_static")
    assert found.reached
    assert "+38.8 points" in found.gain


def test_where_no_calibration_is_needed_the_page_says_where_it_gains_most():
    rows = [result("ann", None, 0.9), result("snn_uncalibrated", 4, 0.9)]
    rows += [result("snn_static", 4, 0.89), result("snn_ftbc_exact", 4, 0.88)]
    assert recommend(rows).gain == (
        "At T = 4 no calibration is needed, and at no T does it gain more than chance could."
    )
    rows += [result("snn_uncalibrated", 1, 0.5), result("snn_ftbc_exact", 1, 0.75)]
    assert recommend(rows).gain == (
        "At T = 4 no calibration is needed. It gains most at T = 1: +25.0 points with SNN + FTBC "
        "exact (75.0 %)."
    )


def test_nothing_that_is_drawn_stays_black_on_a_dark_page(page):
    drawings = re.findall(r"<svg.*?</svg>", page.read_text(), flags=re.DOTALL)
    assert len(drawings) == 8
    for drawing in drawings:
        assert "#000000" not in drawing
        # A formula is drawn by parts that have no colour of their own: none is drawn.
        assert "<tspan" not in drawing


def test_where_no_t_is_near_the_ann_the_page_says_how_far_it_is():
    rows = [result("ann", None, 0.9), result("snn_ftbc_exact", 4, 0.6)]
    found = recommend([*rows, result("snn_ftbc_exact", 8, 0.7)])
    assert found.headline == "Use T = 8 with SNN + FTBC exact"
    assert "20.0 points below" in found.reason


def test_layers_are_ranked_by_what_they_add():
    def layer(name, added):
        numbers = (0.3, 0.1, 0.1, 0.1, 0.0, 0.2)
        return LayerRow("snn_ftbc_exact", 2, name, 2, *numbers, added, "clipping")

    found = worst_layers([], [layer("a", 0.01), layer("b", 0.2)])
    assert [row.layer for row in found] == ["b", "a"]
    assert "raise the threshold" in found[0].advice
    assert found[1].advice == "adds little (under 5%)"


def test_where_no_calibration_is_needed_layers_are_ranked_without_it():
    def layer(method, name, total, added):
        return LayerRow(method, 2, name, 2, total, 0.1, 0.1, 0.1, 0.0, 0.2, added, "clipping")

    before = [layer("snn_uncalibrated", "a", 0.3, 0.2), layer("snn_uncalibrated", "b", 0.4, 0.1)]
    after = [layer("snn_static", "a", 0.2, 0.1), layer("snn_static", "b", 0.5, 0.3)]
    found = worst_layers(before, after, plain=True)
    assert [(row.layer, row.before, row.after, row.added) for row in found] == [
        ("a", 0.3, 0.2, 0.2),
        ("b", 0.4, 0.5, 0.1),
    ]
    assert [row.layer for row in worst_layers(before, after)] == ["b", "a"]


def test_advice_does_not_name_what_is_done_already():
    def layer(method, cause="scatter"):
        return LayerRow(method, 2, "a", 2, 0.3, 0.1, 0.1, 0.1, 0.0, 0.2, 0.2, cause)

    for method, done in (("snn_uncalibrated", False), ("snn_static", True), ("snn_ftbc_exact", 1)):
        (found,) = worst_layers([], [layer(method, "offset")])
        assert ("calibrate the temporal bias" in found.advice) == (not done)

    (plain,) = worst_layers([], [layer("snn_ftbc_exact")])
    assert "calibrate the weights too" in plain.advice
    for method in ("snn_weights_ftbc_exact", "snn_backpropagation_ftbc_exact"):
        (done,) = worst_layers([], [layer(method)])
        assert "calibrate the weights" not in done.advice
        assert "more calibration samples" in done.advice


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1100])
def test_chromium_shows_the_page_without_an_error(page, tmp_path, width, dark):
    """A person looks at the screenshots; here nothing may fail, nor be wider than the screen."""
    probe = tmp_path / "probe.html"
    script = (
        "<script>addEventListener('load', () => {"
        "const box = document.querySelector('svg').getBoundingClientRect();"
        "document.title = JSON.stringify({page: document.documentElement.scrollWidth,"
        "screen: innerWidth, height: box.height,"
        "dark: getComputedStyle(document.body).backgroundColor})})</script></body>"
    )
    probe.write_text(page.read_text().replace("</body>", script))
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    command += [f"--window-size={width},1600", f"--user-data-dir={tmp_path / 'profile'}"]
    command += [f"--blink-settings=preferredColorScheme={0 if dark else 1}", "--dump-dom"]
    command += ["--virtual-time-budget=3000", probe.as_uri()]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert "CONSOLE" not in finished.stderr, finished.stderr
    title = re.search(r"<title>(\{.*?\})</title>", finished.stdout)
    seen = json.loads(title.group(1).replace("&quot;", '"'))
    assert seen["page"] <= seen["screen"]
    assert seen["height"] > 100
    assert (seen["dark"] == "rgb(22, 24, 27)") == dark
