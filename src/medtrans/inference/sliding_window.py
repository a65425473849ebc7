"""Sliding-window translation of a volume of any size: which windows, how they overlap, and how they are blended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import ceil
from typing import Any, TypedDict, Unpack

import torch
from torch import Tensor, nn

from medtrans.errors import ConfigError, SetupError
from medtrans.plugins.input_size import common_multiple, padded_sides

__all__ = [
    "WindowLayout",
    "Windows",
    "box_at",
    "check_output",
    "choose_overlap",
    "choose_window",
    "receptive_field",
    "sliding_window",
    "window_layout",
]


_SIGMA = 0.125  # of the window's side; what the paper and MONAI take
_FLOOR = 1e-3  # least weight along an axis, so that a voxel which only a window's border sees keeps its digits


class Windows(TypedDict):
    """How a volume is cut up into windows.

    Keys:
        window: sides in voxels; each is rounded up to its multiple.
        overlap: least share of a window's side that the next window sees again, in [0, 1).
        blend: "gaussian", weights that fall off from a window's centre with a sigma of 1/8 of its side, or "constant".
        batch: windows translated at a time.
        multiple: what each side of a window must divide by.
    """

    window: tuple[int, int, int]
    overlap: float
    blend: str
    batch: int
    multiple: tuple[int, int, int]


@dataclass(frozen=True)
class WindowLayout:
    """Windows over a volume, as many as the overlap asks for and spread evenly.

    Weights are a product over axes, and so is their sum over all windows: no volume of weights is kept.

    Args:
        sides: of a window, in voxels.
        shape: of the volume, padded so that no side is less than the window's.
        before: voxels of background put before each axis, one more than behind it where their number is odd.
        starts: where windows begin, along each axis.
        profiles: weight of a window's voxels, along each axis.
    """

    sides: tuple[int, int, int]
    shape: tuple[int, int, int]
    before: tuple[int, int, int]
    starts: tuple[list[int], list[int], list[int]]
    profiles: tuple[Tensor, Tensor, Tensor]

    @cached_property
    def weights(self) -> Tensor:
        """`sides`: the weight of each voxel of a window."""
        i, j, k = self.profiles
        return i[:, None, None] * j[:, None] * k

    def shares(self, axis: int) -> Tensor:
        """1 over the sum of all windows' weights, along an axis of the padded volume."""
        total, profile = torch.zeros(self.shape[axis]), self.profiles[axis]
        for start in self.starts[axis]:
            total[start : start + len(profile)] += profile
        return 1 / total


