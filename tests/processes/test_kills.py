"""Every subcommand killed in its work and in each write, and given again; see `kills`."""

import sys

import pytest

from tests.processes import kills
from tests.processes.launch import LIMIT, finish, start

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def printed():
    """Exit codes of two programs that kill half of the subcommands each, and their tables."""
    names = list(kills.SUBCOMMANDS)
    halves = (names[::2], names[1::2])
    programs = [start([sys.executable, "-m", "tests.processes.kills", *half]) for half in halves]
    codes, tables = zip(*finish(*programs, limit=10 * LIMIT), strict=True)
    return max(codes), "\n".join(tables)


@pytest.mark.parametrize("subcommand", kills.SUBCOMMANDS)
def test_what_is_killed_leaves_whole_files_and_can_be_given_again(printed, subcommand):
    code, output = printed
    assert code == 0, output
    rows = [line for line in output.splitlines() if line.startswith(f"| {subcommand} ")]
    assert any("write of" in row for row in rows), output
