"""The shapes the phantoms are drawn with, and the canvas that turns them into tissue fractions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from medtrans.builtin.datasets.phantom.tissues import Tissue

__all__ = [
    "Canvas",
    "Distance",
    "Point",
    "Points",
    "Waves",
    "as_column",
    "both",
    "column",
    "ellipsoid",
    "smooth_both",
    "smooth_union",
    "tilted",
    "tube",
    "union",
]

Points: TypeAlias = NDArray[np.float32]
"""Positions (3, i, j, k) in mm in the anatomy's own frame: x to the right, y to the front, z up."""
Distance: TypeAlias = NDArray[np.float32]
"""About the distance (i, j, k) in mm to a surface; negative inside."""
Point: TypeAlias = tuple[float, float, float]

_TINY = 1e-6


class Canvas:
    """The share of each tissue in each voxel, painted shape over shape.

    A shape covers a voxel by a linear ramp one voxel wide about its surface, which is its volume share for a flat
    surface: partial volume without a finer grid. `voxel_mm` is the side of a voxel, the mean one where sides differ.
    """

    def __init__(self, shape: tuple[int, int, int], voxel_mm: float) -> None:
        self.fractions: dict[Tissue, NDArray[np.float32]] = {Tissue.AIR: np.ones(shape, np.float32)}
        self.labels = np.zeros(shape, np.uint8)
        self._voxel_mm = voxel_mm

    def coverage(self, distance: Distance) -> NDArray[np.float32]:
        """The share (i, j, k) of each voxel that lies inside the surface."""
        return np.asarray(np.clip(np.float32(0.5) - distance / np.float32(self._voxel_mm), 0, 1))

    def share(self, *tissues: Tissue) -> NDArray[np.float32]:
        """The share (i, j, k) of these tissues together so far."""
        total = np.zeros(self.labels.shape, np.float32)
        for tissue in tissues:
            if tissue in self.fractions:
                total += self.fractions[tissue]
        return total

    def paint(self, tissue: Tissue, distance: Distance, within: NDArray[np.float32] | None = None) -> None:
        """Put a tissue over whatever is there, inside a surface, and by the share `within` where that is given."""
        cover = self.coverage(distance)
        if within is not None:
            cover *= within
        box = _bounding_box(cover)
        if box is None:
            return
        cover = cover[box]
        for fraction in self.fractions.values():
            fraction[box] *= 1 - cover
        if tissue not in self.fractions:
            self.fractions[tissue] = np.zeros(self.labels.shape, np.float32)
        self.fractions[tissue][box] += cover
        self.labels[box][cover > 0.5] = tissue


def _bounding_box(cover: NDArray[np.float32]) -> tuple[slice, slice, slice] | None:
    """Where there is any cover: painting a small shape need not touch the rest."""
    touched = cover > 0
    sides = []
    for others in ((1, 2), (0, 2), (0, 1)):
        indices = np.flatnonzero(touched.any(axis=others))
        if not len(indices):
            return None
        sides.append(slice(int(indices[0]), int(indices[-1]) + 1))
    return sides[0], sides[1], sides[2]


