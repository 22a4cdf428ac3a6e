"""A short fuzz of what is read from files; `python -m tests.fuzz` tries more."""

import pytest
import torch

from tests.fuzz.__main__ import KINDS, attempt, checkpoint, fuzz, load


def test_the_file_that_is_damaged_is_whole_before(tmp_path):
    torch.save(checkpoint(), tmp_path / "whole.ckpt")
    assert attempt(lambda: load(tmp_path / "whole.ckpt")) == "read"


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_are_read_or_refused(kind):
    outcomes = fuzz(KINDS[kind], cases=150, seed=1)
    assert outcomes["read"] + outcomes["refused"] == 150, outcomes
    assert outcomes["refused"] > 50
