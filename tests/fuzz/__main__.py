"""Feed damaged checkpoints and configurations: `python -m tests.fuzz --cases 1000 --seed 0`.

A case is fine when it is read, or refused with a `UserError` (configurations: one line and an exit
code). Anything else is printed with its traceback, and makes the exit code 1.
"""

import argparse
import contextlib
import copy
import io
import os
import random
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ftbc_lightning import SpikingClassifier, UserError
from ftbc_lightning.analysis.network_variants import Variant
from ftbc_lightning.ann import SmallCNN
from ftbc_lightning.cli import main
from ftbc_lightning.files.checkpoint import read_checkpoint
from tests.conftest import DIGITS

STRANGE: list[Any] = [
    *(None, -1, 0, 1, 3.5, 10**18, float("nan"), float("inf"), True, "", "x", "os.system"),
    *([], [None], {}, {"class_path": "os.system"}, torch.zeros(2), torch.zeros(0), b"bytes"),
]
Case = Callable[[Path, random.Random], Callable[[], None]]
WORDS = ["null", "-1", "0", "1e400", "[]", "{}", "nan", "true", "os.system", "'", ":", "- a", "!!x"]


def module() -> SpikingClassifier:
    return SpikingClassifier(SmallCNN(in_channels=1, width=4))


def checkpoint() -> dict[str, Any]:
    """A whole file of two spiking networks."""
    own = module()
    own.convert(own.structure(torch.zeros(1, 1, 8, 8)), [Variant("none", 2), Variant("exact", 2)])
    own.phase = "calibrated"
    content = {
        "pytorch-lightning_version": "2.6.0",
        "state_dict": own.state_dict(),
        "hyper_parameters": {"label_smoothing": 0.0},
        "epoch": 1,
        "loops": {},
    }
    own.on_save_checkpoint(content)
    return content


def damage(content: bytes, draw: random.Random) -> bytes:
    """Flip, cut, repeat or insert a few bytes."""
    data = bytearray(content)
    for _ in range(draw.randint(1, 8)):
        at = draw.randrange(len(data)) if data else 0
        kind = draw.randrange(5)
        if kind == 0 and data:
            data[at] ^= 1 << draw.randrange(8)
        elif kind == 1:
            del data[at : at + draw.randint(1, 2000)]
        elif kind == 2:
            data[at:at] = draw.randbytes(draw.randint(1, 64))
        elif kind == 3:
            data[at : at + 40] = data[: draw.randint(0, 40)]
        else:
            del data[at:]
    return bytes(data)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where a nested value can be changed."""
    items: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    found = [path] if path else []
    for key, item in items:
        found += places(item, (*path, key))
    return found


def change(content: Any, draw: random.Random) -> Any:
    """Replace or delete one to three entries, at any depth."""
    content = copy.deepcopy(content)
    for _ in range(draw.randint(1, 3)):
        depth = [p for p in places(content) if draw.random() < 0.5 or len(p) < 3]
        if not depth:
            return content
        *owners, key = draw.choice(depth)
        owner = content
        for part in owners:
            owner = owner[part]
        if draw.random() < 0.3:
            del owner[key]
        else:
            owner[key] = copy.deepcopy(draw.choice(STRANGE))
    return content


def load(path: Path) -> None:
    """What a Trainer does with a file, and what Python users do."""
    own = module()
    content = read_checkpoint(path)
    own.on_load_checkpoint(content)
    own.load_state_dict(content["state_dict"])
    SpikingClassifier.load_from_checkpoint(path, network=SmallCNN(in_channels=1, width=4))


def checkpoint_case(folder: Path, draw: random.Random) -> Callable[[], None]:
    """One damaged file: its bytes, or what is in it."""
    path = folder / f"{draw.randrange(10**9)}.ckpt"
    content = checkpoint()
    if draw.random() < 0.5:
        torch.save(content, path)
        path.write_bytes(damage(path.read_bytes(), draw))
    else:
        torch.save(change(content, draw), path)
    return lambda: load(path)


def configuration_case(folder: Path, draw: random.Random) -> Callable[[], None]:
    """One damaged configuration."""
    lines = DIGITS.read_text().splitlines()
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(lines))
        kind = draw.randrange(5)
        if kind == 0:
            del lines[at]
        elif kind == 1:
            lines[at] = lines[at].split(":")[0] + ": " + draw.choice(WORDS)
        elif kind == 2:
            lines[at] = draw.choice(["", "  ", "    "]) + lines[at].strip()
        elif kind == 3:
            lines.insert(at, draw.choice(lines))
        else:
            place = draw.randrange(len(lines[at]) + 1)
            lines[at] = lines[at][:place] + draw.choice(WORDS) + lines[at][place:]
        if not lines:
            lines = [""]
    path = folder / "config.yaml"
    path.write_text("\n".join(lines))
    return lambda: read_configuration(path)


def read_configuration(path: Path) -> None:
    """Build everything that a configuration names."""
    try:
        code = main(["inspect", "--config", str(path)])
    except SystemExit as left:
        code = int(left.code or 0) if not isinstance(left.code, str) else 2
    if code:
        raise UserError(f"exit code {code}")


def attempt(case: Callable[[], None]) -> str:
    """`read`, `refused`, or the traceback."""
    silence = io.StringIO()
    try:
        with contextlib.redirect_stdout(silence), contextlib.redirect_stderr(silence):
            case()
    except UserError:
        return "refused"
    except Exception:
        return traceback.format_exc()
    return "read"


def fuzz(
    make: Callable[[Path, random.Random], Callable[[], None]], *, cases: int, seed: int
) -> Counter[str]:
    """Try many cases; returns how often each outcome came."""
    outcomes: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = Path.cwd()
        os.chdir(folder)
        try:
            for number in range(cases):
                outcome = attempt(make(Path(folder), random.Random(f"{seed}-{number}")))
                if outcome not in ("read", "refused"):
                    print(f"case {number} of seed {seed}:\n{outcome}", flush=True)
                    outcome = outcome.strip().splitlines()[-1][:150]
                outcomes[outcome] += 1
                for path in Path(folder).glob("*.ckpt"):
                    path.unlink()
        finally:
            os.chdir(before)
    return outcomes


KINDS = {"checkpoints": checkpoint_case, "configurations": configuration_case}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", choices=KINDS, nargs="*", default=list(KINDS))
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    bad = 0
    for kind in given.kind:
        outcomes = fuzz(KINDS[kind], cases=given.cases, seed=given.seed)
        print(kind, dict(outcomes))
        bad += sum(outcomes.values()) - outcomes["read"] - outcomes["refused"]
    raise SystemExit(bool(bad))
