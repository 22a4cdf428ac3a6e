"""Weights that people have load, and the networks reach the accuracy they were published with."""

import importlib.util

import pytest
import torch
import torchvision

from ftbc_lightning.ann import ResNet20, ResNet56
from ftbc_lightning.ann.weights import load_weights
from ftbc_lightning.data.transforms import NORMALIZATION, evaluation
from ftbc_lightning.files.checkpoint import read_file
from ftbc_lightning.graph.tracing import trace
from tests.conftest import ROOT
from tests.real_data import HERE, WEIGHTS, cifar10, imagenet

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not HERE, reason="no real weights here")]
RAW = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
COUNT = 500
"""One standard error of an accuracy of 92 % is then 1.2 points."""


def published():
    """The classes in benchmarks/networks.py."""
    place = ROOT / "benchmarks" / "networks.py"
    spec = importlib.util.spec_from_file_location("published_networks", place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def qcfs(name):
    net = published().QCFSResNet20()
    net.load_published(read_file(WEIGHTS / "cifar10" / name))
    return net


def filled(net, name):
    load_weights(net, WEIGHTS / name)
    return net


CASES = {
    "resnet20": (
        lambda: filled(ResNet20(), "cifar10/akamaster_resnet20.pt"),
        NORMALIZATION["imagenet"],
        91.7,
    ),
    "resnet56": (
        lambda: filled(ResNet56(), "cifar10/akamaster_resnet56.pt"),
        NORMALIZATION["imagenet"],
        93.4,
    ),
    "qcfs 0.1": (lambda: qcfs("qcfs_L8_resnet20_0.1.pt"), NORMALIZATION["cifar10"], 93.0),
    "qcfs 0.2": (lambda: qcfs("qcfs_L8_resnet20_0.2.pt"), NORMALIZATION["cifar10"], 92.9),
    "vgg16": (
        lambda: filled(published().TorchOptimVGG16(), "cifar10/torchoptim_vgg16bn_w16.pt"),
        RAW,
        92.3,
    ),
    "mobilenet_v2": (
        lambda: filled(torchvision.models.mobilenet_v2(), "imagenet/mobilenet_v2.pt"),
        NORMALIZATION["imagenet"],
        84.1,
    ),
}


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_published_weights_reach_their_accuracy_in_the_graph_that_is_converted(name):
    build, normalization, expected = CASES[name]
    images, labels = imagenet(COUNT) if name == "mobilenet_v2" else cifar10("test")
    graph = trace(build())
    prepared = evaluation(*normalization)(images[:COUNT])
    hits = torch.cat([graph(part).argmax(1) for part in prepared.split(50)]) == labels[:COUNT]
    assert abs(100 * float(hits.double().mean()) - expected) < 5.0
