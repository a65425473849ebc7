"""The 3D-mDAUNet generator: a dense attention U-Net that reads and writes an image at several resolutions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm as with_spectral_norm

from medtrans.builtin.blocks import (
    CBAM,
    LEAK,
    RRDB,
    ChannelAttention,
    Conv3,
    Count,
    ResidualDenseBlock,
    SpatialAttention,
    check_sides,
    depth_to_space,
    space_to_depth,
)
from medtrans.types import Pyramid, pyramid

__all__ = ["MDAUNet", "MDAUNetPreset"]


@dataclass(frozen=True)
class MDAUNetPreset:
    """The sizes of one published or measured form of the network; `MDAUNet` documents each."""

    width: int
    growth: tuple[int, ...]
    n_rdb: int
    rdb_layers: int
    decoder_convs: int
    rdb_skip: bool = True
    stem: Literal[1, 2] = 1


class MDAUNet(nn.Module):
    """3D-mDAUNet (Ha et al., "Multi-resolution Guided 3D GANs for Medical Image Translation", arXiv 2412.00575).

    Level l works at 1/2^l of the resolution. Each level has its own entry convolution for the reduced source; the
    encoder joins it with the finer level's features and passes both through residual dense blocks; the decoder joins
    the coarser level's features with the encoder's, weighs them by CBAM and convolves; each level writes its own
    image. Level l carries `width * 2^l` channels. There is no normalisation layer and, by default, no output
    activation.

    Presets: `paper` is the released configuration (6.18 M parameters at one channel in and out), `figure` the paper's
    drawing taken literally (one dense block without identity path, one decoder convolution, 2.53 M), `figure-wide`
    (7.34 M) and `paper-wide` (15.09 M) the same at twice the width, `tiny` (0.36 M) is for tests. `fast` (0.65 M) is
    ours, not the paper's: three levels behind a space-to-depth stem, several times quicker a step than `tiny` on a CPU.

    Where the paper's figure is silent, the released configuration decides: spectral norm on entry and decoder
    convolutions, the identity path of dense blocks, the growth at each level. Unlike in the released code,
    outputs are not clipped before the losses: a clip has no gradient outside its range.

    Args:
        in_channels: source channels.
        out_channels: target channels.
        preset: the sizes used wherever an option below is null.
        width: channels of level 0, and of every level's entry convolution.
        growth: channels a dense-block convolution adds, a number for each level.
        n_rdb: residual dense blocks at each level; with more than one, one residual path goes around them all; 0 none.
        rdb_layers: convolutions of a dense block, the fusing one counted.
        decoder_convs: convolutions of a decoder level.
        rdb_skip: whether a dense block adds its input to its result.
        stem: 2 folds 2^3 voxels into channels before the network and unfolds them behind it, so that no convolution
            runs at full resolution; 1 does not.
        levels: resolutions; null means one for each number of `growth`. Fewer or more than the preset has cut its
            `growth` short or repeat its last number.
        cbam_reduction: hidden layer of the channel attention as a divisor, a number for each level but the coarsest;
            null means 2, 4, 8, ...
        attention: which part of CBAM the decoder has.
        spectral_norm: on the entry and decoder convolutions.
        residual_scale: factor of every residual.
        resample: how features and source change resolution; images of the levels below are compared with
            nearest-neighbour reductions in either case.
        output_activation: of every level; `sigmoid` keeps outputs in (0, 1).
        multires_input: whether the coarser levels see the reduced source.
        multires_output: whether all levels write an image; otherwise the output is level 0 alone, a tensor.

    Attributes:
        multiple: the sides of a source must divide by it, `2^(levels - 1) * stem`.
        levels: how many levels `forward` gives.
        channels_last_on_cpu: what `train.channels_last: auto` asks for.
        sizes: the preset with the given options applied.

    Shapes:
        source `(b, in_channels, i, j, k)`; level l of the output `(b, out_channels, i / 2^l, j / 2^l, k / 2^l)`.

    Raises:
        ValueError: an unknown preset; `growth` or `cbam_reduction` of a length that does not fit `levels`.
    """

    channels_last_on_cpu: ClassVar[bool] = True
    PRESETS: ClassVar[Mapping[str, MDAUNetPreset]] = MappingProxyType(
        {
            "paper": MDAUNetPreset(16, (8, 16, 32, 32), n_rdb=3, rdb_layers=5, decoder_convs=3),
            "figure": MDAUNetPreset(16, (8, 16, 32, 32), n_rdb=1, rdb_layers=5, decoder_convs=1, rdb_skip=False),
            "figure-wide": MDAUNetPreset(32, (16, 32, 32, 32), n_rdb=1, rdb_layers=5, decoder_convs=1, rdb_skip=False),
            "paper-wide": MDAUNetPreset(32, (8, 16, 32, 32), n_rdb=3, rdb_layers=5, decoder_convs=3),
            "tiny": MDAUNetPreset(8, (4, 4, 8, 8), n_rdb=1, rdb_layers=3, decoder_convs=1),
            "fast": MDAUNetPreset(16, (16, 16, 32), n_rdb=1, rdb_layers=3, decoder_convs=1, stem=2),
        }
    )

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        preset: Literal["paper", "figure", "figure-wide", "paper-wide", "tiny", "fast"] = "paper",
        width: Count | None = None,
        growth: tuple[Count, ...] | None = None,
        n_rdb: Annotated[int, Field(ge=0)] | None = None,
        rdb_layers: Count | None = None,
        decoder_convs: Count | None = None,
        rdb_skip: bool | None = None,
        stem: Literal[1, 2] | None = None,
        levels: Count | None = None,
        cbam_reduction: tuple[Count, ...] | None = None,
        attention: Literal["cbam", "channel", "spatial", "none"] = "cbam",
        spectral_norm: bool = True,
        residual_scale: Annotated[float, Field(gt=0)] = 0.2,
        resample: Literal["nearest", "trilinear"] = "nearest",
        output_activation: Literal["none", "sigmoid"] = "none",
        multires_input: bool = True,
        multires_output: bool = True,
    ) -> None:
        super().__init__()
        if preset not in self.PRESETS:
            raise ValueError(
                f"{type(self).__name__}: preset {preset!r} is unknown; there are {', '.join(self.PRESETS)}"
            )
        chosen: dict[str, Any] = {
            "width": width, "growth": growth, "n_rdb": n_rdb, "rdb_layers": rdb_layers, "decoder_convs": decoder_convs,
            "rdb_skip": rdb_skip, "stem": stem,
        }  # fmt: skip
        sizes = replace(self.PRESETS[preset], **{name: value for name, value in chosen.items() if value is not None})
        if levels is not None and growth is None:
            sizes = replace(sizes, growth=(sizes.growth + sizes.growth[-1:] * levels)[:levels])
        depth = len(sizes.growth) if levels is None else levels
        # Coarser levels carry twice the channels: a divisor twice as large keeps the hidden layer at one width.
        reduction = tuple(2 ** (level + 1) for level in range(depth - 1)) if cbam_reduction is None else cbam_reduction
        if depth != len(sizes.growth) or depth == 0:
            raise ValueError(
                f"{type(self).__name__}: growth {sizes.growth} must have a number for each of {depth} levels"
            )
        if len(reduction) != depth - 1:
            raise ValueError(
                f"{type(self).__name__}: cbam_reduction {reduction} must have {depth - 1} numbers, one for each of "
                f"{depth} levels but the coarsest"
            )

        self.sizes, self.reduction, self.attention = sizes, reduction, attention
        self.spectral_norm, self.residual_scale = spectral_norm, residual_scale
        self.resample, self.output_activation = resample, output_activation
        self.multires_input, self.multires_output = multires_input, multires_output
        self.depth, self.levels = depth, depth if multires_output else 1
        self.multiple = 2 ** (depth - 1) * sizes.stem

        # The order of these lines decides which weights a seed gives; the names are those in checkpoints.
        folded = sizes.stem**3
        self.entries = nn.ModuleList(
            self.make_entry(level, in_channels * folded) for level in range(depth if multires_input else 1)
        )
        self.encoders = nn.ModuleList(self.make_encoder(level) for level in range(depth))
        self.decoders = nn.ModuleList(self.make_decoder(level) for level in range(depth - 1))
        self.heads = nn.ModuleList(self.make_head(level, out_channels * folded) for level in range(self.levels))

    def channels(self, level: int) -> int:
        """Channels that leave encoder and decoder of a level."""
        return self.sizes.width << level

    def make_conv(self, in_channels: int, out_channels: int, *, normed: bool) -> nn.Module:
        """A 3^3 convolution with leaky ReLU; `normed` asks for spectral norm where the network has it."""
        conv: nn.Module = Conv3(in_channels, out_channels)
        if normed and self.spectral_norm:
            conv = with_spectral_norm(conv)
        return nn.Sequential(conv, nn.LeakyReLU(LEAK, inplace=True))

    def make_entry(self, level: int, in_channels: int) -> nn.Module:
        """What turns the source of a level into features of `width` channels."""
        return self.make_conv(in_channels, self.sizes.width, normed=True)

    def make_encoder(self, level: int) -> nn.Module:
        """What turns the entry's and the finer level's features into `channels(level)` channels."""
        # Dense blocks see the joined features before they are widened: their cost grows with the square of channels.
        finer = self.channels(level - 1) if level else 0
        width = finer + (self.sizes.width if self.multires_input or level == 0 else 0)
        widen = self.make_conv(width, self.channels(level), normed=False)
        if self.sizes.n_rdb == 0:
            return widen
        dense = RRDB(
            width,
            self.sizes.growth[level],
            blocks=self.sizes.n_rdb,
            layers=self.sizes.rdb_layers,
            scale=self.residual_scale,
            skip=self.sizes.rdb_skip,
        )
        return nn.Sequential(dense, widen)

    def make_attention(self, level: int, channels: int) -> nn.Module:
        """What weighs the joined features of a decoder level."""
        match self.attention:
            case "cbam":
                return CBAM(channels, self.reduction[level])
            case "channel":
                return ChannelAttention(channels, self.reduction[level])
            case "spatial":
                return SpatialAttention()
        return nn.Identity()

    def make_decoder(self, level: int) -> nn.Module:
        """What turns the coarser level's and the encoder's features into `channels(level)` channels."""
        joined, out = self.channels(level) + self.channels(level + 1), self.channels(level)
        convs = (self.make_conv(out if n else joined, out, normed=True) for n in range(self.sizes.decoder_convs))
        return nn.Sequential(self.make_attention(level, joined), *convs)

    def make_head(self, level: int, out_channels: int) -> nn.Module:
        """What turns a level's features into its image."""
        return Conv3(self.channels(level), out_channels)

    def downsample(self, features: Tensor) -> Tensor:
        """Half the resolution."""
        # `pyramid` keeps every second voxel, as in the targets that the losses compare coarser levels with.
        return pyramid(features, 2)[1] if self.resample == "nearest" else functional.avg_pool3d(features, 2)

    def upsample(self, features: Tensor) -> Tensor:
        """Twice the resolution."""
        return functional.interpolate(features, scale_factor=2.0, mode=self.resample)

    def forward(self, source: Tensor) -> Tensor | Pyramid:
        """Translate `source`; finest level first, or level 0 alone without `multires_output`.

        Raises:
            ValueError: a side does not divide by `multiple`.
        """
        check_sides(self, source.shape[2:], self.multiple)
        features = self.decode(self.encode(self.enter(source)))
        images = tuple(self.write(head, feature) for head, feature in zip(self.heads, features, strict=False))
        return images if self.multires_output else images[0]

    def memory_blocks(self) -> Iterator[nn.Module]:
        """What `train.memory: low` computes again: dense blocks and decoders."""
        yield from (module for module in self.encoders.modules() if isinstance(module, ResidualDenseBlock))
        yield from self.decoders

    def enter(self, source: Tensor) -> list[Tensor]:
        """Features of the source at each level that sees it."""
        features = []
        for level, entry in enumerate(self.entries):
            source = self.downsample(source) if level else source
            # Folding the reduced source, rather than reducing the folded one, gives each folded channel the very
            # voxel that the same channel of the output is unfolded to.
            features.append(entry(space_to_depth(source, self.sizes.stem)))
        return features

    def encode(self, entered: list[Tensor]) -> list[Tensor]:
        """Encoder features, finest first."""
        features: list[Tensor] = []
        for level, encoder in enumerate(self.encoders):
            joined = entered[level : level + 1] + ([self.downsample(features[-1])] if level else [])
            features.append(encoder(torch.cat(joined, dim=1)))
        return features

    def decode(self, encoded: list[Tensor]) -> list[Tensor]:
        """Decoder features, finest first; the coarsest are the encoder's own."""
        features = [encoded[-1]]
        for decoder, skip in zip(reversed(self.decoders), reversed(encoded[:-1]), strict=True):
            # Upsampling has no weights: the decoder's first convolution takes coarse and skipped channels together.
            features.insert(0, decoder(torch.cat((self.upsample(features[0]), skip), dim=1)))
        return features

    def write(self, head: nn.Module, features: Tensor) -> Tensor:
        """The image of one level."""
        image = depth_to_space(head(features), self.sizes.stem)
        return torch.sigmoid(image) if self.output_activation == "sigmoid" else image
