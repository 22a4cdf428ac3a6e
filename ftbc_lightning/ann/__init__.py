"""What is pretrained: networks and activations that convert. Pure torch."""

from ftbc_lightning.ann.activations import QCFS, ClippedReLU, make_activation
from ftbc_lightning.ann.joined_inputs import JoinedInputs
from ftbc_lightning.ann.log_mel import LogMel
from ftbc_lightning.ann.mlp import MLP
from ftbc_lightning.ann.one_output import OneOutput
from ftbc_lightning.ann.resnet import ResNet18, ResNet20, ResNet34, ResNet56
from ftbc_lightning.ann.small_cnn import SmallCNN
from ftbc_lightning.ann.sound_cnn import SoundCNN
from ftbc_lightning.ann.timm_network import timm_network
from ftbc_lightning.ann.unet import UNet
from ftbc_lightning.ann.vgg import VGG11, VGG16
from ftbc_lightning.ann.vit import ViT

__all__ = [
    "MLP",
    "QCFS",
    "VGG11",
    "VGG16",
    "ClippedReLU",
    "JoinedInputs",
    "LogMel",
    "OneOutput",
    "ResNet18",
    "ResNet20",
    "ResNet34",
    "ResNet56",
    "SmallCNN",
    "SoundCNN",
    "UNet",
    "ViT",
    "make_activation",
    "timm_network",
]
