"""Owns the distance of two volumes slice by slice: gray images of three planes for a 2D network."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from medtrans import DataError

__all__ = ["PLANES", "distance_by_plane"]

PLANES = ("i", "j", "k")
"""The axis that the slices of each plane are counted along."""

_CHUNK = 16


def distance_by_plane(
    distance: Callable[[Tensor, Tensor], Tensor],
    prediction: np.ndarray,
    target: np.ndarray,
    mask: np.ndarray | None,
    smallest_side: int,
) -> dict[str, float]:
    """The mean distance of the slices of each plane.

    Args:
        distance: from two batches of gray images `(n, 3, h, w)` to `(n,)`.
        prediction: `(i, j, k)`, in the intensities the network expects.
        target: likewise.
        mask: both volumes are equal outside it, and slices without a voxel of it are left out.
        smallest_side: of an image that the network can take.

    Raises:
        DataError: a side of the volume is shorter.
    """
    if min(target.shape) < smallest_side:
        raise DataError(
            f"The network needs slices of at least {smallest_side} voxels a side but the volume has {target.shape}: "
            "choose earlier layers, or leave the metric out."
        )
    if mask is not None:
        prediction = np.where(mask, prediction, target)
    found = {}
    for axis, plane in enumerate(PLANES):
        numbers = np.arange(target.shape[axis])
        if mask is not None:
            numbers = np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis})))
        distances = []
        with torch.no_grad():
            for first in range(0, len(numbers), _CHUNK):
                some = numbers[first : first + _CHUNK]
                distances.append(distance(_images(prediction, axis, some), _images(target, axis, some)))
        found[plane] = float(torch.cat(distances).double().mean())
    return found


def _images(volume: np.ndarray, axis: int, numbers: np.ndarray) -> Tensor:
    slices = np.ascontiguousarray(np.moveaxis(volume, axis, 0)[numbers], dtype=np.float32)
    return torch.from_numpy(slices)[:, None].expand(-1, 3, -1, -1)
