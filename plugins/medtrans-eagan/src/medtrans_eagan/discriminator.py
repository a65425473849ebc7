"""Ea-GAN's discriminators: a 3D PatchGAN that sees the source, the image and, for dEa-GAN, the image's edges."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medtrans.types import DiscriminatorOutput, Pyramid
from medtrans_eagan.generator import LEAK, Count, Norm, norm_layer
from medtrans_eagan.initialisation import initialise
from medtrans_eagan.sobel import edges

__all__ = ["EaGANDiscriminator"]

_WIDEST = 8  # channels of the deepest layers, in widths


class EaGANDiscriminator(nn.Module):
    """The discriminator of gEa-GAN or dEa-GAN (Yu et al., IEEE TMI 38(7), 2019, doi 10.1109/TMI.2019.2895894).

    A PatchGAN of `layers` + 2 convolutions of 4^3, the last two with stride 1, the others with 2, on the channels
    `[source, image]` or `[source, image, edges of the image]`, in [-1, 1] inside. At the published size and one channel
    each it has 11,053,761 parameters without edges and 11,057,857 with.

    Args:
        source_channels: source channels.
        target_channels: channels of the image that is judged.
        edge_in_discriminator: show the edges beside the image, as dEa-GAN does.
        layers: convolutions with stride 2.
        width: channels of the first convolution (`ndf`).
        norm: of all layers but the first and the last; `batch` as published.

    Shapes:
        image and source `(b, c, i, j, k)`; one map of logits, `(b, 1, 19, 19, 19)` for sides of 128; `features` are
        those of each layer before it.
    """

    def __init__(
        self,
        source_channels: int,
        target_channels: int,
        *,
        edge_in_discriminator: bool = False,
        layers: Count = 3,
        width: Count = 64,
        norm: Norm = "batch",
    ) -> None:
        super().__init__()
        self.edge_in_discriminator = edge_in_discriminator
        before = source_channels + (2 if edge_in_discriminator else 1) * target_channels
        body: list[nn.Module] = []
        for layer in range(layers + 1):
            channels = width * min(2**layer, _WIDEST)
            normed = [norm_layer(norm, channels)] if layer else []
            stride = 2 if layer < layers else 1
            body.append(nn.Sequential(_convolution(before, channels, stride), *normed, nn.LeakyReLU(LEAK)))
            before = channels
        self.body, self.head = nn.ModuleList(body), _convolution(before, 1, 1)
        initialise(self)

    def forward(self, candidate: Pyramid, source: Pyramid) -> DiscriminatorOutput:
        """Judge level 0 of `candidate` beside level 0 of `source`; other levels are not looked at."""
        features = [self.seen(candidate[0], source[0])]
        for layer in self.body:
            features.append(layer(features[-1]))
        return DiscriminatorOutput((self.head(features[-1]),), (tuple(features[1:]),))

    def seen(self, image: Tensor, source: Tensor) -> Tensor:
        """What the first layer sees, in [-1, 1]: the source, the image and, for dEa-GAN, the image's edges."""
        image = 2 * image - 1
        shown = [2 * source - 1, image] + ([edges(image)] if self.edge_in_discriminator else [])
        return torch.cat(shown, dim=1)


def _convolution(in_channels: int, out_channels: int, stride: int) -> nn.Conv3d:
    return nn.Conv3d(in_channels, out_channels, kernel_size=4, stride=stride, padding=2)
