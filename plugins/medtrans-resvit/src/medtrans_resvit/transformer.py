"""The transformer encoder of ViT (Dosovitskiy et al. 2021) that ResViT's blocks share."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

__all__ = ["EPSILON", "MLP", "Attention", "Encoder", "Layer"]

EPSILON = 1e-6
"""Of every layer normalisation."""


class Attention(nn.Module):
    """Softmax attention over all tokens, with four linear maps of their own for query, key, value and output.

    Args:
        dim: channels of a token.
        heads: that share the channels.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        query, key, value = (self._by_head(part(tokens)) for part in (self.query, self.key, self.value))
        mixed = functional.scaled_dot_product_attention(query, key, value)
        found: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return found

    def _by_head(self, tokens: Tensor) -> Tensor:
        return tokens.reshape(*tokens.shape[:2], self.heads, -1).transpose(1, 2)


class MLP(nn.Module):
    """Two linear maps with an exact GELU between and dropout after each.

    Args:
        dim: in and out.
        hidden: between.
        dropout: share of values dropped in training.
    """

    def __init__(self, dim: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.widen = nn.Linear(dim, hidden)
        self.narrow = nn.Linear(hidden, dim)
        self.dropout = nn.Dropout(dropout)
        for linear in (self.widen, self.narrow):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.normal_(linear.bias, std=1e-6)

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = self.dropout(functional.gelu(self.widen(tokens)))
        narrowed: Tensor = self.dropout(self.narrow(hidden))
        return narrowed


class Layer(nn.Module):
    """Attention, then a small network, each on normalised tokens and added to what came in."""

    def __init__(self, dim: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(dim, eps=EPSILON)
        self.attention = Attention(dim, heads)
        self.mlp_norm = nn.LayerNorm(dim, eps=EPSILON)
        self.mlp = MLP(dim, hidden, dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attention(self.attention_norm(tokens))
        added: Tensor = self.mlp(self.mlp_norm(tokens))
        return tokens + added


class Encoder(nn.Module):
    """Layers in a row with a last normalisation.

    Args:
        dim: channels of a token.
        depth: layers.
        heads: of each layer's attention.
        hidden: channels inside each layer's small network.
        dropout: of the small networks.

    Shapes:
        tokens `(n, tokens, dim)` to the same.

    Raises:
        ValueError: `dim` does not divide by `heads`.
    """

    def __init__(self, dim: int, depth: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"ResViT: dim {dim} does not divide by {heads} heads; choose another of the two")
        self.layers = nn.ModuleList(Layer(dim, heads, hidden, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, eps=EPSILON)

    def all_layers(self) -> list[Layer]:
        """The layers, first to last."""
        return [layer for layer in self.layers if isinstance(layer, Layer)]

    def forward(self, tokens: Tensor) -> Tensor:
        for layer in self.layers:
            tokens = layer(tokens)
        normalised: Tensor = self.norm(tokens)
        return normalised
