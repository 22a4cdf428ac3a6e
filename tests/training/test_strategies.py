"""Ways to run processes that would lose or hide weights are refused when a run is set up."""

from types import SimpleNamespace

import pytest
from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy

from ftbc_lightning import UserError
from ftbc_lightning.training.callbacks import ForwardTemporalBiasCorrection


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
