"""A device that only pretends, so that what fails on a GPU fails on every machine.

Its tensors lie in the CPU's memory, report `pretend:0`, and refuse what a GPU refuses: to be mixed
with the CPU's, or to be handed to NumPy. The values are true, so a run on it must give what a run
on the CPU gives, to the bit. It also counts what costs time on a GPU:

    from tests import pretend_device

    pretend_device.plug_in()                       # for torch; tests/conftest.py does it
    pretend_device.plug_into_lightning()           # --trainer.accelerator pretend
                                                   # --trainer.strategy pretend
    snn = convert(ann.to("pretend"), ...)
    with pretend_device.counting() as counts:
        simulate(snn, images)
    counts.launches["aten.addmm.default"]          # how often a GPU would be given this operation
    counts.reads["snn/calibration/exact.py:41"]    # how often the host waited for a value there
    with pretend_device.memory(4096):              # larger tensors are refused
        simulate(snn, images)

Not covered: two devices, streams, what a GPU computes with other rounding, and the casts of
`torch.autocast`.
"""

from tests.pretend_device.backend import NAME, plug_in, plug_into_lightning, unplugged
from tests.pretend_device.counting import Counts, counting
from tests.pretend_device.tensor import PretendTensor, memory

__all__ = [
    "NAME",
    "Counts",
    "PretendTensor",
    "counting",
    "memory",
    "plug_in",
    "plug_into_lightning",
    "unplugged",
]
