"""The 2.5D perceptual loss: slices of a volume in three views, compared by features of a frozen 2D network."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.autograd.function import once_differentiable

from medtrans.builtin.losses import full_precision
from medtrans.builtin.losses.vgg import IMAGENET_MEAN, IMAGENET_STD, VGG19, Tap, load_weights
from medtrans.types import Loss, LossInputs, batch_mean

__all__ = ["Perceptual25D", "View", "strata"]

View = Literal["axial", "sagittal", "coronal"]

SLICED_AXIS = {"sagittal": 1, "coronal": 2, "axial": 3}
"""Axis of `(n, i, j, k)` in RAS+ that a view's slices are counted along."""


class Perceptual25D(Loss):
    """The 2.5D perceptual loss of Ha et al. (arXiv 2412.00575), on level 0.

    The volumes are cut into slices in each view; the loss is the mean over views and taps of the mean absolute
    difference between the features of predicted and target slices. Each channel is a gray image of its own, replicated
    to three channels and then normalised as ImageNet's images; the released code normalises first, which makes three
    images of one and costs three times as much.

    The gradient of each chunk of slices is taken at once and only that is kept, so that never more than one chunk's
    activations are in memory. The result is the same; second derivatives are not available.

    Args:
        weights: `imagenet`, `random` (not perceptual), or the path of a file with torchvision's VGG-19.
        views: the directions that slices are taken in.
        taps: the activations that are compared.
        slices_per_view: slices drawn anew at each step, one from each of as many equal strata, weighted so that the
            mean is unbiased; null compares all, as the paper does.
        chunk: slices that pass through the network at once; null means all of a view.

    Raises:
        ValueError: no views or one twice; unknown taps; slices too small for the deepest tap.
        SetupError, ConfigError: the weights cannot be had.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        *,
        weights: str = "imagenet",
        views: tuple[View, ...] = ("axial", "sagittal", "coronal"),
        taps: tuple[Tap, ...] = ("relu5_4",),
        slices_per_view: Annotated[int, Field(ge=1)] | None = None,
        chunk: Annotated[int, Field(ge=1)] | None = 16,
    ) -> None:
        super().__init__()
        if not views or len(set(views)) != len(views) or not set(views) <= set(SLICED_AXIS):
            raise ValueError(f"Perceptual25D: views {views} must be different names out of {', '.join(SLICED_AXIS)}")
        self.views, self.slices_per_view, self.chunk = views, slices_per_view, chunk
        self.trunk = VGG19(taps)
        load_weights(self.trunk, weights)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, inputs: LossInputs) -> Tensor:
        prediction, target = inputs.prediction[0].flatten(0, 1), inputs.target[0].detach().flatten(0, 1)
        terms = [self.view_term(prediction, target, view, inputs.step) for view in self.views]
        return torch.stack(terms).mean()

    def averages_cases(self, valid: Tensor | None) -> bool:
        """Each slice is compared with its own target."""
        return True

    def view_term(self, prediction: Tensor, target: Tensor, view: str, step: int) -> Tensor:
        """The mean distance between the slices of `(n, i, j, k)` in one view."""
        axis = SLICED_AXIS[view]
        plane = [side for dim, side in enumerate(prediction.shape[1:], start=1) if dim != axis]
        if min(plane) < self.trunk.smallest_side:
            raise ValueError(
                f"Perceptual25D: {view} slices of {plane[0]} x {plane[1]} voxels are too small for "
                f"{max(self.trunk.taps)}, which needs {self.trunk.smallest_side}; use larger patches or a shallower tap"
            )
        # The same slices of both volumes; a slice stands for as many as its stratum has, hence the weights.
        indices, weights = self.draw_slices(prediction.shape[axis], view, step)
        chosen = [slices_along(volume, axis, indices.to(volume.device)) for volume in (prediction, target)]
        size = self.chunk or len(chosen[0])
        distances = [
            self.slice_distances(p, t) for p, t in zip(*(torch.split(slices, size) for slices in chosen), strict=True)
        ]
        by_volume = torch.cat(distances).view(len(prediction), len(indices))
        return batch_mean(by_volume, weights.to(by_volume.device))

    def draw_slices(self, count: int, view: str, step: int) -> tuple[Tensor, Tensor]:
        """The slices out of `count` that this step compares, and their weights.

        They depend on view and step only: no random state is read, and all ranks draw the same.
        """
        if self.slices_per_view is None or self.slices_per_view >= count:
            return torch.arange(count), torch.ones(count)
        # Drawn anew from step and view, so that a resumed run compares the slices that an uncut one would have.
        rng = np.random.default_rng((step, SLICED_AXIS[view]))
        groups = strata(count, self.slices_per_view)
        drawn = [int(rng.integers(group.start, group.stop)) for group in groups]
        return torch.tensor(drawn), torch.tensor([float(len(group)) for group in groups])

    def slice_distances(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The distance between each predicted slice and its target, `(n,)`, of slices `(n, 1, h, w)`."""
        if torch.is_grad_enabled() and prediction.requires_grad:
            distances: Tensor = _GradientNow.apply(prediction, target, self.compare)  # type: ignore[no-untyped-call]  # torch's
            return distances
        return self.compare(prediction, target)

    def compare(self, prediction: Tensor, target: Tensor) -> Tensor:
        """`slice_distances` as plain arithmetic."""
        # The target needs no graph: half of what VGG would keep for a backward pass is never made.
        with torch.no_grad():
            wanted = self.trunk(self.normalised(target))
        found = self.trunk(self.normalised(prediction))
        by_tap = [
            (full_precision(f) - full_precision(w)).abs().mean(dim=(1, 2, 3))
            for f, w in zip(found, wanted, strict=True)
        ]
        return torch.stack(by_tap).mean(dim=0)

    def normalised(self, slices: Tensor) -> Tensor:
        """Gray slices `(n, 1, h, w)` in [0, 1] as the three-channel images that the network was trained on."""
        return (slices.to(self.mean.dtype).expand(-1, 3, -1, -1) - self.mean) / self.std


def strata(count: int, groups: int) -> list[range]:
    """`count` slices in `groups` neighbouring groups whose sizes differ by one at most."""
    edges = [count * group // groups for group in range(groups + 1)]
    return [range(start, stop) for start, stop in pairwise(edges)]


def slices_along(volumes: Tensor, axis: int, indices: Tensor) -> Tensor:
    """Slices of `(n, i, j, k)` as gray images `(n * len(indices), 1, h, w)`, volume by volume."""
    chosen = volumes if len(indices) == volumes.shape[axis] else volumes.index_select(axis, indices)
    return chosen.movedim(axis, 1).flatten(0, 1).unsqueeze(1)


class _GradientNow(torch.autograd.Function):
    """Distances of slices that each depend on their own slice only, with the gradient taken in the forward pass."""

    @staticmethod
    def forward(ctx: Any, prediction: Tensor, target: Tensor, compare: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        with torch.enable_grad():
            leaf = prediction.detach().requires_grad_()
            distances = compare(leaf, target)
            # Each distance depends on its own slice alone, so the gradient of their sum holds every slice's gradient,
            # and `backward` need only scale each by what comes from above. VGG's activations are freed here, chunk by
            # chunk, instead of waiting for the backward pass of the whole step.
            (gradient,) = torch.autograd.grad(distances.sum(), leaf)
        ctx.save_for_backward(gradient)
        return distances.detach()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return upstream.view(-1, 1, 1, 1).to(gradient.dtype) * gradient, None, None
