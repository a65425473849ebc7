"""Foreground, and which patch training sample k is: a pure function of the seed and k.

There is no random state to store: each draw makes a generator of its own from the seed, its purpose and k. So any
worker can make any sample, and a resumed run goes on with the samples it would have had.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medtrans.utils.seeds import derived_seed

__all__ = ["PatchSampler", "background_of", "cut", "foreground", "foreground_limit", "patch_centres", "stream"]


_BRIGHT = 0.1  # of an image's range
_TRIES = 16
_SHOTS = 64  # voxels looked at together


def stream(seed: int, purpose: str, k: int) -> np.random.Generator:
    """The random numbers of sample k for one purpose, independent of those of every other k and purpose.

    Args:
        seed: of the run.
        purpose: what is drawn, such as "corner".
        k: at least 0.
    """
    # Philox is counter-based: its streams are independent for any keys, which those of a generator seeded with
    # seed + k are not.
    return np.random.Generator(np.random.Philox(key=np.array([derived_seed(seed, purpose), k], dtype=np.uint64)))


def foreground_limit(low: float, high: float) -> np.float64:
    """What the foreground of an image is brighter than, whose intensities go from `low` to `high`.

    Source: the released configuration of arXiv 2412.00575, which takes a tenth of the range.
    """
    return np.float64(low + _BRIGHT * (high - low))


def foreground(image: np.ndarray, ends: tuple[float, float] | None = None) -> np.ndarray:
    """Where an image is brighter than a tenth of its range: booleans of its shape, False where it is NaN.

    Args:
        image: of any shape.
        ends: where its range begins and ends, such as its percentiles 0.5 and 99.5; None for one scaled to [0, 1].
    """
    # The limit of a scaled image is a Python float, so that float32 is compared in float32; that of a stored one is
    # float64, and so is the comparison. Prepared cases and boxes on disk depend on either being as it is.
    return np.asarray(image > (_BRIGHT if ends is None else foreground_limit(*ends)))


def patch_centres(source: np.ndarray, target: np.ndarray | None, valid: np.ndarray | None = None) -> np.ndarray:
    """Where a patch may be centred, `(i, j, k)` booleans with at least one True.

    The foreground of every source and target channel; failing that of any of them; failing that everywhere; always
    where all images have data.

    Args:
        source: `(c, i, j, k)` in [0, 1].
        target: `(c, i, j, k)` in [0, 1], where there is one.
        valid: `(i, j, k)` booleans, where all images have data; None everywhere.

    Source: as `foreground_limit`; the configuration has no answer for volumes without such a voxel.
    """
    bright = [foreground(array) for array in (source, target) if array is not None]
    everywhere = np.ones(source.shape[1:], dtype=bool) if valid is None else valid
    both = np.logical_and.reduce([everywhere, *(array.all(axis=0) for array in bright)])
    if both.any():
        return np.asarray(both)
    either = np.logical_or.reduce([array.any(axis=0) for array in bright]) & everywhere
    return np.asarray(either) if either.any() else everywhere


def background_of(image: np.ndarray) -> list[float]:
    """What an image `(c, i, j, k)` goes on with beyond its border: each channel's smallest value.

    A scaling need not bring the background to 0: `zscore` brings it to wherever it lies below the mean.
    """
    return [float(channel.min()) for channel in image]


def cut(
    array: np.ndarray, corner: Sequence[int], size: Sequence[int], background: Sequence[float] | None = None
) -> np.ndarray:
    """A copy `(c, *size)` of an array `(c, i, j, k)` from `corner` on; outside each channel's background, or 0."""
    patch = np.zeros((array.shape[0], *size), dtype=array.dtype)
    if background is not None:
        patch[:] = np.reshape(background, (-1, 1, 1, 1))
    taken, filled = [], []
    for start, side, extent in zip(corner, size, array.shape[1:], strict=True):
        low, high = max(start, 0), min(start + side, extent)
        taken.append(slice(low, high))
        filled.append(slice(low - start, high - start))
    patch[(slice(None), *filled)] = array[(slice(None), *taken)]
    return patch


@dataclass(frozen=True)
class PatchSampler:
    """Says for every k from 0 on which volume sample k is cut from, and where.

    Args:
        volumes: how many there are.
        size: sides of a patch in voxels.
        per_volume: samples in a row from one volume; a turn is `volumes * per_volume` samples.
        foreground: the least share of foreground in the central half of a patch; 0 cuts anywhere.
        seed: of the run.
    """

    volumes: int
    size: tuple[int, int, int]
    per_volume: int
    foreground: float
    seed: int

    def volume(self, k: int) -> int:
        """The volume of sample k: each comes once a turn, every turn in an order of its own."""
        turn, place = divmod(k // self.per_volume, self.volumes)
        return int(stream(self.seed, "order", turn).permutation(self.volumes)[place])

    def partner(self, k: int, candidates: int) -> int:
        """Which of so many volumes of other subjects the target of unpaired sample k comes from."""
        return int(stream(self.seed, "partner", k).integers(candidates))

    def corner(self, k: int, inside: np.ndarray, purpose: str = "corner") -> tuple[int, int, int]:
        """The first voxel of sample k's patch.

        The patch lies inside the volume; along an axis shorter than the patch it begins before voxel 0, so that the
        volume is in its middle. With `foreground` 0 every such place is equally likely. Else its centre is drawn
        uniformly from the foreground (and moved inwards as far as the volume's border asks), up to 16 times until
        enough foreground lies in the patch's central half; failing that, the best of the 16 is taken.

        Args:
            k: the sample.
            inside: `(i, j, k)` booleans with at least one True, where a centre may lie.
            purpose: names a stream of its own, for a second place in the same sample.
        """
        random = stream(self.seed, purpose, k)
        size = np.array(self.size)
        room = np.array(inside.shape) - size
        last = np.maximum(room, 0)
        before = np.minimum(room, 0) // 2  # negative along an axis shorter than the patch: half of what it lacks
        if self.foreground == 0:
            return _triple(before + random.integers(last + 1))
        best, most = before, -1.0
        for _ in range(_TRIES):
            corner = before + np.clip(_voxel(random, inside) - size // 2, 0, last)
            low, high = np.maximum(corner + size // 4, 0), corner + size - size // 4
            share = float(inside[tuple(slice(a, b) for a, b in zip(low, high, strict=True))].mean())
            if share > most:
                best, most = corner, share
            if most >= self.foreground:
                break
        return _triple(best)


def _triple(corner: np.ndarray) -> tuple[int, int, int]:
    i, j, k = (int(voxel) for voxel in corner)
    return i, j, k


def _voxel(random: np.random.Generator, inside: np.ndarray) -> np.ndarray:
    """One of the True voxels, all equally likely.

    Shots at random voxels until one hits: a volume has millions of voxels and a foreground of a tenth or more, so that
    a list of all of them would cost a hundred times the patch itself. Only where they are very rare is it made.
    """
    for _ in range(_SHOTS):
        shots = random.integers(inside.shape, size=(_SHOTS, 3))
        hits = inside[tuple(shots.T)]
        if hits.any():
            return np.asarray(shots[hits.argmax()])
    places = np.flatnonzero(inside)
    return np.array(np.unravel_index(places[random.integers(len(places))], inside.shape))