class Waves:
    """A smooth random function of position: plane waves of random direction, length and phase; variance 1.

    It does not depend on the grid, so that one subject has one shape at every resolution. `length_mm` are the shortest
    and the longest wavelength.
    """

    def __init__(self, rng: np.random.Generator, count: int, length_mm: tuple[float, float]) -> None:
        directions = rng.normal(size=(count, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        self._vectors = (2 * np.pi * directions / rng.uniform(*length_mm, size=(count, 1))).astype(np.float32)
        self._phases = rng.uniform(0, 2 * np.pi, size=count).astype(np.float32)
        self._amplitude = np.float32(np.sqrt(2 / count))

    def __call__(self, points: Points) -> NDArray[np.float32]:
        """The function (i, j, k) at points (3, i, j, k)."""
        total = np.zeros(points.shape[1:], np.float32)
        for vector, phase in zip(self._vectors, self._phases, strict=True):
            total += np.sin(_dot(vector, points) + phase)
        return total * self._amplitude

    def sheets(self, points: Points) -> Distance:
        """About the distance in mm to the nearest of the winding sheets on which the function is 0; never negative."""
        value = np.zeros(points.shape[1:], np.float32)
        slope = np.zeros(points.shape, np.float32)
        for vector, phase in zip(self._vectors, self._phases, strict=True):
            angle = _dot(vector, points) + phase
            value += np.sin(angle)
            wave = np.cos(angle)
            for axis in range(3):
                slope[axis] += vector[axis] * wave
        return np.asarray(np.abs(value) / (_length(slope) + np.float32(_TINY)))


def _dot(vector: NDArray[np.float32], points: Points) -> NDArray[np.float32]:
    return np.asarray(vector[0] * points[0] + vector[1] * points[1] + vector[2] * points[2])


def _length(points: Points) -> NDArray[np.float32]:
    return np.asarray(np.sqrt(np.square(points[0]) + np.square(points[1]) + np.square(points[2])))


def as_column(vector: object) -> NDArray[np.float32]:
    """A vector that broadcasts against points."""
    return np.asarray(vector, np.float32).reshape(3, 1, 1, 1)


def ellipsoid(points: Points, centre: Point, radii: Point) -> Distance:
    """An ellipsoid along the axes."""
    size = as_column(radii)
    scaled = (points - as_column(centre)) / size
    norm = _length(scaled)
    return np.asarray(norm * (norm - 1) / (_length(scaled / size) + np.float32(_TINY)))


def column(
    points: Points, centre: tuple[float, float], width: NDArray[np.float32] | float, depth: NDArray[np.float32] | float
) -> Distance:
    """An upright elliptic column; half its width in x and depth in y may change slowly with the position."""
    across = (points[0] - np.float32(centre[0])) / np.asarray(width, np.float32)
    along = (points[1] - np.float32(centre[1])) / np.asarray(depth, np.float32)
    norm = np.hypot(across, along)
    steepness = np.hypot(across / np.asarray(width, np.float32), along / np.asarray(depth, np.float32))
    return np.asarray(norm * (norm - 1) / (steepness + np.float32(_TINY)))


def tube(points: Points, path: Sequence[Point], radius: float) -> Distance:
    """A round tube with round ends along straight pieces from point to point."""
    distance = np.full(points.shape[1:], np.inf, np.float32)
    for start, end in pairwise(path):
        along = np.asarray(end, np.float32) - np.asarray(start, np.float32)
        offset = points - as_column(start)
        part = np.clip(_dot(along, offset) / np.float32(along @ along), 0, 1)
        for axis in range(3):
            offset[axis] -= part * along[axis]
        np.minimum(distance, _length(offset), out=distance)
    return distance - np.float32(radius)


def tilted(points: Points, centre: Point, degrees: float) -> Points:
    """The points in a frame turned about the left-right axis through a centre; what is drawn in it leans backward."""
    angle = np.deg2rad(degrees)
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    x, y, z = points - as_column(centre)
    turned = np.stack([x, cosine * y + sine * z, cosine * z - sine * y])
    return turned + as_column(centre)


def union(*distances: Distance) -> Distance:
    """Inside any of the shapes."""
    return np.asarray(np.minimum.reduce(distances))


def both(*distances: Distance) -> Distance:
    """Inside all of the shapes."""
    return np.asarray(np.maximum.reduce(distances))


def smooth_union(first: Distance, second: Distance, blend_mm: float) -> Distance:
    """Inside either, with the crease between them filled over about `blend_mm`."""
    gap = np.maximum(np.float32(blend_mm) - np.abs(first - second), 0)
    return np.asarray(np.minimum(first, second) - np.square(gap) / np.float32(4 * blend_mm))


def smooth_both(first: Distance, second: Distance, blend_mm: float) -> Distance:
    """Inside both, with the edge between them rounded over about `blend_mm`."""
    return -smooth_union(-first, -second, blend_mm)
