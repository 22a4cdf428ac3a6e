"""Simulators that load a whole NIR graph, and Brian2, in which a page builds a network.

None is installed with this package: each wants other versions of its companions. How they were
installed is in docs/howto/chips.md.
"""

import numpy as np
import pytest
import torch

from ftbc_lightning import export, simulate
from ftbc_lightning.interchange import mean_bias
from tests.docs.pages import ROOT, blocks
from tests.interchange.test_safetensors import calibrated, numpy_reader
from tests.networks import samples

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", ["chain", "residual", "shortcut"])
@pytest.mark.parametrize("bias", ["mean", "clock"])
def test_spikingjelly_gives_the_same_spikes_once_its_reset_subtracts(name, bias, tmp_path):
    pytest.importorskip("nir")
    pytest.importorskip("nirtorch", minversion="2.6")
    pytest.importorskip("spikingjelly.activation_based.nir_exchange")
    from tests.interchange.test_nir import ANNS, spikes, with_bias
    from tests.reference.nir_reader import clocked

    snn, _, images = with_bias(bias, ANNS[name]().float(), tmp_path)
    logits, own, _ = spikes(mean_bias(snn) if bias == "mean" else snn, images)

    def run(subtracts):
        return by_spikingjelly(
            tmp_path / "snn.nir",
            [clocked(images, t, 4) if bias == "clock" else images for t in range(4)],
            subtracts=subtracts,
        )

    found, output = run(subtracts=True)
    assert found == own
    torch.testing.assert_close(output, logits[-1], rtol=0, atol=1e-5)
    # as imported, its neurons reset to zero
    assert run(subtracts=False)[0] != own


def by_spikingjelly(path, shown, *, subtracts):
    """Spikes of each layer, in the order of its names, and the mean output."""
    from spikingjelly.activation_based.neuron import IFNode
    from spikingjelly.activation_based.nir_exchange import import_from_nir

    network = import_from_nir(path, dt=1.0)
    counts = {}

    def count(name):
        def hook(module, given, made):
            counts[name] = counts.get(name, 0) + int(made[0].sum())

        return hook

    for name, module in network.named_modules():
        if isinstance(getattr(module, "module", None), IFNode):
            module.register_forward_hook(count(name))
            if subtracts:
                module.module.v_reset = None
    state, total = None, torch.zeros(())
    with torch.no_grad():
        for images in shown:
            output, state = network(images, state)
            total = total + output
    return [counts[name] for name in sorted(counts)], total / len(shown)


def test_norse_gives_the_spikes_of_neurons_that_reset_to_zero(tmp_path):
    pytest.importorskip("nir")
    norse = pytest.importorskip("norse.torch")
    from tests.interchange.test_nir import chain, run_graph, with_bias

    snn, graph, images = with_bias("mean", chain().float(), tmp_path)
    outputs = []
    for image in images:  # its Flatten takes the batch axis too
        network, state, total = norse.from_nir(graph), None, torch.zeros(())
        with torch.no_grad():
            for _ in range(4):
                output, state = network(image, state)
                total = total + output
        outputs.append(total / 4)
    found = torch.stack(outputs)
    to_zero = run_graph(graph, images, 4, to_zero=True)[-1]
    torch.testing.assert_close(found, to_zero, rtol=0, atol=1e-5)
    assert (found - simulate(mean_bias(snn), images)[-1]).abs().max() > 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["chain", "residual", "shortcut"])
def test_brian2_gives_the_same_spikes_with_everything_in_the_file(name, dtype, tmp_path):
    pytest.importorskip("brian2")
    from tests.interchange.test_nir import ANNS

    reader, _ = numpy_reader()
    page = blocks(ROOT / "docs" / "howto" / "chips.md", "python")
    exec(next(block for block in page if "brian2" in block), reader)
    snn = calibrated(ANNS[name]().to(dtype), samples(8, dtype=dtype))
    images = samples(2, seed=2, dtype=dtype)
    net, weights = reader["read"](export(snn, tmp_path / "snn.safetensors"))
    trains, logits = trains_of(reader, net, weights, images.numpy())
    for k, image in enumerate(images.numpy()):
        found, output = reader["brian"](net, weights, image)
        np.testing.assert_allclose(output, logits[k], rtol=0, atol=1e-5)
        for layer, steps in trains.items():
            own = [(t, int(i)) for t, y in enumerate(steps) for i in np.flatnonzero(y[k])]
            assert own
            assert sorted(found[layer]) == own


def trains_of(reader, net, weights, images):
    """The spikes of every layer and step by the reader in NumPy, and the last logits."""
    trains, neuron = {}, reader["neuron"]

    def recording(operation, *given):
        spikes = neuron(operation, *given)
        trains.setdefault(operation["name"], []).append(spikes)
        return spikes

    reader["operations"]["neuron"] = recording
    return trains, reader["logits"](net, weights, images)[-1]
