"""Owns the translation of a volume of any size by windows that a network can take."""

from __future__ import annotations

from itertools import product
from math import ceil
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import pad

from medtrans.errors import ConfigError, SetupError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

__all__ = ["sliding_window"]

_SIGMA = 0.125  # of the window's side; what the paper and MONAI take
_FLOOR = 1e-3  # least weight along an axis, so that a voxel which only a window's border sees keeps its digits


def sliding_window(
    translate: Callable[[Tensor], Tensor],
    source: Tensor,
    *,
    window: tuple[int, int, int],
    overlap: float,
    blend: str,
    batch: int,
    multiple: tuple[int, int, int],
    advance: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Translate a whole volume window by window and blend the results.

    Windows are as many as the overlap asks for and spread evenly. A window's side is rounded up to its multiple, and a
    volume smaller than the window is padded on both sides with 0, the background of [0, 1]; the padding is cut off
    again. The sum of all windows' weights is an outer product of three sums along axes, since windows and weights are
    both products over axes: no volume of weights is kept.

    Args:
        translate: from `(b, c, *window)` on the source's device to `(b, c_out, *window)` on any device, in any floating
            type.
        source: `(1, c, i, j, k)` on any device.
        window: sides of a window in voxels.
        overlap: least share of a window's side that the next window sees again, in [0, 1).
        blend: "gaussian", weights that fall off from a window's centre with a sigma of 1/8 of its side, or "constant".
        batch: windows translated at a time.
        multiple: what each side of a window must divide by.
        advance: called after each batch with the windows done and all windows.

    Returns:
        `(1, c_out, i, j, k)`, float32, on the host.

    Raises:
        ConfigError: overlap, blend or batch is out of range.
        SetupError: `translate` gave another size than it got.
    """
    _check(overlap, blend, batch)
    sides = [ceil(side / step) * step for side, step in zip(window, multiple, strict=True)]
    volume, margins = _padded(source, sides)
    shape = volume.shape[2:]
    starts = [_starts(extent, side, overlap) for extent, side in zip(shape, sides, strict=True)]
    profiles = [_profile(side, blend) for side in sides]
    i, j, k = profiles
    weights = i[:, None, None] * j[:, None] * k

    corners = list(product(*starts))
    total: Tensor | None = None
    with torch.no_grad():
        for first in range(0, len(corners), batch):
            boxes = [_box(corner, sides) for corner in corners[first : first + batch]]
            output = translate(torch.cat([volume[box] for box in boxes]))
            if output.ndim != 5 or output.shape[0] != len(boxes) or list(output.shape[2:]) != sides:
                raise SetupError(
                    f"the network gave {tuple(output.shape)} for {len(boxes)} windows of {tuple(sides)} voxels; "
                    f"expected ({len(boxes)}, channels, {', '.join(map(str, sides))}): a generator keeps the sides of "
                    f"its input"
                )
            weights = weights.to(output.device)
            # Sums in bfloat16 lose what the network gave: weights and sums are float32.
            weighted = (output.float() * weights).cpu()
            if total is None:
                total = torch.zeros(1, output.shape[1], *shape)
            for box, values in zip(boxes, weighted, strict=True):
                total[box].add_(values)
            if advance is not None:
                advance(first + len(boxes), len(corners))
        if total is None:
            raise ValueError("a volume without voxels cannot be translated")
        for axis, (profile, begins) in enumerate(zip(profiles, starts, strict=True)):
            total /= _sum_of_profiles(profile, begins, shape[axis]).reshape([-1 if d == axis else 1 for d in range(3)])
    return total[_box(margins, source.shape[2:])].contiguous()


def _check(overlap: float, blend: str, batch: int) -> None:
    faults = []
    if not 0 <= overlap < 1:
        faults.append(f"inference.overlap: expected at least 0 and less than 1, found {overlap:g}")
    if blend not in ("gaussian", "constant"):
        faults.append(f"inference.blend: expected gaussian or constant, found {blend!r}")
    if batch < 1:
        faults.append(f"inference.batch: expected at least 1, found {batch}")
    if faults:
        raise ConfigError(*faults)


def _padded(source: Tensor, sides: Sequence[int]) -> tuple[Tensor, list[int]]:
    """The volume, no side less than the window's, and the voxels added before each axis."""
    lacking = [max(0, side - extent) for side, extent in zip(sides, source.shape[2:], strict=True)]
    before = [lack // 2 for lack in lacking]
    if not any(lacking):
        return source, before
    ends = [(first, lack - first) for first, lack in zip(before, lacking, strict=True)]
    return pad(source, [voxels for end in reversed(ends) for voxels in end]), before


def _starts(extent: int, side: int, overlap: float) -> list[int]:
    """Where windows begin along an axis: at both ends and evenly between."""
    step = max(1, int(side * (1 - overlap) + 1e-9))
    last = extent - side
    count = ceil(last / step)
    return [round(last * index / count) for index in range(count + 1)] if count else [0]


def _profile(side: int, blend: str) -> Tensor:
    if blend == "constant":
        return torch.ones(side)
    distance = (torch.arange(side) - (side - 1) / 2) / (_SIGMA * side)
    return torch.exp(-0.5 * distance**2).clamp_min(_FLOOR)


def _sum_of_profiles(profile: Tensor, starts: Sequence[int], extent: int) -> Tensor:
    total = torch.zeros(extent)
    for start in starts:
        total[start : start + len(profile)] += profile
    return total


def _box(corner: Sequence[int], sides: Sequence[int]) -> tuple[slice, ...]:
    along = (slice(start, start + side) for start, side in zip(corner, sides, strict=True))
    return slice(None), slice(None), *along
