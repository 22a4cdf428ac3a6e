"""Ways to run processes that would lose or hide weights are refused when a run is set up."""

from types import SimpleNamespace

import pytest
from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy

from ftbc_lightning import UserError
from ftbc_lightning.cli import main
from ftbc_lightning.training.callbacks import ForwardTemporalBiasCorrection
from tests.conftest import digits


def set_up(strategy):
    ForwardTemporalBiasCorrection().setup(SimpleNamespace(strategy=strategy), None, "fit")


def test_sharded_weights_are_refused_with_the_reason():
    with pytest.raises(UserError, match=r"FSDPStrategy divides the weights .*trainer.strategy ddp"):
        set_up(FSDPStrategy())


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_processes_that_are_spawned_or_forked_are_refused(method):
    strategy = DDPStrategy(start_method=method)
    strategy._launcher = SimpleNamespace(_start_method=method)
    with pytest.raises(UserError, match=r"throw the conversion away .*trainer.strategy ddp"):
        set_up(strategy)


def test_processes_that_are_started_as_programs_are_accepted():
    set_up(DDPStrategy())


def refused(strategy, folder, capfd):
    """What `ftbc fit` in two processes says when it ends at once."""
    words = digits("fit", folder)
    assert main([*words, "--trainer.devices", "2", "--trainer.strategy", strategy]) == 2
    said = capfd.readouterr()
    assert "Traceback" not in said.out + said.err
    return said.err


@pytest.mark.parametrize("strategy", ["ddp_spawn", "ddp_fork", "ddp_notebook"])
def test_strategies_that_lose_the_conversion_are_refused(strategy, tmp_path, capfd):
    said = refused(strategy, tmp_path, capfd)
    assert "throw the conversion away when they end. Use --trainer.strategy ddp" in said


def test_sharding_without_a_gpu_is_refused_in_one_line(tmp_path, capfd):
    line = refused("fsdp", tmp_path, capfd).splitlines()[-1]
    assert line.startswith("ftbc: error: The strategy `fsdp` requires a GPU")
