"""Networks whose published weights are measured in RESULTS.md, with the names of their files."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ftbc_lightning.ann.activations import QCFS

STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class TorchOptimVGG16(nn.Module):
    """VGG-16 with batch norm and max pooling for 32 pixels (torch-optim 0.0.4, MIT).

    A dropout follows every activation but the one before a pooling; it counts in the names.
    """

    def __init__(self, *, num_classes: int = 10) -> None:
        super().__init__()
        self.features = nn.Sequential()
        inputs = 3
        for stage in STAGES:
            for index, outputs in enumerate(stage):
                self.features.append(nn.Conv2d(inputs, outputs, 3, padding=1))
                self.features.append(nn.BatchNorm2d(outputs))
                self.features.append(nn.ReLU())
                last = index == len(stage) - 1
                self.features.append(nn.MaxPool2d(2) if last else nn.Dropout(0.4))
                inputs = outputs
        self.classifier = nn.Sequential(
            nn.Dropout(), nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Dropout()
        )
        self.classifier.append(nn.Linear(512, num_classes))

    def forward(self, images: Tensor) -> Tensor:
        """`[B, 3, 32, 32]` to logits `[B, classes]`."""
        return self.classifier(torch.flatten(self.features(images), 1))  # type: ignore[no-any-return]


class QCFSBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut of a 1x1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int, *, levels: int) -> None:
        super().__init__()
        self.residual_function = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            QCFS(levels=levels),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut.append(nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False))
            self.shortcut.append(nn.BatchNorm2d(outputs))
        self.act = QCFS(levels=levels)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C, H, W]` to `[B, outputs, H / stride, W / stride]`."""
        return self.act(self.residual_function(x) + self.shortcut(x))  # type: ignore[no-any-return]


class QCFSResNet20(nn.Module):
    """ResNet-20 of the QCFS program, whose weights are published with BrainSeek-Lab/ann2snn_reg."""

    def __init__(self, *, num_classes: int = 10, levels: int = 8) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), QCFS(levels=levels)
        )
        inputs = 16
        stages = []
        for outputs, stride in ((16, 1), (32, 2), (64, 2)):
            blocks = nn.Sequential()
            for index in range(3):
                step = stride if index == 0 else 1
                blocks.append(QCFSBlock(inputs, outputs, step, levels=levels))
                inputs = outputs
            stages.append(blocks)
        self.conv2_x, self.conv3_x, self.conv4_x = stages
        self.fc = nn.Linear(64, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """`[B, 3, 32, 32]` to logits `[B, classes]`."""
        x = self.conv4_x(self.conv3_x(self.conv2_x(self.conv1(images))))
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))  # type: ignore[no-any-return]

    def load_published(self, state: dict[str, Tensor]) -> None:
        """Load a state dict of the file, which calls the trained threshold `thresh`, `[1]`."""
        renamed = {
            name.replace(".thresh", ".threshold"): value.reshape(()) if "thresh" in name else value
            for name, value in state.items()
        }
        self.load_state_dict(renamed)
