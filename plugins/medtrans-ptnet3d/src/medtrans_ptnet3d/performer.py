"""The Performer layer: attention over all tokens at a cost that grows with their number, not its square."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

__all__ = ["EPSILON", "Performer"]

EPSILON = 1e-8
"""Added to the sum of a token's attention before the division by it."""


class Performer(nn.Module):
    """A token layer with positive random features in place of a softmax (Choromanski et al. 2021), with one head.

    Computed in the precision of its weights, also under autocast: the features are exponentials, which 16 bits cannot
    hold. As in T2T-ViT (Yuan et al. 2021), which PTNet3D takes it from, the path around the attention begins at the
    values, since the channels of input and output differ, and queries and keys are not scaled.

    Args:
        in_channels: channels of a token that comes in.
        out_channels: channels of a token that goes out; the random features are half as many.

    Shapes:
        tokens `(b, n, in_channels)` to `(b, n, out_channels)`.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        features = out_channels // 2
        self.norm_in = nn.LayerNorm(in_channels)
        self.kqv = nn.Linear(in_channels, 3 * out_channels)
        self.directions = nn.Parameter(torch.empty(features, out_channels), requires_grad=False)
        self.project = nn.Linear(out_channels, out_channels)
        self.norm_out = nn.LayerNorm(out_channels)
        self.mlp = nn.Sequential(
            nn.Linear(out_channels, out_channels), nn.GELU(), nn.Linear(out_channels, out_channels)
        )
        nn.init.orthogonal_(self.directions, gain=features**0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        with _own_precision(tokens.device.type):
            normalised = self.norm_in(tokens.to(self.kqv.weight.dtype))
            key, query, value = self.kqv(normalised).chunk(3, dim=-1)
            mixed: Tensor = value + self.project(self.attend(query, key, value))
            added: Tensor = self.mlp(self.norm_out(mixed))
            return mixed + added

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """A weighted mean of the values for each query, `(b, n, out_channels)`."""
        seen, shown = self.features(query), self.features(key)
        gathered = torch.einsum("bnm,bne->bme", shown, value)
        total = torch.einsum("bnm,bm->bn", seen, shown.sum(dim=1))
        return torch.einsum("bnm,bme->bne", seen, gathered) / (total[..., None] + EPSILON)

    def features(self, tokens: Tensor) -> Tensor:
        """Positive random features whose products are, on average, exponentials of the tokens' products."""
        exponent = tokens @ self.directions.T - tokens.square().sum(dim=-1, keepdim=True) / 2
        features: Tensor = exponent.exp() / len(self.directions) ** 0.5
        return features


def _own_precision(device: str) -> AbstractContextManager[object]:
    """No autocast on this kind of device; some, such as the one of shapes alone, have none."""
    if not torch.amp.is_autocast_available(device):
        return nullcontext()
    return torch.autocast(device, enabled=False)
