"""The log-mel spectrogram: by a slow loop, beside torchaudio, and in front of a spiking network."""

import math

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from ftbc_lightning import UserError, calibrate, convert, simulate
from ftbc_lightning.ann import LogMel, SmallCNN, SoundCNN
from ftbc_lightning.ann.log_mel import mel_filters
from ftbc_lightning.graph.operators import roles
from ftbc_lightning.graph.tracing import trace
from ftbc_lightning.snn.stepping import SteppedNetwork


def sounds(count, values=2000, seed=0):
    return torch.randn(count, 1, values, generator=torch.Generator().manual_seed(seed))


def filters_by_loop(bands, frequencies, sample_rate):
    """Each triangle, frequency by frequency."""
    highest = 2595 * math.log10(1 + sample_rate / 2 / 700)
    edges = [700 * (10 ** (n * highest / (bands + 1) / 2595) - 1) for n in range(bands + 2)]
    found = torch.zeros(bands, frequencies)
    for m in range(bands):
        low, centre, high = edges[m : m + 3]
        for k in range(frequencies):
            hertz = k * sample_rate / 2 / (frequencies - 1)
            if low <= hertz <= centre:
                found[m, k] = (hertz - low) / (centre - low)
            elif centre < hertz <= high:
                found[m, k] = (high - hertz) / (high - centre)
    return found


@pytest.mark.parametrize(("bands", "frequencies"), [(4, 33), (32, 129)])
def test_the_filters_are_those_of_a_loop(bands, frequencies):
    found = mel_filters(bands, frequencies, sample_rate=8000)
    torch.testing.assert_close(found, filters_by_loop(bands, frequencies, 8000))


def test_the_spectrogram_is_that_of_a_sum_over_each_window():
    sound, bands, size, hop, floor = sounds(1, 200), 4, 32, 16, 0.5
    found = LogMel(bands=bands, window=size, hop=hop, floor=floor)(sound)[0, 0]
    padded = nn.functional.pad(sound, (size // 2, size // 2), mode="reflect").flatten().tolist()
    hann = [0.5 - 0.5 * math.cos(2 * math.pi * n / size) for n in range(size)]
    filters = filters_by_loop(bands, size // 2 + 1, 8000)
    assert found.shape == (bands, 1 + 200 // hop)
    for t in range(found.shape[1]):
        heard = [hann[n] * padded[t * hop + n] for n in range(size)]
        power = []
        for f in range(size // 2 + 1):
            angles = [2 * math.pi * f * n / size for n in range(size)]
            real = sum(x * math.cos(a) for x, a in zip(heard, angles, strict=True))
            imaginary = sum(x * math.sin(a) for x, a in zip(heard, angles, strict=True))
            power.append(real**2 + imaginary**2)
        expected = torch.log(1 + filters @ torch.tensor(power) / floor)
        torch.testing.assert_close(found[:, t], expected, rtol=1e-4, atol=1e-4)


def test_it_is_torchaudios():
    transforms = pytest.importorskip("torchaudio.transforms")
    theirs = transforms.MelSpectrogram(8000, n_fft=256, hop_length=128, n_mels=32)
    torch.testing.assert_close(LogMel()(sounds(3)), torch.log1p(theirs(sounds(3))))


def test_silence_is_nothing_and_a_tone_is_loudest_in_its_band():
    times = torch.arange(8000) / 8000
    assert not LogMel()(torch.zeros(1, 1, 8000)).any()
    for hertz in (500, 1500, 3000):
        picture = LogMel()(torch.sin(2 * math.pi * hertz * times).reshape(1, 1, -1))[0, 0]
        band = mel_filters(32, 129, sample_rate=8000)[:, round(hertz / 4000 * 128)].argmax()
        assert (picture[:, 2:-2].argmax(0) == band).all()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"bands": 0}, "bands is 0; it must be a whole number from 1"),
        ({"floor": 0.0}, "floor is 0.0; it must be above 0"),
        ({"bands": 128}, "128 mel bands are narrower than a window of 256 values"),
    ],
)
def test_a_setting_out_of_range_is_named(settings, said):
    with pytest.raises(UserError, match=said):
        LogMel(**settings)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_half_precision_it_is_computed_in_float32(dtype):
    halved = LogMel().to(dtype)
    found = halved(sounds(2).to(dtype))
    assert found.dtype is dtype
    torch.testing.assert_close(found, LogMel()(sounds(2).to(dtype).float()).to(dtype))
    assert torch.equal(halved.float()(sounds(2)), LogMel()(sounds(2)))


def test_in_double_precision_it_is_computed_so():
    found = LogMel().double()(sounds(2).double())
    assert found.dtype is torch.float64
    torch.testing.assert_close(found.float(), LogMel()(sounds(2)))


# In front of a spiking network


def network():
    torch.manual_seed(0)
    return nn.Sequential(LogMel(), SmallCNN(in_channels=1, width=4)).eval()


class Transforms(TorchDispatchMode):
    """Counts Fourier transforms."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._fft_r2c.default
        return func(*args, **(kwargs or {}))


def test_it_is_the_front_of_a_graph_and_computed_once():
    graph = trace(network(), sounds(1))
    found = [node.name for node, role in roles(graph).items() if role == "front"]
    assert {"stft", "square", "matmul", "log1p"} <= set(found)
    snn = convert(network(), sounds(1), [sounds(8)], timesteps=4)
    with Transforms() as transforms:
        simulate(snn, sounds(8), 4)
    assert transforms.count == 1


def test_a_spiking_network_behind_it_comes_to_the_ann_and_steps_give_the_same():
    ann, heard = network(), sounds(16)
    snn = convert(ann, heard[:1], [heard], timesteps=64, threshold_rule="max")
    calibrate(ann, snn, [heard], method="exact")
    reached = simulate(snn, heard, 64)
    with torch.no_grad():
        wanted = ann(heard)
    error = (reached - wanted).square().mean((1, 2)).sqrt() / wanted.std()
    assert error[-1] < 0.1
    assert error[-1] < error[3] < error[0]
    torch.testing.assert_close(SteppedNetwork(snn)(heard), reached, rtol=1e-4, atol=1e-4)


def test_a_spiking_network_on_spectrograms_is_the_one_on_sounds():
    ann, heard = network(), sounds(8)
    pictures = ann[0](heard)
    whole = convert(ann, heard[:1], [heard], timesteps=4)
    behind = convert(ann[1], pictures[:1], [pictures], timesteps=4)
    torch.testing.assert_close(simulate(whole, heard, 4), simulate(behind, pictures, 4))


def test_the_network_for_sounds_is_the_two_in_a_row():
    net = SoundCNN(num_classes=3).eval()
    assert torch.equal(net(sounds(2)), net.cnn(net.log_mel(sounds(2))))
    assert torch.equal(net(sounds(2)), net(sounds(2)[:, 0]))
    assert not any("log_mel" in name for name in net.state_dict())
