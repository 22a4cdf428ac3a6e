"""Weights of convolutions in the blocks that oneDNN computes with, packed once for many passes.

`torch.conv2d` packs them anew at each call, which for the last layers of a VGG-16 takes up to ten
times as long as the products with few samples. `torch.compile` packs them in the same way.
"""

import torch
from torch import Tensor, fx, nn

from ftbc_lightning.snn.memory_layout import has_onednn


class PackedConv2d(nn.Conv2d):
    """A convolution with packed weights, for inputs channels last the bits of torch's own.

    It does not see what becomes of the weights of the layer that it was made from.

    Args:
        layer: See `can_be_packed`.
    """

    def __init__(self, layer: nn.Conv2d) -> None:
        nn.Module.__init__(self)
        self.stride, self.padding, self.dilation = layer.stride, layer.padding, layer.dilation
        self.groups, self.kernel_size, self.padding_mode = layer.groups, layer.kernel_size, "zeros"
        self.in_channels, self.out_channels = layer.in_channels, layer.out_channels
        self.transposed, self.output_padding = False, (0, 0)
        packed = torch._C._nn.mkldnn_reorder_conv2d_weight(
            layer.weight.detach().to_mkldnn(),
            *(list(layer.padding), list(layer.stride), list(layer.dilation), layer.groups),
        )
        self.register_buffer("weight", packed)
        bias = None if layer.bias is None else layer.bias.detach().clone()
        self.register_buffer("bias", bias)

    def forward(self, input: Tensor) -> Tensor:
        """What `nn.Conv2d` gives for `[B, C, H, W]` in float32."""
        own = self.weight, self.bias, self.padding, self.stride, self.dilation, self.groups
        found: Tensor = torch.ops.mkldnn._convolution_pointwise(input, *own, "none", [], "")
        return found


def can_be_packed(module: nn.Module) -> bool:
    """Say whether oneDNN can compute a layer: a 2-D convolution in float32 on a CPU.

    Not one with hooks, or padded with anything but a number of zeros; under autocast none.
    """
    if type(module) is not nn.Conv2d or isinstance(module.padding, str):
        return False
    weight = module.weight
    plain = type(weight) in (Tensor, nn.Parameter) and weight.layout is torch.strided
    if not plain or weight.device.type != "cpu" or weight.dtype != torch.float32:
        return False
    if module.padding_mode != "zeros" or module._forward_hooks or module._forward_pre_hooks:
        return False
    used = has_onednn() and bool(torch.backends.mkldnn.enabled)
    offered = hasattr(torch._C._nn, "mkldnn_reorder_conv2d_weight")
    return used and offered and not torch.is_autocast_enabled("cpu")


@torch.no_grad()
def pack_weights(network: fx.GraphModule) -> None:
    """Put packed layers in the place of those that can be packed and are only called."""
    nodes = (node for node in network.graph.nodes if node.op == "get_attr")
    read = {str(node.target).rpartition(".")[0] for node in nodes}
    for name, module in list(network.named_modules()):
        if name not in read and can_be_packed(module):
            assert isinstance(module, nn.Conv2d)
            parent, _, own = name.rpartition(".")
            setattr(network.get_submodule(parent), own, PackedConv2d(module))
