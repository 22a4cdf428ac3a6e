"""Print the oldest versions that a pyproject.toml allows, as constraints for pip.

`python tests/oldest.py pyproject.toml`; needs the standard library alone.
"""

import re
import sys
import tomllib
from pathlib import Path

REQUIREMENT = re.compile(r"([A-Za-z0-9_.-]+)(?:\[[^]]*\])?\s*(.*)")


def oldest(requirement: str) -> str:
    """`name==bound` of a requirement with a lower bound.

    >>> oldest("jsonargparse[signatures]>=4.39,<5")
    'jsonargparse==4.39'
    """
    match = REQUIREMENT.fullmatch(requirement)
    assert match, requirement
    bounds = [part.strip() for part in match[2].split(",")]
    lower = [bound.removeprefix(">=") for bound in bounds if bound.startswith(">=")]
    assert len(lower) == 1, f"{requirement} has no lower bound"
    return f"{match[1]}=={lower[0]}"


if __name__ == "__main__":
    project = tomllib.loads(Path(sys.argv[1]).read_text())["project"]
    extras = project["optional-dependencies"]
    for line in [*project["dependencies"], *extras["notebooks"], *extras["dev"]]:
        if not line.startswith(("mypy", "ruff")):
            print(oldest(line))
