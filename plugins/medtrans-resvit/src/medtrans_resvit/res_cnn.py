"""The generator `res_cnn`: ResViT without its transformers, which the original trains first."""

from __future__ import annotations

from typing import Any

from medtrans_resvit.networks import ResCNNNetwork
from medtrans_resvit.slicewise import Count, SliceGenerator

__all__ = ["ResCNN"]


class ResCNN(SliceGenerator):
    """The convolutional network that ResViT is trained from (Dalmaz, Yurt and Çukur, IEEE TMI 41(10), 2022).

    All its tensors stand in `resvit` under the same names: `train.initialise_from` takes them over.

    Sides of slices divide by 4.

    Args:
        in_channels: source channels.
        out_channels: target channels.
        patch_size: sides of a training patch in voxels.
        ngf: channels at full resolution; the bottleneck has four times as many.
        blocks: residual blocks in the bottleneck.
        **slicing: as of the base class.
    """

    step = 4

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        patch_size: tuple[int, int, int] = (256, 256, 1),
        *,
        ngf: Count = 64,
        blocks: Count = 9,
        **slicing: Any,
    ) -> None:
        super().__init__(in_channels, out_channels, patch_size, **slicing)
        self.adopt(ResCNNNetwork(self.channels_in, out_channels, ngf=ngf, blocks=blocks))
