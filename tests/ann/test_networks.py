from pathlib import Path

import pytest
import torch
import torchvision
from torch import fx

from ftbc_lightning import UserError, calibrate, convert
from ftbc_lightning.ann import (
    QCFS,
    VGG11,
    VGG16,
    ResNet18,
    ResNet20,
    ResNet34,
    ResNet56,
    SmallCNN,
    UNet,
)
from ftbc_lightning.ann.resnet import PadShortcut
from ftbc_lightning.ann.weights import load_weights
from ftbc_lightning.graph.tracing import ActivationTracer, trace
from ftbc_lightning.snn.convertible import activation_nodes, check_convertible

NETWORKS = [
    (SmallCNN, {}, 8, 6),
    (SmallCNN, {"in_channels": 1}, 28, 6),
    (VGG11, {}, 32, 10),
    (VGG16, {}, 32, 15),
    (VGG16, {"input_size": 224}, 224, 15),
    (ResNet20, {}, 32, 19),
    (ResNet20, {"shortcut": "conv"}, 32, 19),
    (ResNet56, {}, 32, 55),
    (ResNet18, {"input_size": 32}, 32, 17),
    (ResNet18, {}, 224, 17),
    (ResNet34, {}, 224, 33),
]


@pytest.mark.parametrize("activation", ["relu", "clipped_relu", "qcfs"])
def test_a_network_of_pixels_keeps_their_number_and_converts(activation):
    with torch.device("meta"):
        net = UNet(num_classes=7, width=4, activation=activation).eval()
        assert net(torch.empty(2, 3, 12, 20)).shape == (2, 7, 12, 20)
        graph = fx.GraphModule(net, ActivationTracer().trace(net))
        check_convertible(graph, name="net")
        assert len(activation_nodes(graph)) == 7


@pytest.mark.parametrize(("kind", "settings", "size", "neurons"), NETWORKS)
@pytest.mark.parametrize("activation", ["relu", "clipped_relu", "qcfs"])
def test_networks_have_the_right_output_and_convert(kind, settings, size, neurons, activation):
    with torch.device("meta"):
        net = kind(num_classes=7, activation=activation, **settings).eval()
        channels = settings.get("in_channels", 3)
        assert net(torch.empty(2, channels, size, size)).shape == (2, 7)
        graph = fx.GraphModule(net, ActivationTracer().trace(net))
        check_convertible(graph, name="net")
        nodes = activation_nodes(graph)
    assert len(nodes) == neurons
    targets = [str(node.target) for node in graph.graph.nodes if node.name in nodes]
    assert len(set(targets)) == neurons  # a trained threshold belongs to one place


def test_the_pad_shortcut_takes_every_second_pixel_and_pads_half_on_each_side():
    x = torch.randn(1, 2, 4, 4)
    y = PadShortcut(4)(x)
    assert y.shape == (1, 6, 2, 2)
    assert torch.equal(y[:, 2:4], x[:, :, ::2, ::2])
    assert y[:, :2].abs().sum() == y[:, 4:].abs().sum() == 0


@pytest.mark.parametrize(("ours", "theirs"), [(ResNet18, "resnet18"), (ResNet34, "resnet34")])
def test_torchvision_weights_load(ours, theirs):
    with torch.device("meta"):
        expected = getattr(torchvision.models, theirs)().state_dict()
        found = ours().state_dict()
    assert {k: v.shape for k, v in found.items()} == {k: v.shape for k, v in expected.items()}


def test_a_qcfs_network_converts_with_its_learned_thresholds():
    torch.manual_seed(0)
    net, images = SmallCNN(in_channels=1, activation="qcfs"), torch.rand(32, 1, 8, 8)
    for index, module in enumerate(m for m in net.modules() if isinstance(m, QCFS)):
        module.threshold.data.fill_(1.0 + index)
    net.train()
    for _ in range(10):
        net(images)
    snn = convert(net, images[:1], [images], timesteps=4, threshold_rule="learned")
    found = [neuron.threshold[0].item() for neuron in snn.neurons().values()]
    assert found == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    calibrate(net, snn, [images], method="exact")


def test_batch_norm_is_folded_without_changing_the_network():
    torch.manual_seed(0)
    net, images = SmallCNN().double(), torch.rand(16, 3, 8, 8, dtype=torch.float64)
    net.train()
    for _ in range(5):
        net(images)
    net.eval()
    graph = trace(net)
    assert not any("BatchNorm" in type(module).__name__ for module in graph.modules())
    torch.testing.assert_close(graph(images), net(images), rtol=0, atol=1e-10)


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "module.model."])
@pytest.mark.parametrize("wrapped", [True, False])
def test_weights_load_with_and_without_prefix_and_wrapper(tmp_path, prefix, wrapped):
    torch.manual_seed(0)
    source, target = SmallCNN(), SmallCNN()
    state = {prefix + key: value for key, value in source.state_dict().items()}
    torch.save({"state_dict": state} if wrapped else state, tmp_path / "w.pt")
    load_weights(target, tmp_path / "w.pt")
    assert all(torch.equal(v, target.state_dict()[k]) for k, v in source.state_dict().items())


@pytest.mark.parametrize("keys", ["model_state_dict", "net", "ema", "model.state_dict", "mine"])
def test_weights_are_found_under_the_keys_of_training_scripts(tmp_path, keys):
    source, target = SmallCNN(), SmallCNN()
    content = {f"module.{key}": value for key, value in source.state_dict().items()}
    for key in reversed(keys.split(".")):
        content = {"epoch": 3, "best": torch.tensor(0.9), key: content}
    content["optimizer_state_dict"] = {"state": {0: {"step": torch.tensor(1.0)}}}
    torch.save(content, tmp_path / "w.pt")
    load_weights(target, tmp_path / "w.pt")
    assert all(torch.equal(v, target.state_dict()[k]) for k, v in source.state_dict().items())


def test_the_weights_that_were_trained_go_before_their_average(tmp_path):
    trained, average, target = SmallCNN(), SmallCNN(), SmallCNN()
    torch.save({"ema": average.state_dict(), "model": trained.state_dict()}, tmp_path / "w.pt")
    load_weights(target, tmp_path / "w.pt")
    assert torch.equal(target.conv1.weight, trained.conv1.weight)


def test_a_file_without_fitting_weights_is_refused_with_what_it_holds(tmp_path):
    torch.save({"epoch": 3, "history": {"a": torch.zeros(2)}}, tmp_path / "w.pt")
    with pytest.raises(UserError, match="The file has the keys epoch, history;"):
        load_weights(SmallCNN(), tmp_path / "w.pt")


def test_weights_that_do_not_fit_are_listed(tmp_path):
    state = SmallCNN().state_dict()
    state["extra.weight"] = state.pop("conv2.weight")
    state["linear.bias"] = torch.zeros(3)
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(UserError) as caught:
        load_weights(SmallCNN(), tmp_path / "w.pt")
    for text in ("missing: conv2.weight", "unexpected: extra.weight", "linear.bias [3] instead"):
        assert text in str(caught.value)


WEIGHTS = Path(__file__).parents[2].parent / "shared" / "data" / "weights" / "cifar10"


@pytest.mark.slow
@pytest.mark.skipif(not WEIGHTS.is_dir(), reason="no real weights here")
@pytest.mark.parametrize(("kind", "name"), [(ResNet20, "resnet20"), (ResNet56, "resnet56")])
def test_published_cifar_weights_load(kind, name):
    load_weights(kind(), WEIGHTS / f"akamaster_{name}.pt")
