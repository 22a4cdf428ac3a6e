"""Networks with several inputs, as one with a single input that holds them all."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ftbc_lightning import UserError, calibrate, convert, export, load, simulate
from ftbc_lightning.analysis.inspection import inspect
from ftbc_lightning.ann import JoinedInputs
from ftbc_lightning.cli import main
from ftbc_lightning.data import ClassificationDataModule


class Mixed(nn.Module):
    """A picture, tokens and a number for each sample."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.words = nn.Conv2d(2, 6, 3, padding=1), nn.Embedding(11, 5)
        self.hidden, self.last = nn.Linear(6 + 5 + 1, 16), nn.Linear(16, 3)

    def forward(self, tokens, image, *, age, scale=None):
        seen = F.relu(self.conv(image)).mean((2, 3))
        read = self.words(tokens).mean(1)
        x = torch.cat([seen, read, age.unsqueeze(1)], dim=1)
        return self.last(F.relu(self.hidden(x)))


SHAPES = {"image": [2, 6, 6], "age": [], "tokens": [4]}


def inputs(count=32, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return {
        "image": torch.randn(count, 2, 6, 6, generator=generator),
        "age": torch.rand(count, generator=generator),
        "tokens": torch.randint(11, (count, 4), generator=generator),
    }


def joined():
    net = JoinedInputs(Mixed(), SHAPES, whole=["tokens"]).eval()
    return net, net.join(**inputs())


@torch.no_grad()
def test_it_is_the_network_itself_and_many_steps_approach_it(tmp_path):
    net, samples = joined()
    expected = net.network(**inputs())
    torch.testing.assert_close(net(samples), expected, rtol=0, atol=0)
    errors = []
    for timesteps in (64, 512):
        snn = convert(net, samples[:1], [samples], timesteps=timesteps, threshold_rule="max")
        errors.append(float((simulate(snn, samples)[-1] - expected).abs().mean()))
    assert len(snn.shapes) == 2
    assert errors[1] < 0.3 * errors[0]
    snn = convert(net, samples[:1], [samples], timesteps=8)
    calibrate(net, snn, [samples], method="weights+exact")
    assert float((simulate(snn, samples)[-1] - expected).abs().mean()) < 0.5 * expected.std()
    program = torch.export.load(export(snn, tmp_path / "a.pt2", format="torch_export")).module()
    torch.testing.assert_close(program(samples), simulate(snn, samples), rtol=1e-4, atol=1e-5)
    assert inspect(net, samples[:1]).network == "Mixed"


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.last = nn.Linear(3, 8), nn.Linear(2, 8), nn.Linear(16, 2)

    def forward(self, a, b):
        return self.last(torch.cat([F.relu(self.left(a)), F.relu(self.right(b))], dim=1))


class Halves(ClassificationDataModule):
    """Two vectors a sample; the class is which of them is larger."""

    def __init__(self, *, batch_size: int = 50, calibration_samples: int = 64, **settings) -> None:
        super().__init__(batch_size=batch_size, calibration_samples=calibration_samples, **settings)
        self.num_classes, self.input_shape = 2, (5,)

    def samples(self, split):
        count = {"train": 400, "test": 100}[split]
        return torch.rand(count, 5, generator=torch.Generator().manual_seed(count))

    def labels(self, split):
        found = self.samples(split)
        return (found[:, :3].mean(1) > found[:, 3:].mean(1)).long().tolist()

    def dataset(self, split, *, augmented):
        return torch.utils.data.TensorDataset(self.samples(split), torch.tensor(self.labels(split)))


def test_the_command_line_trains_and_calibrates_it(tmp_path, capsys):
    words = ["fit", "--data", "tests.graph.test_joined_inputs.Halves", "--timesteps", "4"]
    words += ["--model.network", "ftbc_lightning.ann.JoinedInputs"]
    words += ["--model.network.network", "tests.graph.test_joined_inputs.Two"]
    words += ["--model.network.inputs", "{a: [3], b: [2]}", "--trainer.max_epochs", "2"]
    words += ["--calibration.methods", "[exact]", "--trainer.default_root_dir", str(tmp_path)]
    assert main(words) == 0
    assert main(["predict", "--ckpt_path", str(tmp_path / "snn.ckpt")]) == 0
    assert (tmp_path / "predictions.csv").is_file()


def test_a_mask_of_true_and_false_is_joined_as_ones_and_zeros():
    net = JoinedInputs(Two(), {"a": [3], "b": [2]})
    mask = torch.tensor([[True, False]])
    assert net.join(a=torch.zeros(1, 3), b=mask).tolist() == [[0, 0, 0, 1, 0]]


def test_a_file_for_any_reader_takes_the_joined_input(tmp_path):
    net = JoinedInputs(Two(), {"a": [3], "b": [2]})
    samples = torch.rand(16, 5)
    snn = convert(net, samples[:1], [samples], timesteps=4)
    twin = load(export(snn, tmp_path / "two.safetensors"))
    torch.testing.assert_close(simulate(twin, samples), simulate(snn, samples), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: JoinedInputs(Two(), {}), "inputs is empty"),
        (lambda: JoinedInputs(Two(), {"a": [0]}), r"The shape of a is \[0\]"),
        (lambda: JoinedInputs(Two(), {"a": [3]}, whole=["c"]), "whole names c, but .* are a"),
        (lambda: joined()[0].join(image=torch.rand(1)), "inputs are image, age, tokens, and image"),
        (
            lambda: joined()[0].join(**{**inputs(), "age": torch.rand(32, 2)}),
            r"age has the shape \[2\] where \[\] is meant",
        ),
        (
            lambda: joined()[0].join(**{**inputs(), "tokens": torch.full((32, 4), 2**24 + 1)}),
            "tokens has numbers above 16777216",
        ),
        (
            lambda: joined()[0].join(**{**inputs(), "age": torch.rand(31)}),
            "different numbers of samples: 32 of image, 31 of age, 32 of tokens",
        ),
    ],
)
def test_what_does_not_fit_is_named(make, message):
    with pytest.raises(UserError, match=message):
        make()
