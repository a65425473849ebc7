"""The two networks on slices: encoder, ART blocks and decoder, without transformers or with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor, nn

from medtrans_resvit.art import ARTBlock, TransformerARTBlock
from medtrans_resvit.blocks import down, entry, exit_, up
from medtrans_resvit.slices import Sides
from medtrans_resvit.transformer import Encoder

__all__ = ["ResCNNNetwork", "ResViTNetwork", "SliceNetwork"]


class SliceNetwork(nn.Module):
    """Encoder, blocks that keep the shape, decoder; no paths skip the bottleneck.

    Shapes:
        slices `(n, in_channels, h, w)` in [-1, 1] to `(n, out_channels, h, w)` in (-1, 1).
    """

    def __init__(self, in_channels: int, out_channels: int, ngf: int) -> None:
        super().__init__()
        self.encode = nn.Sequential(entry(in_channels, ngf), down(ngf, 2 * ngf), down(2 * ngf, 4 * ngf))
        self.art = nn.ModuleList()
        self.decode = nn.Sequential(up(4 * ngf, 2 * ngf), up(2 * ngf, ngf), exit_(ngf, out_channels))

    def add(self, blocks: Iterable[nn.Module]) -> None:
        """Append blocks to the bottleneck."""
        self.art.extend(blocks)

    def forward(self, slices: Tensor) -> Tensor:
        features = self.encode(slices)
        for block in self.art:
            features = block(features)
        image: Tensor = self.decode(features)
        return image


class ResCNNNetwork(SliceNetwork):
    """Plain ART blocks alone: fully convolutional, any sides that divide by 4.

    Args:
        in_channels: source channels of a slice.
        out_channels: target channels of a slice.
        ngf: channels at full resolution; the bottleneck has four times as many.
        blocks: ART blocks.
    """

    def __init__(self, in_channels: int, out_channels: int, *, ngf: int, blocks: int) -> None:
        super().__init__(in_channels, out_channels, ngf)
        self.add(ARTBlock(4 * ngf) for _ in range(blocks))


class ResViTNetwork(SliceNetwork):
    """ART blocks of which some hold a transformer, all of them the same one; any sides that divide by 16.

    Every tensor of `ResCNNNetwork` of the same `ngf` and `blocks` is here under the same name.

    Args:
        in_channels: source channels of a slice.
        out_channels: target channels of a slice.
        grid: tokens along either side that the position tables are made for.
        ngf: channels at full resolution; the bottleneck has four times as many.
        blocks: ART blocks.
        transformers: which of them hold the transformer, counted from 1.
        dim: channels of a token.
        depth: layers of the transformer.
        heads: of its attention.
        hidden: channels inside its layers' small networks.
        embed_channels: channels that the embedding reads.
        dropout: of embedded tokens and inside the transformer.

    Raises:
        ValueError: `transformers` names no block, one twice, or one that is not there.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        grid: Sides,
        ngf: int,
        blocks: int,
        transformers: Sequence[int],
        dim: int,
        depth: int,
        heads: int,
        hidden: int,
        embed_channels: int,
        dropout: float,
    ) -> None:
        super().__init__(in_channels, out_channels, ngf)
        if not transformers or len(set(transformers)) != len(transformers) or max(transformers) > blocks:
            raise ValueError(
                f"ResViT: transformers {tuple(transformers)} must be different numbers from 1 to {blocks}, the number "
                "of blocks"
            )
        self.encoder = Encoder(dim, depth, heads, hidden, dropout)
        self.add(
            TransformerARTBlock(4 * ngf, self.encoder, grid, dim=dim, embed_channels=embed_channels, dropout=dropout)
            if place in transformers
            else ARTBlock(4 * ngf)
            for place in range(1, blocks + 1)
        )

    def transformer_blocks(self) -> list[TransformerARTBlock]:
        """The blocks that hold the transformer."""
        return [block for block in self.art if isinstance(block, TransformerARTBlock)]
