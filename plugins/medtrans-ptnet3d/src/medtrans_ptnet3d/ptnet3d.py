"""The generator `ptnet3d`: a pyramid of Performer layers around a transformer, without any convolution."""

from __future__ import annotations

from math import prod
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from medtrans_ptnet3d.performer import Performer
from medtrans_ptnet3d.tokens import NEIGHBOURHOOD, PositionTable, Sides, from_tokens, to_tokens, unfold
from medtrans_ptnet3d.transformer import TransformerBlock

__all__ = ["PTNet3D", "TransformerStage"]

Count = Annotated[int, Field(ge=1)]


class TransformerStage(nn.Module):
    """Tokens widened, given their places, passed through transformer blocks, and narrowed.

    Args:
        in_channels: channels of a token that comes in.
        dim: channels inside.
        out_channels: channels of a token that goes out.
        tokens: how many there usually are.
        depth: blocks.
        heads: of each block's attention.
        mlp_ratio: of each block.
        qkv_bias: of each block's attention.

    Raises:
        ValueError: `dim` does not divide by `heads`.
    """

    def __init__(
        self,
        in_channels: int,
        dim: int,
        out_channels: int,
        *,
        tokens: int,
        depth: int,
        heads: int,
        mlp_ratio: float = 2.0,
        qkv_bias: bool = False,
    ) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"PTNet3D: {dim} channels do not divide by {heads} heads; choose another of the two")
        self.widen = nn.Linear(in_channels, dim)
        self.position = PositionTable(tokens, dim)
        self.blocks = nn.Sequential(
            *(TransformerBlock(dim, heads, mlp_ratio=mlp_ratio, qkv_bias=qkv_bias) for _ in range(depth))
        )
        self.narrow = nn.Linear(dim, out_channels)

    def forward(self, tokens: Tensor) -> Tensor:
        narrowed: Tensor = self.narrow(self.blocks(self.position(self.widen(tokens))))
        return narrowed


class PTNet3D(nn.Module):
    """PTNet3D (Zhang et al., IEEE TMI 41(10), 2022, doi 10.1109/TMI.2022.3174827).

    Tokens are voxels: their 3^3 neighbourhoods are unfolded, and Performer layers take them down to an eighth of the
    resolution and up again by trilinear doubling beside the encoder's features. At an eighth runs a transformer over
    all tokens; a second one, the global branch, over all tokens of the source reduced to a quarter joins the encoder
    there. Unlike the original, any sides that divide by 8 will do, several sources become channels, and intensities
    are in [0, 1] outside, in [-1, 1] inside.

    Args:
        in_channels: source channels.
        out_channels: target channels.
        patch_size: sides of a training patch in voxels; position tables for it are kept with the weights.
        width: channels at full resolution; all others are multiples of it, as published at 16.
        depth: blocks of the transformer at an eighth of the resolution.
        heads: of its attention.
        embed_dim: channels of its tokens; 16 times `width` where none is given.
        mlp_ratio: channels inside its small networks, over `embed_dim`.
        qkv_bias: whether query, key and value of its attention have a bias.
        global_depth: blocks of the global branch.
        global_heads: of its attention.
        legacy_unused_layer: keep the Performer layer that the original makes behind the last unfolding and never
            calls. It gets no gradient, and changes nothing but the number of parameters.

    Attributes:
        multiple: the sides of a source must divide by it.

    Shapes:
        `(b, in_channels, i, j, k)` to `(b, out_channels, i, j, k)`.

    Raises:
        ValueError: channels that do not divide by heads.
    """

    multiple = 8

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        patch_size: tuple[int, int, int] = (64, 64, 64),
        *,
        width: Annotated[int, Field(ge=2)] = 16,
        depth: Count = 9,
        heads: Count = 4,
        embed_dim: Annotated[int, Field(ge=1)] | None = None,
        mlp_ratio: Annotated[float, Field(gt=0)] = 2.0,
        qkv_bias: bool = False,
        global_depth: Count = 9,
        global_heads: Count = 2,
        legacy_unused_layer: bool = True,
    ) -> None:
        super().__init__()
        fine, middle, coarse, seen = width, 2 * width, 4 * width, 2 * width
        bottom = coarse + seen
        eighths = [-(-side // self.multiple) for side in patch_size]
        tokens = prod(eighths)
        self.global_branch = TransformerStage(
            NEIGHBOURHOOD * in_channels, 4 * width, seen, tokens=8 * tokens, depth=global_depth, heads=global_heads
        )
        self.down = nn.ModuleList(
            Performer(NEIGHBOURHOOD * before, after)
            for before, after in ((in_channels, fine), (fine, middle), (middle, coarse))
        )
        self.unused = Performer(NEIGHBOURHOOD * bottom, 2 * bottom) if legacy_unused_layer else None
        self.bottleneck = TransformerStage(
            NEIGHBOURHOOD * bottom,
            embed_dim or 16 * width,
            bottom,
            tokens=tokens,
            depth=depth,
            heads=heads,
            mlp_ratio=mlp_ratio,
            qkv_bias=qkv_bias,
        )
        self.up = nn.ModuleList(
            Performer(before, after)
            for before, after in (
                (2 * bottom, middle),
                (2 * middle, fine),
                (2 * fine, fine),
                (fine + in_channels, fine),
            )
        )
        self.head = nn.Linear(fine, out_channels)

    def forward(self, source: Tensor) -> Tensor:
        """Translate `source`.

        Raises:
            ValueError: a side does not divide by `multiple`.
        """
        sides = _sides(source)
        if any(side % self.multiple for side in sides):
            raise ValueError(
                f"PTNet3D: each side of the source must divide by {self.multiple}, found {sides}; pad the source or "
                "choose another patch size"
            )
        source = source * 2 - 1
        skips = self.encode(source)
        features = self.bottom(skips[-1])
        for performer, skip in zip(self.up, (*reversed(skips), source), strict=True):
            features = _resized(features, _sides(skip))
            joined = torch.cat((features, skip.to(features.dtype)), dim=1)
            features = from_tokens(performer(to_tokens(joined)), _sides(skip))
        image = torch.tanh(from_tokens(self.head(to_tokens(features)), sides))
        return (image + 1) / 2

    def encode(self, source: Tensor) -> list[Tensor]:
        """Features at the full resolution, a half and a quarter, the last beside those of the global branch."""
        features, sides, found = source, _sides(source), []
        for level, performer in enumerate(self.down):
            sides = _divided(_sides(source), 2**level)
            features = from_tokens(performer(unfold(features, stride=2 if level else 1)), sides)
            found.append(features)
        found[-1] = torch.cat((features, self.look_around(source).to(features.dtype)), dim=1)
        return found

    def look_around(self, source: Tensor) -> Tensor:
        """The global branch: features at a quarter of the resolution that have seen the whole source."""
        quarter = _divided(_sides(source), 4)
        return from_tokens(self.global_branch(unfold(_resized(source, quarter), stride=1)), quarter)

    def bottom(self, features: Tensor) -> Tensor:
        """The transformer at an eighth of the resolution."""
        return from_tokens(self.bottleneck(unfold(features, stride=2)), _divided(_sides(features), 2))


def _sides(volume: Tensor) -> Sides:
    i, j, k = volume.shape[2:]
    return i, j, k


def _divided(sides: Sides, by: int) -> Sides:
    i, j, k = (side // by for side in sides)
    return i, j, k


def _resized(volume: Tensor, sides: Sides) -> Tensor:
    """Trilinear, corners on corners."""
    if _sides(volume) == sides:
        return volume
    return functional.interpolate(volume, size=sides, mode="trilinear", align_corners=True)
