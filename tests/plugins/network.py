"""Owns the network that the sound plugin imports only when it is asked for."""

from torch import nn


class Small(nn.Module):
    """One convolution.

    Args:
        in_channels: of the source.
        out_channels: of the target.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.body = nn.Conv3d(in_channels, out_channels, 3, padding=1)

    def forward(self, source):
        return self.body(source)
