"""MONAI's patch discriminators: what they are shown, and their answers in the form that losses read."""

from __future__ import annotations

from typing import Any

import torch
from monai.networks import nets
from torch import Tensor

from medtrans.types import DiscriminatorOutput, Pyramid
from medtrans_monai.signatures import hands_on_to

__all__ = ["MultiScalePatchDiscriminator", "PatchDiscriminator"]

_SET_HERE = ("spatial_dims", "in_channels", "out_channels")


class PatchDiscriminator(nets.PatchDiscriminator):
    """MONAI's PatchDiscriminator, that of pix2pixHD (Wang et al., arXiv 1711.11585).

    Level 0 alone is looked at. `features` are those of each layer but the last.

    Args:
        source_channels: source channels; used when `conditional`.
        target_channels: target channels.
        conditional: show the source beside the candidate.
        activation: kind of activation, or its name and arguments.
    """

    @hands_on_to(nets.PatchDiscriminator, but=_SET_HERE)
    def __init__(self, source_channels: int, target_channels: int, *, conditional: bool = True, **options: Any) -> None:
        shown = target_channels + (source_channels if conditional else 0)
        super().__init__(spatial_dims=3, in_channels=shown, out_channels=1, **options)
        self.conditional = conditional

    def forward(self, candidate: Pyramid, source: Pyramid) -> DiscriminatorOutput:  # type: ignore[override]  # medtrans' contract
        """Judge level 0 of `candidate`."""
        *features, logits = super().forward(_shown(candidate, source, conditional=self.conditional))
        return DiscriminatorOutput((logits,), (tuple(features),))


class MultiScalePatchDiscriminator(nets.MultiScalePatchDiscriminator):
    """MONAI's MultiScalePatchDiscriminator: several PatchDiscriminators of growing depth (arXiv 1711.11585).

    All look at level 0; a deeper one judges larger patches and gives a coarser map.

    Args:
        source_channels: source channels; used when `conditional`.
        target_channels: target channels.
        patch_size: sides of the training patch; none of the discriminators may reduce one to less than a voxel.
        conditional: show the source beside the candidate.

    Raises:
        ValueError: the patch is too small for that many discriminators of that depth.
    """

    @hands_on_to(nets.MultiScalePatchDiscriminator, but=(*_SET_HERE, "minimum_size_im"))
    def __init__(
        self,
        source_channels: int,
        target_channels: int,
        patch_size: tuple[int, int, int],
        *,
        conditional: bool = True,
        **options: Any,
    ) -> None:
        shown = target_channels + (source_channels if conditional else 0)
        try:
            super().__init__(
                spatial_dims=3, in_channels=shown, out_channels=1, minimum_size_im=min(patch_size), **options
            )
        except AssertionError as error:
            raise ValueError(str(error)) from error
        self.conditional = conditional

    def forward(self, candidate: Pyramid, source: Pyramid) -> DiscriminatorOutput:  # type: ignore[override]  # medtrans' contract
        """Judge level 0 of `candidate`; the finest map first."""
        logits, features = super().forward(_shown(candidate, source, conditional=self.conditional))
        return DiscriminatorOutput(tuple(logits), tuple(tuple(scale) for scale in features))


def _shown(candidate: Pyramid, source: Pyramid, *, conditional: bool) -> Tensor:
    return torch.cat((source[0], candidate[0]), dim=1) if conditional else candidate[0]
