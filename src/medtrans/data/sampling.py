"""Which patch training sample k is: a pure function of the seed and k, with no random state to store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medtrans.utils.seeds import derived_seed

__all__ = ["PatchSampler", "cut", "foreground", "stream"]


_BRIGHT = 0.1  # of [0, 1]: the paper's threshold between background and foreground
_TRIES = 16
_SHOTS = 64  # voxels looked at together


def stream(seed: int, purpose: str, k: int) -> np.random.Generator:
    """The random numbers of sample k for one purpose, independent of those of every other k and purpose.

    Args:
        seed: of the run.
        purpose: what is drawn, such as "corner".
        k: at least 0.
    """
    return np.random.Generator(np.random.Philox(key=np.array([derived_seed(seed, purpose), k], dtype=np.uint64)))


def foreground(source: np.ndarray, target: np.ndarray | None) -> np.ndarray:
    """Where a patch may be centred, `(i, j, k)` booleans with at least one True.

    Every source and target channel above 0.1; failing that any of them; failing that everywhere.

    Args:
        source: `(c, i, j, k)` in [0, 1].
        target: `(c, i, j, k)` in [0, 1], where there is one.

    Source: the released configuration of arXiv 2412.00575, which centres patches where source and target exceed 0.1
    and has no answer for volumes without such a voxel.
    """
    arrays = [source] if target is None else [source, target]
    both = np.logical_and.reduce([(array > _BRIGHT).all(axis=0) for array in arrays])
    if both.any():
        return np.asarray(both)
    either = np.logical_or.reduce([(array > _BRIGHT).any(axis=0) for array in arrays])
    return np.asarray(either) if either.any() else np.ones_like(either)


def cut(array: np.ndarray, corner: Sequence[int], size: Sequence[int]) -> np.ndarray:
    """A copy `(c, *size)` of an array `(c, i, j, k)` from `corner` on, 0 where it reaches outside."""
    patch = np.zeros((array.shape[0], *size), dtype=array.dtype)
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
        before = np.minimum(room, 0) // 2
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
    """One of the True voxels, all equally likely, without a pass over the volume unless they are very rare."""
    for _ in range(_SHOTS):
        shots = random.integers(inside.shape, size=(_SHOTS, 3))
        hits = inside[tuple(shots.T)]
        if hits.any():
            return np.asarray(shots[hits.argmax()])
    places = np.flatnonzero(inside)
    return np.array(np.unravel_index(places[random.integers(len(places))], inside.shape))
