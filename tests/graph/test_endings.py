"""A function behind the last layer: taken of the mean over the steps, so exact in the limit."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ftbc_lightning import UserError, calibrate, convert, export, load, simulate
from ftbc_lightning.analysis.diagnosis import diagnose
from ftbc_lightning.analysis.inspection import inspect
from ftbc_lightning.analysis.operation_counts import count_operations
from ftbc_lightning.graph.ending import ClassScores, class_scores, ending
from ftbc_lightning.snn.early_exit import confidence_of, simulate_until_sure
from ftbc_lightning.snn.stepping import SteppedNetwork
from ftbc_lightning.training.module import SpikingClassifier
from tests.graph.forward_passes import Base, limit_is_reached
from tests.networks import samples


class Ending(Base):
    def __init__(self, end):
        super().__init__()
        self.end = end

    def forward(self, x):
        return self.end(super().forward(x))


ENDINGS = {
    "log_softmax": lambda z: F.log_softmax(z, dim=1),
    "softmax": lambda z: F.softmax(z, dim=1),
    "sigmoid": torch.sigmoid,
    "gate": lambda z: z * torch.tanh(z),
    "normalised": lambda z: F.normalize(z).view(z.shape[0], -1) * 2,
    "pieces": lambda z: torch.cat([torch.exp(z[:, :1]), F.gelu(z[:, 1:])], 1),
    "scaled": lambda z: z / z.norm(dim=1, keepdim=True) + z,
}


def network(name):
    return Ending(ENDINGS[name]).double().eval()


@pytest.mark.parametrize("name", ENDINGS)
def test_many_steps_approach_the_ann_behind_a_function(name):
    limit_is_reached(network(name), samples(12))


@pytest.mark.parametrize("name", ENDINGS)
def test_the_function_is_taken_of_the_running_mean(name, monkeypatch):
    net, images = network(name), samples(9)
    plain = Base().double().eval()
    plain.load_state_dict(net.state_dict())
    snns = [convert(n, images[:1], [images], timesteps=6) for n in (net, plain)]
    for one, snn in zip((net, plain), snns, strict=True):
        calibrate(one, snn, [images])
    expected = torch.stack([ENDINGS[name](mean) for mean in simulate(snns[1], images)])
    torch.testing.assert_close(simulate(snns[0], images), expected, rtol=0, atol=1e-12)
    stepped = SteppedNetwork(snns[0])(images)
    torch.testing.assert_close(stepped, expected, rtol=0, atol=1e-12)
    monkeypatch.setattr("ftbc_lightning.snn.simulation.chunk_sizes", lambda *a: (4, 4))
    torch.testing.assert_close(simulate(snns[0], images), expected, rtol=0, atol=1e-12)
    never_sure, _ = simulate_until_sure(snns[0], images, confidence=1.0)
    torch.testing.assert_close(never_sure, expected, rtol=0, atol=1e-12)


def test_what_ends_a_network_is_said_counted_and_diagnosed():
    net, images = network("softmax"), samples(8)
    row = next(row for row in inspect(net).rows if row.node == "softmax")
    assert row.becomes == "kept: computed on the mean over the steps"
    snn = convert(net, images[:1], [images], timesteps=4)
    assert count_operations(snn, images).samples == 8
    assert list(diagnose(net, snn, [images]).layers) == list(snn.shapes)


def test_a_function_that_a_layer_follows_is_refused():
    with pytest.raises(UserError, match=r"2 \(Softmax\)"):
        convert(
            nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Softmax(1), nn.Linear(3, 2)),
            torch.rand(1, 2),
            [torch.rand(4, 2)],
            timesteps=2,
        )


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "sigmoid"])
def test_training_and_confidence_know_the_function(name):
    plain, images = Base().double().eval(), samples(8)
    net = network(name)
    net.load_state_dict(plain.state_dict())
    labels = torch.arange(8) % 3
    wanted = F.cross_entropy(plain(images), labels)
    loss = F.cross_entropy(ClassScores(net)(net(images), images), labels)
    torch.testing.assert_close(loss, wanted, check_dtype=False, rtol=1e-5, atol=1e-5)
    module = SpikingClassifier(net)
    module.log = lambda *a, **k: None
    loss = module.training_step((images, labels), 0)
    torch.testing.assert_close(loss, wanted, check_dtype=False, rtol=1e-5, atol=1e-5)
    sure = module.predict_step(images, 0)["confidence"]
    expected, _ = confidence_of(plain(images)[None])
    torch.testing.assert_close(sure, expected, rtol=1e-4, atol=1e-4)


def test_samples_stop_early_by_the_probability_behind_a_softmax():
    net, images = network("softmax"), samples(8)
    snn = convert(net, images[:1], [images], timesteps=6)
    logits = simulate(snn, images)
    confidence, _ = confidence_of(class_scores(logits, ending(snn.layers)))
    torch.testing.assert_close(confidence, logits.amax(-1).float(), rtol=1e-5, atol=1e-5)
    level = float(confidence.median())
    _, steps = simulate_until_sure(snn, images, confidence=level)
    first = torch.cat([confidence >= level, torch.ones(1, 8, dtype=torch.bool)]).int().argmax(0)
    assert torch.equal(steps, (first + 1).clamp(max=6))


def test_nir_has_no_place_for_the_function_and_safetensors_holds_it(tmp_path):
    images = samples(8)
    snn = convert(network("softmax"), images[:1], [images], timesteps=3)
    with pytest.raises(UserError, match=r"softmax \(softmax\): it belongs to functions"):
        export(snn, tmp_path / "a.nir", format="nir")
    twin = load(export(snn, tmp_path / "a.safetensors"))
    torch.testing.assert_close(simulate(twin, images), simulate(snn, images), rtol=0, atol=1e-10)


def test_programs_hold_the_function(tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    images = samples(5).float()
    snn = convert(network("softmax").float(), images[:1], [images], timesteps=4)
    expected = simulate(snn, images)
    export(snn, tmp_path / "a.pt2", format="torch_export")
    program = torch.export.load(tmp_path / "a.pt2").module()
    torch.testing.assert_close(program(images), expected, rtol=1e-5, atol=1e-5)
    export(snn, tmp_path / "a.onnx", format="onnx")
    session = runtime.InferenceSession(str(tmp_path / "a.onnx"))
    facts = session.get_modelmeta().custom_metadata_map
    assert facts["readout"].startswith("logits after step t: `output`, which is computed")
    sizes = {entry.name: entry.shape for entry in session.get_inputs()}
    state = {
        name: torch.zeros(5, *shape[1:]).numpy()
        for name, shape in sizes.items()
        if name not in ("images", "step")
    }
    for t in range(4):
        given = {"images": images.numpy(), "step": torch.tensor(t).numpy(), **state}
        output, *after = session.run(None, given)
        state = dict(zip(state, after, strict=True))
        torch.testing.assert_close(torch.from_numpy(output), expected[t], rtol=1e-4, atol=1e-4)
