"""The random start of Ea-GAN's networks, which is that of pix2pix."""

from __future__ import annotations

from torch import nn

__all__ = ["initialise"]

_SD = 0.02


def initialise(network: nn.Module) -> None:
    """Draw the weights of convolutions from N(0, 0.02) and of norms from N(1, 0.02); biases of norms become 0.

    Biases of convolutions stay as torch made them.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
            nn.init.normal_(module.weight, 0.0, _SD)
        elif isinstance(module, nn.BatchNorm3d):
            nn.init.normal_(module.weight, 1.0, _SD)
            nn.init.zeros_(module.bias)
