"""The kernel equals the plain loop to the bit: on a GPU, or in Triton's interpreter without one."""

import importlib.util
import re
from types import ModuleType

import pytest
import torch

from ftbc_lightning import calibrate, convert, simulate
from ftbc_lightning.snn import fused_neuron, fused_neuron_cpu, simulation
from ftbc_lightning.snn.neurons import integrate_and_fire as neuron
from ftbc_lightning.snn.neurons.integrate_and_fire import IFNeuron
from tests.networks import residual_net, samples

if importlib.util.find_spec("triton") is None:
    pytest.skip("Triton is not there: torch has it on Linux alone", allow_module_level=True)

T = 5
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}

LAYOUTS = {
    "linear": ((3, 7), False),
    "many neurons in a small block": ((50, 13), False),
    "small planes": ((2, 3, 3, 5), False),
    "planes": ((2, 3, 7, 9), False),
    "planes of several blocks": ((1, 2, 33, 37), False),
    "channels last": ((2, 6, 7, 9), True),
    "one channel": ((2, 1, 6, 6), False),
    "one axis": ((2, 4, 41), False),
    "three axes": ((2, 3, 3, 4, 5), False),
    "three axes, channels last": ((2, 3, 3, 4, 5), True),
}


def file_of_its_own() -> ModuleType:
    """A copy of the kernel's file, so that what Triton makes of it here stays here."""
    spec = importlib.util.spec_from_file_location("neuron_of_its_own", fused_neuron.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def fused(monkeypatch) -> ModuleType:
    """The file of the kernel: itself on a GPU, else one that Triton interprets."""
    if DEVICE.type == "cuda":
        return fused_neuron
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    module = file_of_its_own()
    try:
        carried(module, make(1), torch.zeros(T, 1, 1))
    except Exception as error:
        if "0-dimensional" in str(error):
            pytest.skip("the interpreter of this Triton needs NumPy below 2.4")
        raise
    return module


def make(channels: int, *, half: str = "initial", dtype=torch.float32) -> IFNeuron:
    made = IFNeuron(channels, timesteps=T).to(DEVICE, dtype)
    made.set_threshold(torch.rand(channels, device=DEVICE) + 0.3, half_threshold=half)
    made.temporal_bias.copy_(torch.randn(T, channels) / 5)
    return made


def currents(shape, *, last: bool = False, dtype=torch.float32):
    x = (torch.randn(T * shape[0], *shape[1:]) * 0.7).to(DEVICE, dtype)
    if last:
        x = x.contiguous(memory_format=CHANNELS_LAST[x.ndim])
    return x.view(T, shape[0], *shape[1:])


def plain(made: IFNeuron, current, membrane=None, start: int = 0):
    membrane = None if membrane is None else membrane.clone()
    if membrane is None and made.membrane_correction is not None:
        membrane = made.rest(current)
    return made._step_by_step(current.clone(), membrane, start, None)


def carried(fused, made: IFNeuron, current, membrane=None, start: int = 0, out=None):
    """As `IFNeuron.forward` on a GPU, and no plain loop behind it."""
    own = made._values(start, len(current))
    if membrane is None and made.membrane_correction is not None:
        membrane = made.rest(current)
    assert fused.fits(current, membrane, out, **own)
    return fused.launch(current, membrane, out, **own)


def bits(values):
    return values.contiguous().view(
        {2: torch.int16, 4: torch.int32, 8: torch.int64}[values.itemsize]
    )


def assert_same(found, expected) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(bits(one), bits(other))
    assert 0 < (expected[0] != 0).float().mean() < 1


@pytest.mark.parametrize(("shape", "last"), LAYOUTS.values(), ids=LAYOUTS)
def test_kernel_equals_the_plain_loop_in_every_layout(fused, shape, last):
    torch.manual_seed(0)
    made, current = make(shape[1]), currents(shape, last=last)
    output, membrane = carried(fused, made, current)
    assert_same((output, membrane), plain(made, current))
    assert membrane.stride() == current[0].stride()
    assert output.flatten(0, 1).data_ptr() == output.data_ptr()


@pytest.mark.parametrize("half", ["initial", "per_step", "none"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kernel_equals_the_plain_loop_for_every_half_threshold(fused, half, dtype):
    torch.manual_seed(0)
    made = make(3, half=half, dtype=dtype)
    current = currents((2, 3, 4, 11), dtype=dtype)
    assert_same(carried(fused, made, current), plain(made, current))


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize(
    ("dtype", "own"),
    [
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.float32, torch.float64),
    ],
)
def test_current_of_less_precision_than_the_membrane(fused, dtype, own, last):
    torch.manual_seed(0)
    made = make(3, dtype=own)
    if DEVICE.type == "cpu" and dtype == torch.bfloat16:
        # The interpreter cuts bits off where a GPU rounds: see the instructions in the last test.
        made.amplitude.copy_(made.amplitude.bfloat16())
    current = currents((2, 3, 5, 7), dtype=dtype, last=last)
    output, membrane = carried(fused, made, current)
    assert (output.dtype, membrane.dtype) == (dtype, own)
    assert_same((output, membrane), plain(made, current))


@pytest.mark.parametrize("shape", [(3, 4), (2, 4, 5, 7)])
def test_time_in_chunks_with_a_membrane_carried_in_place(fused, shape):
    torch.manual_seed(0)
    made, current = make(4), currents(shape)
    whole, last = plain(made, current)
    first, membrane = carried(fused, made, current[:2])
    rest, after = carried(fused, made, current[2:], membrane, 2)
    assert after is membrane
    assert_same((torch.cat([first, rest]), after), (whole, last))


def test_correction_of_the_membrane_by_neuron(fused):
    torch.manual_seed(0)
    made, current = make(4), currents((3, 4, 5, 7), last=True)
    made.membrane_correction = torch.randn(4, 5, 7, device=DEVICE)
    assert_same(carried(fused, made, current), plain(made, current))


@pytest.mark.parametrize("last", [False, True])
def test_current_that_is_the_same_at_every_step_is_not_copied(fused, last):
    torch.manual_seed(0)
    made, sample = make(4), currents((3, 4, 5, 7), last=last)[0]
    current = sample.unsqueeze(0).expand(T, *sample.shape)
    before = sample.clone()
    output, membrane = carried(fused, made, current)
    assert_same((output, membrane), plain(made, current))
    assert torch.equal(sample, before)
    assert output[0].stride() == sample.stride()


@pytest.mark.parametrize("last", [False, True])
def test_output_over_the_current(fused, last):
    torch.manual_seed(0)
    made, current = make(4), currents((3, 4, 5, 7), last=last)
    expected = plain(made, current)
    output, membrane = carried(fused, made, current, out=current)
    assert output is current
    assert_same((output, membrane), expected)


def test_numbers_that_are_none_spread_as_in_the_plain_loop(fused):
    torch.manual_seed(0)
    made, current = make(4), currents((3, 4, 5, 7))
    current[1, 0, 0, 0, 0] = torch.inf
    current[1, 0, 1, 0, 0] = -torch.inf
    current[2, 0, 2, 0, 0] = torch.nan
    current[0, 1, 3] = -0.0
    for one, other in zip(carried(fused, made, current), plain(made, current), strict=True):
        assert torch.equal(one.isnan(), other.isnan())
        assert torch.equal(bits(one.nan_to_num(7)), bits(other.nan_to_num(7)))


def test_a_spike_at_the_threshold_exactly(fused):
    made = make(2, half="none")
    made.threshold.fill_(1)
    made.amplitude.fill_(1)
    made.temporal_bias.zero_()
    output, membrane = carried(fused, made, torch.ones(T, 1, 2, device=DEVICE))
    assert output.eq(1).all()
    assert membrane.eq(0).all()


@pytest.mark.parametrize(
    "case",
    [
        "gaps",
        "layouts differ",
        "empty",
        "gradient",
        "half membrane",
        "float64 current",
        "bias ends",
    ],
)
def test_what_does_not_fit_is_left_to_the_plain_loop(fused, case):
    made, current, membrane = make(4), currents((2, 4, 6, 6)), None
    if case == "gaps":
        current = current[..., ::2]
    elif case == "layouts differ":
        membrane = current[0].clone().contiguous(memory_format=torch.channels_last)
    elif case == "empty":
        current = current[:, :0]
    elif case == "gradient":
        current.requires_grad_()
    elif case == "half membrane":
        made.bfloat16()
    elif case == "float64 current":
        current = current.double()
    start = 2 if case == "bias ends" else 0
    assert fused.carry(current, membrane, None, **made._values(start, T)) is None
    assert not fused.failures
    if case == "bias ends":
        with pytest.raises(ValueError, match="zip"):
            made(current, start=2)


@pytest.mark.parametrize("chunks", [(16, T), (4, 2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_simulation_is_the_same_to_the_bit(fused, monkeypatch, chunks, dtype):
    net, images = residual_net(dtype=dtype).to(DEVICE), samples(16, dtype=dtype).to(DEVICE)
    snn = convert(net, images[:1], [images], timesteps=T)
    calibrate(net, snn, [images], method="exact")
    monkeypatch.setattr(simulation, "chunk_sizes", lambda *_: chunks)
    monkeypatch.setattr(fused_neuron_cpu, "is_used_for", lambda current: False)
    monkeypatch.setattr(fused_neuron, "is_used_for", lambda current: False)
    slow = simulate(snn, images)
    launches = []
    launch = fused.launch
    monkeypatch.setattr(fused, "launch", lambda *a, **k: launches.append(1) or launch(*a, **k))
    monkeypatch.setattr(fused, "is_used_for", lambda current: True)
    monkeypatch.setattr(neuron, "fused_neuron", fused)
    assert torch.equal(simulate(snn, images), slow)
    chunk_count = -(-16 // chunks[0]) * -(-T // chunks[1])
    assert len(launches) == 3 * chunk_count


def test_a_kernel_that_cannot_be_made_leaves_the_plain_loop_and_says_so(monkeypatch):
    torch.manual_seed(0)
    made, current = make(3), currents((2, 3))

    def no_compiler(*arguments, **own):
        raise RuntimeError("Failed to find C compiler.\nPlease specify via CC")

    monkeypatch.setattr(fused_neuron, "failures", [])
    monkeypatch.setattr(fused_neuron, "launch", no_compiler)
    expected = plain(made, current)
    with pytest.warns(UserWarning, match="RuntimeError: Failed to find C compiler"):
        assert fused_neuron.carry(current, None, None, **made._values(0, T)) is None
    assert len(fused_neuron.failures) == 1
    assert not fused_neuron.is_used_for(current)
    assert_same(made(current), expected)


@pytest.mark.parametrize("pointer", ["*fp32", "*bf16"])
def test_instructions_for_an_h100_round_where_the_plain_loop_does(monkeypatch, tmp_path, pointer):
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    kernel = file_of_its_own()._kernel()
    constants = {"RESTS": True, "PLANES": True, "BLOCK": 128}
    types = {name: "constexpr" if name in constants else "i32" for name in kernel.arg_names}
    types |= dict.fromkeys(kernel.arg_names[:8], "*fp32")
    types |= {"current": pointer, "output": pointer}
    source = ASTSource(fn=kernel, signature=types, constexprs=constants)
    target = GPUTarget("cuda", 90, 32)
    written = triton.compile(source, target=target, options={"num_warps": 1}).asm["ptx"]

    def count(instruction: str) -> int:
        return len(re.findall(instruction, written))

    by_thread = 128 // 32
    assert count(r"\bfma\.rn\.f32") == by_thread  # the reset: a spike is 0 or 1, so it is exact
    assert count(r"\badd(\.rn)?\.f32") == 2 * by_thread + 1  # charge and bias of the one channel
    assert count("ftz") == 0
    assert (count(r"cvt\.rn\.bf16") > 0) == (pointer == "*bf16")
