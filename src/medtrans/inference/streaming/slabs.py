"""The translation of a volume that goes by as slabs: what is finished leaves before what follows has come."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import product

import numpy as np
import torch
from torch import Tensor

from medtrans.inference.sliding_window import WindowLayout, check_output, check_windows, window_layout

__all__ = ["translated_slabs"]


_AT_ONCE = 2**22  # bytes that are given at a time, or one plane: what is made of them takes several times as much


def translated_slabs(
    translate: Callable[[Tensor], Tensor],
    slabs: Iterable[np.ndarray],
    shape: tuple[int, int, int],
    *,
    axis: int,
    descending: bool = False,
    window: tuple[int, int, int],
    overlap: float,
    blend: str,
    batch: int,
    multiple: tuple[int, int, int],
    advance: Callable[[int, int], None] | None = None,
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
        window: as `sliding_window`, and so are the others.
        overlap: share of a window that the next one sees again.
        blend: "gaussian" or "constant".
        batch: windows translated at a time; windows that begin at one plane share batches.
        multiple: what each side of a window must divide by.
        advance: called with the windows done and all windows.

    Yields:
        `(c_out, i, j, k)` float32, some finished planes at a time, ordered along `axis` as the slabs are; overwritten
        when the next is asked for.

    Raises:
        ConfigError: overlap, blend or batch is out of range.
        SetupError: `translate` gave another size than it got.
        ValueError: the slabs are not the volume.
    """
    check_windows(overlap, blend, batch)
    layout = window_layout(shape, window=window, overlap=overlap, blend=blend, multiple=multiple)
    band = _Band(layout, shape, axis, descending)
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

    Planes stand first in memory, so that moving on is copying whole planes.
    """

    def __init__(self, layout: WindowLayout, shape: Sequence[int], axis: int, descending: bool) -> None:
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
                    self._source = np.zeros((self._side, len(plane), *self._across), np.float32)
                self._source[place][(slice(None), *self._inside)] = plane
            elif self._source is not None:
                self._source[place] = 0
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
        along = (slice(start, start + side) for start, side in zip(corner, self._layout.sides, strict=True))
        return slice(None), *along
