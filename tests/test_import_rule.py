"""Data flows one way: a file imports from its left in ORDER, never from its right."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "ftbc_lightning"

ORDER = [
    "version",
    "errors",
    "files",
    "data",
    "ann",
    "graph",
    "snn.out_of_memory",
    "snn.sample_shape",
    "snn.device_bounds",
    "snn.memory_layout",
    "snn.packed_weights",
    "snn.fused_neuron",
    "snn.fused_neuron_cpu",
    "snn.weight_reuse",
    "snn.neurons.integrate_and_fire",
    "snn.neurons",
    "snn.simulation",
    "snn.network",
    "snn.statistics",
    "snn.thresholds.settings",
    "snn.thresholds.rule",
    "snn.thresholds.maximum",
    "snn.thresholds",
    "snn.convertible",
    "snn.conversion",
    "snn",
    "calibration",
    "analysis",
    "interchange",
    "report",
    "training",
    "cli",
    "__main__",
]
LOWER_FLOOR = ("errors", "ann", "graph", "snn", "calibration", "analysis", "interchange")
UPPER_ONLY = {"lightning", "torchvision", "torchmetrics", "wandb", "jsonargparse", "rich"}


def place(module: str) -> int:
    """The place in ORDER of the longest entry that holds `module`."""
    fitting = [name for name in ORDER if module == name or module.startswith(f"{name}.")]
    assert fitting, f"{module} has no place in ORDER; give it one"
    return ORDER.index(max(fitting, key=len))


def imports(source: str) -> set[str]:
    """Modules that a file imports, anywhere but under `if TYPE_CHECKING`."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            node.body = []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            folder = PACKAGE.parent / node.module.replace(".", "/")
            inside = {a.name for a in node.names if (folder / f"{a.name}.py").is_file()}
            found |= {f"{node.module}.{name}" for name in inside} or {node.module}
    return found


def violations(module: str, source: str) -> list[str]:
    wrong = []
    for imported in imports(source):
        if imported.startswith("ftbc_lightning."):
            target = imported.removeprefix("ftbc_lightning.")
            if place(target) > place(module):
                wrong.append(f"{module} imports {target} from its right")
        elif module.split(".")[0] in LOWER_FLOOR and imported.split(".")[0] in UPPER_ONLY:
            wrong.append(f"{module} is pure torch but imports {imported}")
    return wrong


FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_imports_from_its_left(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    module = ".".join(part for part in parts if part != "__init__")
    assert violations(module, path.read_text()) == []


def test_the_rule_can_be_broken():
    assert violations("snn.neuron", "from ftbc_lightning.training.module import SpikingClassifier")
    assert violations("ann.vgg", "import torchvision.models")
    assert violations("data.base", "from ftbc_lightning.cli import main")
    assert not violations("cli", "from ftbc_lightning.training.module import SpikingClassifier")


def test_the_functions_do_not_load_lightning():
    code = (
        "import sys, ftbc_lightning; from ftbc_lightning import convert, calibrate, simulate;"
        "loaded = {'lightning', 'torchvision', 'torchmetrics', 'wandb'} & set(sys.modules);"
        "sys.exit(', '.join(loaded) or 0)"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
