"""The U-Net as PyTorch users write it."""

from collections.abc import Sequence
from typing import Any


def torch_unet(num_inputs: int, num_outputs: int, features: Sequence[int]) -> Any:
    """A U-Net with two convolutions a level, instance normalisation and leaky rectifiers.

    Args:
        num_inputs: Channels of the images.
        num_outputs: Channels of the result.
        features: Channels of the levels.

    Returns:
        A ``torch.nn.Module``.
    """
    import torch
    from torch import nn

    def block(c_in, c_out):
        layers = []
        for c in (c_in, c_out):
            layers += [nn.Conv2d(c, c_out, 3, padding=1, bias=False), nn.InstanceNorm2d(c_out, affine=True)]
            layers += [nn.LeakyReLU(0.01)]
        return nn.Sequential(*layers)

    class UNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.down = nn.ModuleList(block(a, b) for a, b in zip((num_inputs, *features), features, strict=False))
            self.up = nn.ModuleList(nn.ConvTranspose2d(2 * f, f, 2, 2) for f in features[:-1])
            self.merge = nn.ModuleList(block(2 * f, f) for f in features[:-1])
            self.head = nn.Conv2d(features[0], num_outputs, 1)

        def forward(self, x):
            skips = []
            for i, level in enumerate(self.down):
                x = level(x if i == 0 else nn.functional.max_pool2d(x, 2))
                skips.append(x)
            for i in reversed(range(len(self.up))):
                x = self.merge[i](torch.cat([self.up[i](x), skips[i]], 1))
            return self.head(x)

    return UNet()
