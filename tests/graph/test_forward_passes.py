"""Forward passes as people write them: each network converts, and its limit is the ANN."""

import operator
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ftbc_lightning import (
    UserError,
    calibrate,
    conversion_map,
    convert,
    export,
    load,
    reconvert,
    simulate,
)
from ftbc_lightning.analysis.diagnosis import diagnose
from ftbc_lightning.analysis.inspection import inspect
from ftbc_lightning.analysis.operation_counts import count_operations
from ftbc_lightning.graph.tracing import trace
from ftbc_lightning.snn.early_exit import simulate_until_sure
from ftbc_lightning.snn.stepping import SteppedNetwork
from ftbc_lightning.snn.threshold_folding import fold_thresholds
from tests.graph.forward_passes import (
    CONVERTIBLE,
    Asking,
    Base,
    Masks,
    Prepared,
    Rectifiers,
    inputs,
    limit_is_reached,
)
from tests.networks import samples


@pytest.mark.parametrize("kind", CONVERTIBLE)
def test_the_graph_is_the_network_and_many_steps_approach_it(kind):
    images = inputs(kind)
    net = kind().double().eval() if kind is not Prepared else kind().eval()
    graph = trace(net, images[:1])
    torch.testing.assert_close(graph(images), net(images), rtol=1e-5, atol=1e-6)
    limit_is_reached(net, images)
    assert inspect(net, images[:1]).convertible


@pytest.mark.parametrize("kind", CONVERTIBLE)
def test_steps_one_by_one_and_cut_batches_give_what_all_at_once_gives(kind, monkeypatch):
    images = inputs(kind)
    net = kind().double().eval() if kind is not Prepared else kind().eval()
    snn = convert(net, images[:1], [images], timesteps=5)
    calibrate(net, snn, [images])
    expected = simulate(snn, images)
    torch.testing.assert_close(SteppedNetwork(snn)(images), expected, rtol=1e-5, atol=1e-6)
    monkeypatch.setattr("ftbc_lightning.snn.simulation.chunk_sizes", lambda *a: (5, 2))
    torch.testing.assert_close(simulate(snn, images), expected, rtol=1e-5, atol=1e-6)
    exits, _ = simulate_until_sure(snn, images, confidence=0.4)
    assert exits.shape == expected.shape
    rebuilt = reconvert(net, conversion_map(snn))
    rebuilt.load_state_dict(snn.state_dict())
    torch.testing.assert_close(simulate(rebuilt, images), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", CONVERTIBLE)
def test_thresholds_fold_and_everything_is_counted_and_written_or_named(kind, tmp_path):
    images = inputs(kind)
    net = kind().double().eval() if kind is not Prepared else kind().eval()
    snn = convert(net, images[:1], [images], timesteps=3)
    folded, _ = fold_thresholds(snn)
    expected = simulate(snn, images)
    torch.testing.assert_close(simulate(folded, images), expected, rtol=1e-5, atol=1e-6)
    assert count_operations(snn, images).samples == len(images)
    assert set(diagnose(net, snn, [images]).layers) == set(snn.shapes)
    try:
        twin = load(export(snn, tmp_path / "a.safetensors"))
    except UserError as error:
        assert "has no place for" in str(error)  # noqa: PT017
        program = export(snn, tmp_path / "a.pt2", format="torch_export")
        found = torch.export.load(program).module()(images)
    else:
        found = simulate(twin, images)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_a_rectifier_that_is_spelled_out_becomes_a_neuron():
    assert inspect(Rectifiers()).neurons == 5
    assert inspect(Masks(), samples(1).float()).neurons == 7


def test_a_network_that_asks_for_shapes_needs_an_example():
    with pytest.raises(UserError, match="give an example input"):
        trace(Asking())


class Compiled(nn.Module):
    """What `torch.compile` makes, without its compiler."""

    def __init__(self, network):
        super().__init__()
        self._orig_mod = network

    def forward(self, *args, **kwargs):
        return self._orig_mod(*args, **kwargs)


@pytest.mark.parametrize("wrap", [nn.DataParallel, Compiled, torch.compile])
def test_wrappers_are_taken_off_around_a_network_and_in_it(wrap, monkeypatch):
    net, images = Base().double().eval(), samples(6)
    part = Base().double().eval()
    # as on a machine without an accelerator, to which DataParallel would move the network
    module = sys.modules["torch.nn.parallel.data_parallel"]
    monkeypatch.setattr(module, "_get_available_device_type", lambda: None)
    part.second, net_in_it = wrap(part.second), wrap(net)
    for wrapped in (net_in_it, part):
        snn = convert(wrapped, images[:1], [images], timesteps=3)
        assert torch.equal(
            simulate(snn, images), simulate(convert(net, images[:1], [images], timesteps=3), images)
        )
    assert type(part.second) is type(wrap(nn.ReLU()))


def test_a_script_is_refused_with_what_to_give_instead():
    with pytest.raises(UserError, match="Give the Python module"):
        trace(torch.jit.script(nn.Sequential(nn.Linear(2, 2), nn.ReLU())))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_network_in_half_precision_is_converted_in_float32_and_left_as_it_is(dtype):
    net, images = Base().to(dtype).eval(), samples(12).float()
    with pytest.warns(UserWarning, match="float32"):
        snn = convert(net, images[:1].to(dtype), [images.to(dtype)], timesteps=64)
    calibrate(net, snn, [images.to(dtype)])
    assert next(net.parameters()).dtype == dtype
    whole = convert(Base(), images[:1], [images], timesteps=64)
    difference = simulate(snn, images)[-1] - simulate(whole, images)[-1]
    assert float(difference.abs().max()) < 0.1


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.norm = nn.Embedding(20, 8), nn.LayerNorm(8)
        self.layers = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))

    def forward(self, tokens):
        return self.layers(self.norm(self.embedding(tokens)).mean(1))


def test_token_numbers_stay_whole_numbers_from_conversion_to_a_file():
    torch.manual_seed(1)
    net, tokens = Words().eval(), torch.randint(0, 20, (16, 5))
    limit_is_reached(net, tokens)
    snn = convert(net, tokens[:1], [(tokens, tokens[:, 0])], timesteps=4)
    calibrate(net, snn, [tokens])
    found = conversion_map(snn)
    assert found["input_dtype"] == "int64"
    twin = reconvert(net, found)
    twin.load_state_dict(snn.state_dict())
    assert torch.equal(simulate(twin, tokens), simulate(snn, tokens))
    becomes = {row.node: row.becomes for row in inspect(net, tokens).rows}
    assert becomes["embedding"] == "kept: computed once, before the first layer"


class AddedTo(Base):
    """What was kept of a value before it was added to is changed with it."""

    def forward(self, x):
        y = F.relu(self.first(x))
        kept = [y]
        y += 1
        y *= 0.5
        size = x.shape[0]
        size *= 1
        return self.linear((self.second(y) + kept[0]).relu().mean((2, 3)).view(size, 4))


def test_a_value_that_is_added_to_in_place_changes_for_all_who_read_it():
    net, images = AddedTo().double().eval(), samples(8)
    with torch.no_grad():
        expected = net(images.clone())
        graph = trace(net, images[:1])
        torch.testing.assert_close(graph(images), expected, rtol=0, atol=1e-12)
    assert [n.name for n in graph.graph.nodes if n.target is operator.add] == ["add", "add_1"]
