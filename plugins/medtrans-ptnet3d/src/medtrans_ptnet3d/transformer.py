"""The transformer blocks that run on PTNet3D's coarse tokens."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Attention", "TransformerBlock"]


class Attention(nn.Module):
    """Softmax attention over all tokens; query, key and value come out of one linear map.

    Args:
        dim: channels of a token.
        heads: that share the channels.
        qkv_bias: whether that map has a bias.
    """

    def __init__(self, dim: int, heads: int, *, qkv_bias: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.project = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        parts = self.qkv(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(*parts.unbind(0))
        projected: Tensor = self.project(mixed.transpose(1, 2).flatten(2))
        return projected


class TransformerBlock(nn.Module):
    """Attention, then a small network, each on normalised tokens and added to what came in.

    Args:
        dim: channels of a token.
        heads: of the attention; `dim` divides by it.
        mlp_ratio: channels inside the small network, over `dim`.
        qkv_bias: of the attention.
    """

    def __init__(self, dim: int, heads: int, *, mlp_ratio: float = 2.0, qkv_bias: bool = False) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = Attention(dim, heads, qkv_bias=qkv_bias)
        self.mlp_norm = nn.LayerNorm(dim)
        inner = max(1, int(mlp_ratio * dim))
        self.mlp = nn.Sequential(nn.Linear(dim, inner), nn.GELU(), nn.Linear(inner, dim))

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attention(self.attention_norm(tokens))
        added: Tensor = self.mlp(self.mlp_norm(tokens))
        return tokens + added