def window_layout(shape: Sequence[int], windows: Windows) -> WindowLayout:
    """The windows over a volume of `shape`, as `sliding_window` says.

    Raises:
        ConfigError: overlap, blend or batch is out of range.
    """
    overlap, blend, batch = windows["overlap"], windows["blend"], windows["batch"]
    faults = []
    if not 0 <= overlap < 1:
        faults.append(f"inference.overlap: expected at least 0 and less than 1, found {overlap:g}")
    if blend not in ("gaussian", "constant"):
        faults.append(f"inference.blend: expected gaussian or constant, found {blend!r}")
    if batch < 1:
        faults.append(f"inference.batch: expected at least 1, found {batch}")
    if faults:
        raise ConfigError(*faults)
    sides = [ceil(side / step) * step for side, step in zip(windows["window"], windows["multiple"], strict=True)]
    lacking = [max(0, side - extent) for side, extent in zip(sides, shape, strict=True)]
    padded = [extent + lack for extent, lack in zip(shape, lacking, strict=True)]
    first, second, third = (_starts(extent, side, overlap) for extent, side in zip(padded, sides, strict=True))
    i, j, k = (_profile(side, blend) for side in sides)
    return WindowLayout(
        _triple(sides),
        _triple(padded),
        _triple([lack - lack // 2 for lack in lacking]),
        (first, second, third),
        (i, j, k),
    )


def box_at(corner: Sequence[int], sides: Sequence[int]) -> tuple[slice, ...]:
    """What is between a corner and the opposite one, of a tensor `(b, c, i, j, k)`."""
    along = (slice(start, start + side) for start, side in zip(corner, sides, strict=True))
    return slice(None), slice(None), *along


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


def _triple(sides: Sequence[int]) -> tuple[int, int, int]:
    i, j, k = sides
    return i, j, k


def sliding_window(
    translate: Callable[[Tensor], Tensor],
    source: Tensor,
    *,
    advance: Callable[[int, int], None] | None = None,
    **windows: Unpack[Windows],
) -> Tensor:
    """Translate a whole volume window by window and blend the results.

    Windows are as many as the overlap asks for and spread evenly. A volume smaller than the window is padded on both
    sides with each channel's smallest value, as in training; the padding is cut off again. Beside the source and the
    result there is never more than a batch of windows.

    Args:
        translate: from `(b, c, *window)` on the source's device to `(b, c_out, *window)` on any device, in any floating
            type.
        source: `(1, c, i, j, k)` on any device.
        advance: called after each batch with the windows done and all windows.
        **windows: how it is cut up.

    Returns:
        `(1, c_out, i, j, k)`, float32, on the host.

    Raises:
        ConfigError: overlap, blend or batch is out of range.
        SetupError: `translate` gave another size than it got.
    """
    layout, batch = window_layout(source.shape[2:], windows), windows["batch"]
    volume = _padded(source, layout)
    corners = list(product(*layout.starts))
    total: Tensor | None = None
    with torch.no_grad():
        for first in range(0, len(corners), batch):
            boxes = [box_at(corner, layout.sides) for corner in corners[first : first + batch]]
            output = translate(torch.cat([volume[box] for box in boxes]))
            check_output(output, len(boxes), layout)
            if total is None:
                total = torch.zeros(1, output.shape[1], *layout.shape)
            _blend_in(total, boxes, output, layout)
            if advance is not None:
                advance(first + len(boxes), len(corners))
        if total is None:
            raise ValueError("a volume without voxels cannot be translated")
        _normalise(total, layout)
    return total[box_at(layout.before, source.shape[2:])].contiguous()


def check_output(output: Tensor, count: int, layout: WindowLayout) -> None:
    """Refuse what a network cannot have made of `count` windows.

    Raises:
        SetupError: `output` has other sides than the windows.
    """
    sides = layout.sides
    if output.ndim != 5 or output.shape[0] != count or tuple(output.shape[2:]) != sides:
        raise SetupError(
            f"the network gave {tuple(output.shape)} for {count} windows of {sides} voxels; expected "
            f"({count}, channels, {', '.join(map(str, sides))}): a generator keeps the sides of its input"
        )


def _blend_in(total: Tensor, boxes: Sequence[tuple[slice, ...]], output: Tensor, layout: WindowLayout) -> None:
    """Add what a network made of windows to `total` `(1, c, i, j, k)` on the host, each voxel by its weight."""
    # Sums in bfloat16 lose what the network gave: weights and sums are float32.
    values = output.float()
    if values.device.type != "cpu":
        weighted = (values * layout.weights.to(values.device)).cpu()
        for box, one in zip(boxes, weighted, strict=True):
            total[box].add_(one)
        return
    for box, one in zip(boxes, values, strict=True):
        total[box].addcmul_(one, layout.weights)


def _padded(source: Tensor, layout: WindowLayout) -> Tensor:
    """The volume, no side less than the window's."""
    if tuple(source.shape[2:]) == layout.shape:
        return source
    padded = source.amin((2, 3, 4), keepdim=True).repeat(1, 1, *layout.shape)
    padded[box_at(layout.before, source.shape[2:])] = source
    return padded


def _normalise(total: Tensor, layout: WindowLayout) -> None:
    """Divide by the sum of weights, one plane at a time while it is in the processor's cache."""
    along, j, k = (layout.shares(axis) for axis in range(3))
    plane = j[:, None] * k
    for index, share in enumerate(along):
        total[:, :, index].mul_(plane * share)


_LEAST, _MOST = 0.25, 0.625  # the paper takes the upper one
_UNKNOWN = 0.5


def choose_window(
    given: Sequence[int] | None, patch: Sequence[int], networks: Sequence[nn.Module], shape: Sequence[int]
) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """The sides of a window and what they divide by.

    What the config asks for, else the generator, else the training patch. Not more than the patch, though fewer and
    larger windows were quicker: a network that pads its coarse levels, or attends to a whole patch, has learnt what a
    patch of that size looks like, and translates larger windows worse.

    Args:
        given: by the config.
        patch: sides of the training patch.
        networks: of the method.
        shape: of the volume, which stands for None in what a generator asks for.
    """
    multiple = common_multiple(networks)
    asked: Any = next((network.window for network in networks if hasattr(network, "window")), None)
    whole = padded_sides(tuple(shape), multiple)
    first, second, third = (side or extent for side, extent in zip(given or asked or patch, whole, strict=True))
    return (first, second, third), multiple


def choose_overlap(field: Sequence[int] | None, window: Sequence[int], shape: Sequence[int]) -> float:
    """The overlap at which a voxel midway between two windows' centres has what it depends on in both of them.

    Such a voxel lies half an overlap from the border of each. It is bounded to [0.25, 0.625].

    Args:
        field: how far the network looks along each axis; None where nobody knows.
        window: sides of a window.
        shape: of the volume; axes along which it fits into a window do not count.
    """
    if field is None:
        return _UNKNOWN
    shares = [2 * far / side for far, side, extent in zip(field, window, shape, strict=True) if extent > side]
    return min(_MOST, max([_LEAST, *shares]))


_ENOUGH = 0.95  # of a change's effect; the rest is spread thinly, by attention over the whole window
_PLACES = (0.375, 0.5, 0.625)  # along the window's diagonal, where the source is changed
_CHANGE = 0.2  # of [0, 1]


def receptive_field(
    translate: Callable[[Tensor], Tensor], channels: int, window: Sequence[int], multiple: Sequence[int]
) -> tuple[int, int, int] | None:
    """How many voxels beside a changed block 95 % of the change in the translation lie within, along each axis.

    Blocks of `multiple` voxels, so that every phase of a strided network is met, are changed in smooth noise at a few
    places of a window. The farthest of the answers counts.

    Args:
        translate: from `(b, channels, *window)` to `(b, c_out, *window)`.
        channels: of the source.
        window: sides of a window.
        multiple: what the window's sides divide by.

    Returns:
        None where no change changes anything, or the answers are not finite.
    """
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, channels, *(max(2, side // 4) for side in window), generator=generator)
    source = 0.25 + 0.5 * torch.nn.functional.interpolate(coarse, size=tuple(window), mode="trilinear")
    plain = translate(source.clone()).float().cpu()
    farthest = [0, 0, 0]
    for share in _PLACES:
        starts = [int(share * side) // step * step for side, step in zip(window, multiple, strict=True)]
        ends = [min(start + step, side) for start, step, side in zip(starts, multiple, window, strict=True)]
        changed = source.clone()
        changed[..., starts[0] : ends[0], starts[1] : ends[1], starts[2] : ends[2]] += _CHANGE
        effect = (translate(changed).float().cpu() - plain).abs().sum((0, 1)).double()
        if not bool(torch.isfinite(effect).all()) or float(effect.sum()) == 0:
            return None
        for axis in range(3):
            along = effect.sum([other for other in range(3) if other != axis])
            farthest[axis] = max(farthest[axis], _within(along, starts[axis], ends[axis]))
    first, second, third = farthest
    return first, second, third


def _within(along: Tensor, start: int, end: int) -> int:
    """The least distance from the block within which enough of the effect lies."""
    total = float(along.sum())
    for far in range(len(along)):
        if float(along[max(0, start - far) : end + far].sum()) >= _ENOUGH * total:
            return far
    return len(along)
