"""A volume that goes by as slabs: its translation, where what is finished leaves early, and its exact percentiles."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import product
from typing import Unpack

import numpy as np
import torch
from torch import Tensor

from medtrans.inference.sliding_window import WindowLayout, Windows, box_at, check_output, window_layout

__all__ = ["can_be_ordered", "percentiles", "translated_slabs"]


_AT_ONCE = 2**22  # bytes that are given at a time, or one plane: what is made of them takes several times as much


def translated_slabs(
    translate: Callable[[Tensor], Tensor],
    slabs: Iterable[np.ndarray],
    shape: tuple[int, int, int],
    *,
    axis: int,
    descending: bool = False,
    background: float = 0.0,
    advance: Callable[[int, int], None] | None = None,
    **windows: Unpack[Windows],
) -> Iterator[np.ndarray]:
    """Translate slabs as they come; together the results are what `sliding_window` gives of the whole volume.

    Windows lie where `sliding_window` lays them. Only as many planes of source and result are kept as a window has:
    4 bytes times (channels in + channels out) times the window's side along `axis` times the voxels of a plane.

    Args:
        translate: from `(b, c, *window)` on the host to `(b, c_out, *window)` on any device, in any floating type.
        slabs: `(c, i, j, k)`, together the volume, in order along `axis`; each of any thickness.
        shape: of the volume.
        axis: along which the slabs come, 0 to 2.
        descending: whether the first slab is the volume's last; voxels in a slab then descend along `axis` too.
        background: what surrounds a volume that is smaller than a window: its smallest value.
        advance: called with the windows done and all windows.
        **windows: how the volume is cut up; windows that begin at one plane share batches.

    Yields:
        `(c_out, i, j, k)` float32, some finished planes at a time, ordered along `axis` as the slabs are; overwritten
        when the next is asked for.

    Raises:
        ConfigError: overlap, blend or batch is out of range.
        SetupError: `translate` gave another size than it got.
        ValueError: the slabs are not the volume.
    """
    layout, batch = window_layout(shape, windows), windows["batch"]
    band = _Band(layout, shape, axis, descending, background)
    planes = _planes(slabs, axis)
    starts = _along(layout, axis, descending)
    others = [[0] if one == axis else begins for one, begins in enumerate(layout.starts)]
    corners = list(product(*others))
    done = 0
    for start in starts:
        yield from band.move_to(start)
        band.fill(planes)
        for first in range(0, len(corners), batch):
            some = corners[first : first + batch]
            with torch.no_grad():
                output = translate(band.windows(some))
            check_output(output, len(some), layout)
            band.blend_in(some, output)
            done += len(some)
            if advance is not None:
                advance(done, len(starts) * len(corners))
    yield from band.move_to(layout.shape[axis])
    if next(planes, None) is not None:
        raise ValueError(f"the slabs hold more than {shape[axis]} planes along axis {axis}")


def _along(layout: WindowLayout, axis: int, descending: bool) -> list[int]:
    """Where windows begin along the axis, counted in the order in which planes come."""
    starts, last = layout.starts[axis], layout.shape[axis] - layout.sides[axis]
    return [last - start for start in reversed(starts)] if descending else starts


def _planes(slabs: Iterable[np.ndarray], axis: int) -> Iterator[np.ndarray]:
    for slab in slabs:
        yield from np.moveaxis(slab, axis + 1, 0)


class _Band:
    """The planes of source and result that windows from one place on reach, counted in the order they come in.

    Along `axis`, over the padded volume, while windows that begin at plane `first` are translated:

        0 ... begin ...          first ........ first + side          ... end ... shape[axis]
        padding | given back     |  the band, in memory  |  not yet come  | padding

    A plane is finished when all windows over it are through: planes before `first` are divided by the sum of their
    weights and leave. Planes stand first in memory, so that moving on is copying whole planes.
    """

    def __init__(
        self, layout: WindowLayout, shape: Sequence[int], axis: int, descending: bool, background: float
    ) -> None:
        self._layout, self._axis, self._descending = layout, axis, descending
        self._side = layout.sides[axis]
        self._first = self._filled = 0  # of all padded planes: the band's first, and the first not yet there
        before, extent = layout.before[axis], shape[axis]
        self._begin = layout.shape[axis] - before - extent if descending else before
        self._end = self._begin + extent
        across = [one for one in range(3) if one != axis]
        self._across = tuple(layout.shape[one] for one in across)
        self._inside = tuple(slice(layout.before[one], layout.before[one] + shape[one]) for one in across)
        j, k = (layout.shares(one).numpy() for one in across)
        self._shares = j[:, None] * k
        along = layout.shares(axis).numpy()
        self._share_along = along[::-1] if descending else along
        self._background = background
        self._source: np.ndarray | None = None
        self._result: np.ndarray | None = None

    def fill(self, planes: Iterator[np.ndarray]) -> None:
        """Take in planes until the band is full."""
        while self._filled < self._first + self._side:
            place = self._filled - self._first
            if self._begin <= self._filled < self._end:
                plane = next(planes, None)
                if plane is None:
                    raise ValueError(f"the slabs end after {self._filled - self._begin} planes along {self._axis}")
                if self._source is None:
                    sides = (self._side, len(plane), *self._across)
                    self._source = np.full(sides, self._background, np.float32)
                self._source[place][(slice(None), *self._inside)] = plane
            elif self._source is not None:
                self._source[place] = self._background
            self._filled += 1

    def windows(self, corners: Sequence[tuple[int, ...]]) -> Tensor:
        """The source's windows `(b, c, i, j, k)` at corners whose place along the axis is the band's."""
        source = self._view(self._source)
        return torch.from_numpy(np.stack([source[self._box(corner)] for corner in corners]))

    def blend_in(self, corners: Sequence[tuple[int, ...]], output: Tensor) -> None:
        """Add what the network made of the windows, each voxel by its weight."""
        if self._result is None:
            self._result = np.zeros((self._side, output.shape[1], *self._across), np.float32)
        result = self._view(self._result)
        weighted = (output.float() * self._layout.weights.to(output.device)).cpu().numpy()
        for corner, values in zip(corners, weighted, strict=True):
            result[self._box(corner)] += values

    def move_to(self, start: int) -> Iterator[np.ndarray]:
        """Begin at plane `start`; what lies before it is finished, and given without the padding."""
        steps = min(start - self._first, self._side)
        if steps == 0 or self._result is None or self._source is None:
            return
        for place in range(steps):
            self._result[place] *= self._shares * self._share_along[self._first + place]
        begin, end = max(self._begin - self._first, 0), min(self._end - self._first, steps)
        together = max(1, _AT_ONCE // self._result[0].nbytes)
        for first in range(begin, end, together):
            finished = self._result[first : min(first + together, end)]
            yield np.moveaxis(finished[(slice(None), slice(None), *self._inside)], 0, self._axis + 1)
        for band in (self._source, self._result):
            for place in range(self._side - steps):  # plane by plane: numpy would copy the whole of what overlaps
                band[place] = band[place + steps]
        self._result[self._side - steps :] = 0
        self._first += steps

    def _view(self, band: np.ndarray | None) -> np.ndarray:
        """`(c, i, j, k)`, ordered as the volume is."""
        if band is None:
            raise ValueError("a volume without voxels cannot be translated")
        return np.moveaxis(band[::-1] if self._descending else band, 0, self._axis + 1)

    def _box(self, corner: tuple[int, ...]) -> tuple[slice, ...]:
        return box_at(corner, self._layout.sides)[1:]


_BINS = 2**16


def can_be_ordered(kind: np.dtype[np.generic]) -> bool:
    """Whether `percentiles` takes voxels of this type."""
    return kind == np.float32 or (kind.kind in "iu" and kind.itemsize <= 4)


def percentiles(parts: Callable[[], Iterable[np.ndarray]], percents: Sequence[float]) -> list[float]:
    """What `numpy.percentile` gives of all parts together, by memory for counts alone.

    The voxels are sorted by their bits: one pass counts the upper 16, a second, where the type has more, the lower 16
    of those voxels that the percentiles lie among.

    Args:
        parts: begins a pass over all voxels, finite float32 or integers of up to 32 bits, in any shapes.
        percents: from 0 to 100.

    Raises:
        ValueError: there is no voxel.
    """
    upper = np.zeros(_BINS, np.int64)
    kind: np.dtype[np.generic] | None = None
    for part in parts():
        kind = part.dtype
        upper += np.bincount(_keys(part) >> 16, minlength=_BINS)
    total = int(upper.sum())
    if kind is None or not total:
        raise ValueError("there are no percentiles of no voxels")
    places = [percent / 100 * (total - 1) for percent in percents]
    ranks = sorted({rank for place in places for rank in (int(place), min(int(place) + 1, total - 1))})
    before = np.concatenate([[0], np.cumsum(upper)])
    bins = {rank: int(np.searchsorted(before, rank, side="right")) - 1 for rank in ranks}
    lower = {one: np.zeros(_BINS, np.int64) for one in set(bins.values())}
    if kind.itemsize > 2:
        for part in parts():
            keys = _keys(part)
            for one, counts in lower.items():
                counts += np.bincount(keys[keys >> 16 == one] & (_BINS - 1), minlength=_BINS)
    values = {}
    for rank, one in bins.items():
        low = int(np.searchsorted(np.cumsum(lower[one]), rank - before[one], side="right")) if kind.itemsize > 2 else 0
        values[rank] = _value((one << 16) + low, kind)
    return [_between(values[int(place)], values[min(int(place) + 1, total - 1)], place % 1) for place in places]


def _keys(part: np.ndarray) -> np.ndarray:
    """Unsigned numbers of 32 bits, in int64, ordered as the voxels are; a narrow type's bits stand uppermost."""
    flat = np.ascontiguousarray(part).reshape(-1)
    if flat.dtype == np.float32:
        bits = (flat + np.float32(0)).view(np.uint32)  # adding 0 makes -0 a 0
        return np.where(bits >> 31, ~bits, bits | np.uint32(2**31)).astype(np.int64)
    limits = np.iinfo(flat.dtype)
    return (flat.astype(np.int64) - limits.min) << (16 if flat.dtype.itemsize <= 2 else 0)


def _value(key: int, kind: np.dtype[np.generic]) -> float:
    if kind == np.float32:
        bits = key - 2**31 if key >> 31 else 2**32 - 1 - key
        return float(np.uint32(bits).view(np.float32))
    key >>= 16 if kind.itemsize <= 2 else 0
    return float(key + np.iinfo(kind.name).min)


def _between(low: float, high: float, share: float) -> float:
    """As numpy interpolates: from the nearer end, so that equal ends give just that."""
    return low + (high - low) * share if share < 0.5 else high - (high - low) * (1 - share)
