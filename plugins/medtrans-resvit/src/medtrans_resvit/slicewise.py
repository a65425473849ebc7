"""The translation of volumes by a network on slices: the base of this package's generators."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from medtrans_resvit.blocks import SliceNorm
from medtrans_resvit.slices import SLICED_AXIS, Fit, Plane, Sides, fit, neighbours, to_slices, to_volume, undo

__all__ = ["Count", "SliceGenerator"]

Count = Annotated[int, Field(ge=1)]
Triple = tuple[int, int, int]

THINNEST = 16
"""Voxels along any axis of a patch that has slices in all three planes."""

SMALLEST = 8
"""Pixels along a side of a slice; at a quarter of it, a border of one pixel is reflected."""


class SliceGenerator(nn.Module):
    """Translates each slice of a volume by a network of its own; subclasses set `network`.

    Slices run along one axis, which is folded into the batch: a patch of `[256, 256, 1]` is one axial slice, a thicker
    one several, which batch normalisation then sees together. The network works on [-1, 1]; volumes are in [0, 1].

    Args:
        in_channels: source channels.
        out_channels: target channels.
        patch_size: sides of a training patch in voxels.
        plane: of the slices: `axial` along k, `coronal` along j, `sagittal` along i.
        img_size: sides (divisible by `step`) that each slice is brought to and back from; null takes slices as they
            are, padded where they do not divide by it.
        fit: how `img_size` is reached: `pad` with background around the middle, cutting off what stands out, which
            comes back as background; or `resize`.
        context: slices seen together as channels, odd; 1 sees the slice alone, as published.
        tri_planar: an extension: each training forward draws one of the three planes, and a translation is the mean
            over all three. Patches must then be thick along every axis.
        inference_norm: `running` normalises a translation by running means and variances; `batch_stats` by each
            slice's own, as the original does, which never leaves training mode.
        slices_at_once: slices that pass through the network together when a volume is translated.

    Attributes:
        step: what the sides of a slice must divide by.
        multiple: what the sides of a source must divide by.
        window: of inference: whole planes, one slice thick unless neighbours are needed.
        channels_in: of a slice with its neighbours.

    Shapes:
        `(b, in_channels, i, j, k)` to `(b, out_channels, i, j, k)`, any number of slices.

    Raises:
        ValueError: `img_size` does not divide by `step`; an even `context`; `tri_planar` with patches thinner than 16.
    """

    step: ClassVar[int]
    network: nn.Module

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        patch_size: Triple,
        *,
        plane: Plane = "axial",
        img_size: tuple[Count, Count] | None = None,
        fit: Fit = "pad",
        context: Count = 1,
        tri_planar: bool = False,
        inference_norm: Literal["running", "batch_stats"] = "running",
        slices_at_once: Count = 16,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if img_size is not None and any(side % self.step for side in img_size):
            raise ValueError(f"{name}: img_size {tuple(img_size)} must divide by {self.step}")
        if context % 2 == 0:
            raise ValueError(f"{name}: context {context} must be odd, so that a slice has as many on either side")
        if tri_planar and min(patch_size) < THINNEST:
            raise ValueError(
                f"{name}: tri_planar takes slices in all three planes, so patches must have at least {THINNEST} "
                f"voxels along each axis, found {tuple(patch_size)}"
            )
        self.img_size, self.how, self.context = img_size, fit, context
        self.inference_norm, self.slices_at_once = inference_norm, slices_at_once
        self.channels_in, self.channels_out = in_channels * context, out_channels
        self.axes = tuple(SLICED_AXIS.values()) if tri_planar else (SLICED_AXIS[plane],)
        self.multiple = self._along_planes(self.step if img_size is None else 1)
        thin = not tri_planar and context == 1
        self.window = tuple(1 if thin and axis in self.axes else None for axis in (2, 3, 4))

    def forward(self, source: Tensor) -> Tensor:
        """Translate `source`."""
        axes = self.axes
        if self.training and len(axes) > 1:
            axes = (axes[int(torch.randint(len(axes), (1,)))],)
        return torch.stack([self.along(source, axis) for axis in axes]).mean(dim=0)

    def along(self, source: Tensor, axis: int) -> Tensor:
        """The translation by slices along one axis of `(b, c, i, j, k)`."""
        slices = to_slices(neighbours(source * 2 - 1, axis, self.context), axis)
        sides: Sides = (slices.shape[2], slices.shape[3])
        size = self.img_size or self.rounded(sides)
        how: Fit = "pad" if self.img_size is None else self.how
        together = len(slices) if torch.is_grad_enabled() else self.slices_at_once
        translated = [undo(self.network(fit(some, size, how)), sides, how) for some in torch.split(slices, together)]
        return (to_volume(torch.cat(translated), len(source), axis) + 1) / 2

    def adopt(self, network: nn.Module) -> None:
        """Take the network on slices, and tell its normalisations how to work in eval mode."""
        self.network = network
        for module in network.modules():
            if isinstance(module, SliceNorm):
                module.per_slice = self.inference_norm == "batch_stats"

    def plane_of_patch(self, patch_size: Triple) -> Sides:
        """Sides of the slices that training shows the network, rounded up to what they must divide by."""
        first, second = (side for axis, side in zip((2, 3, 4), patch_size, strict=True) if axis != self.axes[0])
        return self.img_size or self.rounded((first, second))

    def rounded(self, sides: Sides) -> Sides:
        """Sides of a slice rounded up to what they must divide by, and to what borders can be reflected in."""
        height, width = (max(SMALLEST, -(-side // self.step) * self.step) for side in sides)
        return height, width

    def _along_planes(self, step: int) -> Triple:
        """`step` along each axis that lies in a plane, 1 along one that slices are counted along only."""
        i, j, k = (step if len(self.axes) > 1 or axis not in self.axes else 1 for axis in (2, 3, 4))
        return i, j, k
