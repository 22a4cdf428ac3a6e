"""NIR graphs: what is in them, and what other programs make of them."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from ftbc_lightning import UserError, export, simulate
from ftbc_lightning.ann.resnet import PadShortcut
from ftbc_lightning.interchange import describe, mean_bias
from ftbc_lightning.interchange.nir_file import nir_graph
from ftbc_lightning.interchange.rebuild import rebuild
from ftbc_lightning.interchange.unit_threshold import unit_thresholds
from ftbc_lightning.snn.stepping import SteppedNetwork
from tests.graph.test_max_pooling import net as pooled_net
from tests.interchange.test_safetensors import calibrated, uneven
from tests.networks import residual_net, samples
from tests.reference.nir_reader import arriving, clocked, linear

nir = pytest.importorskip("nir")


class Shortcut(nn.Module):
    """A residual block whose shortcut takes every second pixel and pads channels; a concat."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 6, 3, 2, 1)
        self.shortcut = PadShortcut(2)
        self.conv3 = nn.Conv2d(6, 2, 1)
        self.linear = nn.Linear(8, 3)

    def forward(self, x):
        x = torch.relu(self.conv1(x))
        x = torch.relu(self.conv2(x) + self.shortcut(x))
        x = torch.cat([x, torch.relu(self.conv3(x))], 1)
        return self.linear(x.mean([2, 3]))


def chain():
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.AvgPool2d(2)),
        *(nn.Conv2d(4, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6, 5), nn.ReLU()),
        nn.Linear(5, 3),
    ).eval()


def shortcut():
    torch.manual_seed(3)
    return Shortcut().eval()


ANNS = {"chain": chain, "residual": residual_net, "shortcut": shortcut}


def run_graph(graph, images, timesteps, *, to_zero=False):
    """A reader of its own: the graph as NIR defines it, v0 and b[t] from metadata, soft reset."""
    state, outputs = {}, []
    for t in range(timesteps):
        values = {}
        shown = clocked(images, t, timesteps) if graph.metadata["bias"] == "clock" else images
        for name in sorted(graph.nodes):
            node = graph.nodes[name]
            x = linear(node, arriving(graph, name, values, shown))
            if isinstance(node, nir.IF):
                axes = (1,) * (x.ndim - 2)
                v0, b = (
                    torch.tensor(node.metadata[key])
                    for key in ("initial_membrane", "temporal_bias")
                )
                u = state.get(name, v0.view(-1, *axes)) + x + b[t].view(-1, *axes)
                x = (u >= torch.tensor(node.v_threshold)).float()
                state[name] = u * (1 - x) if to_zero else u - x * torch.tensor(node.v_threshold)
            values[name] = x
        outputs.append(x)
    return torch.stack(outputs).cumsum(0) / torch.arange(1, timesteps + 1).view(-1, 1, 1)


@pytest.mark.parametrize("name", list(ANNS))
@pytest.mark.parametrize("bias", ["metadata", "mean", "clock"])
def test_a_graph_read_back_and_run_with_its_metadata_gives_the_logits(name, bias, tmp_path):
    # not the calibration samples: "exact" cuts between two membranes of theirs, which may be close
    snn = calibrated(ANNS[name]().float(), samples(8, dtype=torch.float32))
    images = samples(8, seed=2, dtype=torch.float32)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        path = export(snn, tmp_path / "snn.nir", format="nir", bias=bias)
    told = " ".join(str(warning.message) for warning in said)
    assert ("NIR has no time-varying bias" in told) == (bias == "metadata")
    assert ("behind its channels the sample has" in told) == (bias == "clock")
    expected = simulate(mean_bias(snn) if bias == "mean" else snn, images)
    graph = nir.read(path)
    torch.testing.assert_close(run_graph(graph, images, 4), expected, rtol=0, atol=1e-5)
    neurons = [node for node in graph.nodes.values() if isinstance(node, nir.IF)]
    assert all((node.v_threshold == 1).all() for node in neurons)
    assert all(np.any(node.metadata["temporal_bias"]) == (bias == "metadata") for node in neurons)
    assert graph.metadata["reset"] == "subtract"


