"""The generator `resvit`: residual convolutions and a transformer shared by two blocks, on slices."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from medtrans_resvit.networks import ResViTNetwork
from medtrans_resvit.slicewise import Count, SliceGenerator
from medtrans_resvit.vit_weights import load_vit_weights

__all__ = ["ResViT"]


class ResViT(SliceGenerator):
    """ResViT: residual vision transformers for medical image synthesis (Dalmaz, Yurt and Çukur, IEEE TMI 41(10), 2022).

    With the defaults and slices of 256 x 256 it is the published network with 123,441,537 parameters. The number of
    tokens, one for 16 x 16 pixels, follows from `img_size` or the patch, which may be rectangular; at other sides the
    position tables are interpolated.

    Args:
        in_channels: source channels.
        out_channels: target channels.
        patch_size: sides of a training patch in voxels.
        initialise: whether the first weights count, false where a checkpoint replaces them at once.
        ngf: channels at full resolution; the bottleneck has four times as many.
        blocks: ART blocks.
        transformers: which of them hold the transformer, counted from 1.
        dim: channels of a token.
        depth: layers of the transformer.
        heads: of its attention; `dim` divides by it.
        mlp_dim: channels inside its layers' small networks; null means four times `dim`.
        embed_channels: channels that the embedding reads; the original has 1024 whatever `ngf` is.
        dropout: of embedded tokens and inside the transformer.
        vit_weights: path of an `.npz` of ViT weights to begin with, such as the R50+ViT-B_16 pretrained on
            ImageNet-21k; null begins at random. Read when training begins only.
        **slicing: as of the base class.

    Raises:
        ConfigError, SetupError: the weights are not there or of another network.
        ValueError: options that do not fit each other.
    """

    step = 16
    network: ResViTNetwork

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        patch_size: tuple[int, int, int] = (256, 256, 1),
        initialise: bool = True,
        *,
        ngf: Count = 64,
        blocks: Count = 9,
        transformers: tuple[Count, ...] = (1, 6),
        dim: Count = 768,
        depth: Count = 12,
        heads: Count = 12,
        mlp_dim: Count | None = None,
        embed_channels: Count = 1024,
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1,
        vit_weights: Path | None = None,
        **slicing: Any,
    ) -> None:
        super().__init__(in_channels, out_channels, patch_size, **slicing)
        height, width = self.plane_of_patch(patch_size)
        network = ResViTNetwork(
            self.channels_in,
            out_channels,
            grid=(height // self.step, width // self.step),
            ngf=ngf,
            blocks=blocks,
            transformers=transformers,
            dim=dim,
            depth=depth,
            heads=heads,
            hidden=4 * dim if mlp_dim is None else mlp_dim,
            embed_channels=embed_channels,
            dropout=dropout,
        )
        if vit_weights is not None and initialise:
            load_vit_weights(network, vit_weights)
        self.adopt(network)
