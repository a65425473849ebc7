"""MONAI's networks as generators: what the sides of a source must divide by, and one tensor as the output.

Each class is MONAI's own with MONAI's own options. All work in 3D and write intensities without a bound, which medtrans
clips to [0, 1] when it translates.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from typing import Any

from monai.networks import nets
from torch import Tensor

from medtrans_monai.signatures import hands_on_to

__all__ = ["AttentionUnet", "AutoencoderKL", "DynUNet", "SegResNet", "SwinUNETR", "UNet"]


class UNet(nets.UNet):
    """MONAI's U-Net, with residual units where asked for (Kerfoot et al. 2018).

    Attributes:
        multiple: the product of the strides, along each axis. Instance norm needs more than one voxel at the bottom: a
            patch must have a side of twice that.
    """

    @property
    def multiple(self) -> tuple[int, int, int]:
        """What the sides of a source must divide by."""
        return _product(self.strides[: len(self.channels) - 1])


class AttentionUnet(nets.AttentionUnet):
    """MONAI's Attention U-Net (Oktay et al., arXiv 1804.03999).

    Attributes:
        multiple: the product of the strides, along each axis.
    """

    @property
    def multiple(self) -> tuple[int, int, int]:
        """What the sides of a source must divide by."""
        return _product(self.strides[: len(self.channels) - 1])


class DynUNet(nets.DynUNet):
    """MONAI's DynUNet, the network of nnU-Net (Isensee et al., Nature Methods 18, 2021); without deep supervision.

    Attributes:
        multiple: the product of the strides, along each axis. Instance norm needs more than one voxel at the bottom: a
            patch must have a side of twice that.
    """

    @property
    def multiple(self) -> tuple[int, int, int]:
        """What the sides of a source must divide by."""
        return _product(self.strides)


class SegResNet(nets.SegResNet):
    """MONAI's SegResNet (Myronenko, arXiv 1810.11654), without the variational branch.

    Attributes:
        multiple: 2 to the number of times `blocks_down` halves the sides; 8 by default.
    """

    @property
    def multiple(self) -> int:
        """What the sides of a source must divide by."""
        return int(2 ** (len(self.blocks_down) - 1))


class SwinUNETR(nets.SwinUNETR):
    """MONAI's Swin UNETR (Hatamizadeh et al., arXiv 2201.01266); tokens of 2^3 voxels, layer norm in the transformer.

    Attributes:
        multiple: 32. Instance norm needs more than one voxel at the bottom: a patch must have a side of 64.
    """

    # MONAI's `patch_size` is a token's side, medtrans' fact of that name a training patch's; a class is no option.
    @hands_on_to(nets.SwinUNETR, but=("spatial_dims", "patch_size", "norm_layer"))
    def __init__(self, in_channels: int, out_channels: int, **options: Any) -> None:
        super().__init__(in_channels=in_channels, out_channels=out_channels, spatial_dims=3, **options)

    @property
    def multiple(self) -> int:
        """What the sides of a source must divide by."""
        halvings = 5  # by the tokens, and by each of four stages
        return int(self.patch_size**halvings)


class AutoencoderKL(nets.AutoencoderKL):
    """Encoder and decoder of MONAI's AutoencoderKL (Pinaya et al., arXiv 2209.07162), from source to target.

    The decoder gets the mean of the latent distribution, so that a translation has no chance in it; the branch that
    writes the distribution's width is frozen.

    Attributes:
        multiple: 2 to the number of levels but one, those of `channels`.
    """

    def __init__(self, in_channels: int, out_channels: int, **options: Any) -> None:
        super().__init__(in_channels=in_channels, out_channels=out_channels, **options)
        self.quant_conv_log_sigma.requires_grad_(requires_grad=False)

    @property
    def multiple(self) -> int:
        """What the sides of a source must divide by."""
        encoder: Any = self.encoder
        return int(2 ** (len(encoder.channels) - 1))

    def forward(self, source: Tensor) -> Tensor:  # type: ignore[override]  # the image alone, as a generator gives it
        """Translate `source`, through the mean of the latent distribution."""
        return self.reconstruct(source)


def _product(strides: Iterable[int | Sequence[int]]) -> tuple[int, int, int]:
    each = [(stride,) * 3 if isinstance(stride, int) else stride for stride in strides]
    i, j, k = (prod(along) for along in zip(*each, strict=True))
    return i, j, k