def test_the_clock_reaches_layers_of_vectors(tmp_path):
    ann = nn.Sequential(nn.Flatten(), nn.Linear(72, 9), nn.ReLU(), nn.Linear(9, 3)).eval()
    vectors = [samples(8, seed, torch.float32).flatten(1) for seed in (1, 2)]
    snn = calibrated(ann, vectors[0])
    with pytest.warns(UserWarning, match="one more for each step"):
        graph = nir.read(export(snn, tmp_path / "snn.nir", format="nir", bias="clock"))
    found = run_graph(graph, vectors[1], 4)
    torch.testing.assert_close(found, simulate(snn, vectors[1]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [(4, 9), (7, 5), (5, 10)])
def test_the_clock_reaches_layers_of_samples_that_are_not_square(size, tmp_path):
    layers = [nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 2, 2, 2, 1), nn.ReLU(), nn.Flatten()]
    torch.manual_seed(0)
    ann = nn.Sequential(*layers, nn.LazyLinear(3)).eval()
    images = [torch.randn(8, 1, *size) for _ in range(2)]
    ann(images[0])
    snn = calibrated(ann, images[0])
    with pytest.warns(UserWarning, match="one more for each step"):
        graph = nir.read(export(snn, tmp_path / "snn.nir", format="nir", bias="clock"))
    found = run_graph(graph, images[1], 4)
    torch.testing.assert_close(found, simulate(snn, images[1]), rtol=0, atol=1e-5)


def test_shapes_that_nir_does_not_understand_end_in_one_line(tmp_path):
    grouped = nn.Sequential(nn.Conv2d(2, 4, 3, groups=2), nn.ReLU(), nn.Flatten())
    snn = calibrated(nn.Sequential(grouped, nn.Linear(64, 3)).double().eval(), samples(8))
    with pytest.raises(UserError, match=r"nir takes the shapes.*no groups"):
        export(snn, tmp_path / "snn.nir", format="nir", bias="mean")


def test_a_layer_that_the_clock_cannot_reach_is_named():
    grows = nn.Sequential(nn.Conv2d(2, 3, 1, padding=2), nn.ReLU(), nn.Flatten(), nn.Linear(300, 3))
    snn = calibrated(grows.double().eval(), samples(8))
    with pytest.raises(UserError, match=r"_1_clock has \[3, 10, 10\], the sample \[2, 6, 6\]"):
        unit_thresholds(describe(snn), bias="clock")


def test_a_file_says_nothing_of_a_value_that_neurons_reset_to(tmp_path):
    # nir 1.0.4, which sinabs holds to, does not read a file that does
    import h5py

    for name, leak in (("if", 1.0), ("lif", 0.8)):
        snn = calibrated(chain().float(), samples(8, dtype=torch.float32), leak=leak)
        path = export(snn, tmp_path / f"{name}.nir", format="nir", bias="mean")
        with h5py.File(path) as file:
            kinds = [node["type"][()].decode() for node in file["node/nodes"].values()]
            assert kinds.count(name.upper()) == 3
            assert not any("v_reset" in node for node in file["node/nodes"].values())


@pytest.mark.parametrize("name", list(ANNS))
def test_unit_thresholds_leave_the_logits(name):
    ann, images = ANNS[name]().double(), samples(8)
    snn = calibrated(ann, images)
    divided = unit_thresholds(describe(snn), bias="metadata")
    torch.testing.assert_close(
        simulate(rebuild(divided), images), simulate(snn, images), rtol=0, atol=1e-10
    )


def test_what_nir_has_no_primitive_for_is_named():
    snn = calibrated(pooled_net(), samples(8))
    with pytest.raises(UserError, match="no primitive for 3 of the operations: pool \\(max_pool"):
        nir_graph(unit_thresholds(describe(snn), bias="mean"), bias="mean")


def test_uneven_adaptive_pooling_is_named_with_the_way_out():
    snn = calibrated(uneven(4), samples(8))
    with pytest.raises(
        UserError, match=r"pool_means \(linear\).* a size of sample that it divides"
    ):
        nir_graph(unit_thresholds(describe(snn), bias="mean"), bias="mean")


