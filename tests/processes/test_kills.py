"""Every subcommand killed in its work and in each write, and given again; see `kills`."""

import sys

import pytest

from tests.processes import kills
from tests.processes.launch import LIMIT, finish, start

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def printed():
    """Exit code of the program that kills all subcommands from one finished run, and its table."""
    program = start([sys.executable, "-m", "tests.processes.kills"])
    return finish(program, limit=10 * LIMIT)[0]


@pytest.mark.parametrize("subcommand", kills.SUBCOMMANDS)
def test_what_is_killed_leaves_whole_files_and_can_be_given_again(printed, subcommand):
    code, output = printed
    assert code == 0, output
    rows = [line for line in output.splitlines() if line.startswith(f"| {subcommand} ")]
    assert any("write of" in row for row in rows), output
