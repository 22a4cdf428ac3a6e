"""Configurations by name: from a checkout, and from the wheel."""

import shutil
import subprocess
import sys
import zipfile

import pytest
import yaml

from ftbc_lightning.cli import configurations, main
from tests.conftest import DIGITS, ROOT

SHIPPED = sorted(
    path.relative_to(ROOT / "configs").with_suffix("").as_posix()
    for path in (ROOT / "configs").rglob("*.yaml")
)
EXPERIMENTS = [name for name in SHIPPED if "/" not in name]
PARTS = [name for name in SHIPPED if "/" in name and name != "logger/wandb_sweep"]


def printed(capsys, *words):
    """The configuration that a command would run with."""
    with pytest.raises(SystemExit) as left:
        main([*words, "--print_config"])
    assert left.value.code == 0
    return capsys.readouterr().out


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A folder without a file, and the process in it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "words", [["--config", "digits_cnn"], ["--config=digits_cnn"], ["-c", "digits_cnn"]]
)
def test_a_name_means_the_file_of_that_name(capsys, elsewhere, words):
    by_path = printed(capsys, "fit", "--config", str(DIGITS))
    assert printed(capsys, "fit", *words) == by_path
    assert "runs/digits_cnn" in by_path


@pytest.mark.parametrize("part", PARTS)
def test_a_part_is_named_without_path(capsys, elsewhere, part):
    if part in ("logger/tensorboard", "logger/mlflow"):
        pytest.importorskip(part.rpartition("/")[2])
    words = ["fit", "--config", "digits_cnn", "--config", part]
    found = yaml.safe_load(printed(capsys, *words))["trainer"]
    given = yaml.safe_load((ROOT / "configs" / f"{part}.yaml").read_text())["trainer"]
    loggers = given.pop("logger", [])
    assert {key: found[key] for key in given} == given
    assert [one["class_path"] for one in found["logger"] or []] == [
        one["class_path"] for one in loggers
    ]


def test_the_path_inside_a_checkout_stays_valid(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert "runs/digits_cnn" in printed(capsys, "fit", "--config", "configs/digits_cnn.yaml")


def test_a_file_of_ones_own_goes_before_a_name(capsys, elsewhere):
    (elsewhere / "digits_cnn").write_text(DIGITS.read_text().replace("runs/digits_cnn", "mine"))
    assert "default_root_dir: mine" in printed(capsys, "fit", "--config", "digits_cnn")


def test_the_text_of_a_configuration_is_left_to_the_parser(capsys, elsewhere):
    words = ["fit", "--config", "digits_cnn", "--config", "{timesteps: [3]}"]
    assert yaml.safe_load(printed(capsys, *words))["timesteps"] == [3]


@pytest.mark.parametrize("command", [["fit", "--config"], ["configs", "--copy"]])
def test_an_unknown_name_is_one_line_that_lists_what_there_is(capsys, elsewhere, command):
    assert main([*command, "digits"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "There is no file digits. The package has no configuration digits" in line
    assert all(name in line for name in SHIPPED)


def test_the_list_says_what_each_configuration_is(capsys):
    assert main(["configs"]) == 0
    *listed, how = capsys.readouterr().out.splitlines()
    found = dict(line.split(maxsplit=1) for line in listed)
    assert sorted(found) == SHIPPED
    assert list(found)[: len(EXPERIMENTS)] == EXPERIMENTS
    assert "digits" in found["digits_cnn"]
    assert "--config NAME" in how


@pytest.mark.parametrize("name", SHIPPED)
def test_every_configuration_begins_with_a_whole_sentence(name):
    text = (ROOT / "configs" / f"{name}.yaml").read_text()
    assert text.startswith("# ")
    assert configurations.purpose(name).endswith(".")


@pytest.mark.parametrize("name", ["digits_cnn", "logger/wandb"])
def test_a_copy_is_the_file_and_can_be_taken(capsys, elsewhere, name):
    assert main(["configs", "--copy", name]) == 0
    said = capsys.readouterr().out
    (path,) = elsewhere.iterdir()
    assert path.read_bytes() == (ROOT / "configs" / f"{name}.yaml").read_bytes()
    assert str(path) in said
    printed(capsys, "fit", "--config", "digits_cnn", "--config", path.name)


def test_only_what_comes_with_the_package_is_copied(capsys, elsewhere):
    (elsewhere / "mine.yaml").write_text("")
    assert main(["configs", "--copy", "mine.yaml"]) == 2
    assert "error: The package has no configuration mine.yaml;" in capsys.readouterr().err
    assert main(["configs", "--copy", "../cli"]) == 2
    assert [path.name for path in elsewhere.iterdir()] == ["mine.yaml"]


def test_a_copy_never_overwrites(capsys, elsewhere):
    own = elsewhere / "digits_cnn.yaml"
    own.write_text("mine")
    assert main(["configs", "--copy", "digits_cnn"]) == 2
    assert str(own) in capsys.readouterr().err
    assert own.read_text() == "mine"


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """The wheel of this tree, built offline and unpacked."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in ("ftbc_lightning", "configs"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    command = [sys.executable, "-c", build, str(folder)]
    finished = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked"


def test_the_wheel_holds_every_configuration_and_no_package_beside_ours(unpacked):
    inside = unpacked / "ftbc_lightning" / "configs"
    found = {path.relative_to(inside): path.read_bytes() for path in inside.rglob("*.yaml")}
    own = ROOT / "configs"
    assert found == {path.relative_to(own): path.read_bytes() for path in own.rglob("*.yaml")}
    assert {path.name.partition("-")[0] for path in unpacked.iterdir()} == {"ftbc_lightning"}


def test_an_installed_package_reads_its_own_configurations(unpacked, monkeypatch):
    installed = unpacked / "ftbc_lightning" / "cli" / "configurations.py"
    monkeypatch.setattr(configurations, "__file__", str(installed))
    inside = unpacked / "ftbc_lightning" / "configs"
    assert configurations.find("trainer/ddp") == str(inside / "trainer" / "ddp.yaml")
    assert configurations.names() == [*EXPERIMENTS, *(name for name in SHIPPED if "/" in name)]