def with_bias(bias, ann, folder, leak=1.0):
    """A network, the graph that is read back from its file, and new samples."""
    snn = calibrated(ann, samples(8, dtype=torch.float32), leak=leak)
    graph = nir.read(export(snn, folder / "snn.nir", format="nir", bias=bias))
    return snn, graph, samples(8, seed=2, dtype=torch.float32)


def spikes(snn, images):
    """Spikes of each layer, and for each the largest membrane that a reset has left."""
    network = SteppedNetwork(rebuild(unit_thresholds(describe(snn), bias="metadata")))
    counts, left = dict.fromkeys(network.names, 0), dict.fromkeys(network.names, 0.0)
    fire = network._fire

    def counting(node, current, state, after, step):
        fired = fire(node, current, state, after, step)
        counts[node.name] += int(fired.sum())
        left[node.name] = max(left[node.name], float(after[node.name].max()) / network.leak)
        return fired

    network._fire = counting
    return network(images), list(counts.values()), list(left.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", list(ANNS))
def test_sinabs_gives_the_same_spikes_once_it_fires_one_a_step_without_a_floor(name, tmp_path):
    pytest.importorskip("sinabs")
    from tests.interchange.importers import by_sinabs

    snn, graph, images = with_bias("mean", ANNS[name]().float(), tmp_path)
    logits, own, left = spikes(mean_bias(snn), images)
    found, output = by_sinabs(graph, len(images), as_imported=False).run(images, 4)
    assert found == own
    torch.testing.assert_close(output, logits[-1], rtol=0, atol=1e-5)
    imported, _ = by_sinabs(graph, len(images), as_imported=True).run(images, 4)
    # as imported, a neuron may fire several times in a step, and its membrane stops at -1
    assert imported != own
    assert max(left) > 1


@pytest.mark.slow
@pytest.mark.parametrize("name", list(ANNS))
def test_sinabs_gives_the_spikes_of_the_calibrated_network_from_the_clock(name, tmp_path):
    pytest.importorskip("sinabs")
    from tests.interchange.importers import by_sinabs

    snn, graph, images = with_bias("clock", ANNS[name]().float(), tmp_path)
    logits, own, _ = spikes(snn, images)
    found, output = by_sinabs(graph, len(images), as_imported=False).run(images, 4, clock=True)
    assert found == own
    torch.testing.assert_close(output, logits[-1], rtol=0, atol=1e-5)


@pytest.mark.slow
def test_sinabs_own_loader_runs_a_chain(tmp_path):
    pytest.importorskip("sinabs")
    from sinabs.activation import SingleSpike
    from sinabs.layers import IAFSqueeze
    from sinabs.nir import from_nir

    snn, graph, images = with_bias("mean", chain(), tmp_path)
    network = from_nir(graph, batch_size=8)
    for module in network.modules():
        if isinstance(module, IAFSqueeze):
            module.spike_fn, module.min_v_mem = SingleSpike, None
    steps = images.unsqueeze(1).expand(-1, 4, -1, -1, -1).flatten(0, 1)
    output = network(steps)[0].unflatten(0, (8, 4)).mean(1)
    expected = simulate(mean_bias(snn), images)[-1]
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("leak", [1.0, 0.8])
@pytest.mark.parametrize("name", list(ANNS))
def test_snntorch_gives_the_same_spikes_up_to_membranes_left_above_threshold(name, leak, tmp_path):
    pytest.importorskip("snntorch")
    from tests.interchange.importers import by_snntorch

    snn, graph, images = with_bias("mean", ANNS[name]().float(), tmp_path, leak)
    for sample in images.split(1):  # it flattens the batch axis too
        _, own, left = spikes(mean_bias(snn), sample)
        found, _ = by_snntorch(graph, as_imported=False).run(sample, 4)
        # snnTorch subtracts again, before it fires, from a membrane that a reset has left above 1;
        # layers up to the first such membrane agree spike by spike
        same = next((n for n, value in enumerate(left) if value > 1), len(left))
        assert found[:same] == own[:same]
