"""Pictures of a case: a montage of three planes, and small volumes that a report's viewer can carry."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
from matplotlib import image
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from medtrans.data.cohort import Member, load_image
from medtrans.volume import Grid, ReadingRules, Volume, read, write
from medtrans.volume.resampling import canonical, cropped, regrid

__all__ = [
    "LEVELS",
    "ROLES",
    "Montage",
    "box_around",
    "for_viewing",
    "keep_volumes",
    "kept_volumes",
    "png_bytes",
    "quantised",
]


ROLES = ("source", "prediction", "target")

LEVELS = 1023
"""Steps between a volume's least and greatest value: finer than a screen shows, and noise still compresses."""

_MOST_VOXELS = 2**21
_DIM = 0.02  # of the range of intensities, above which a voxel is no empty border
_DPI = 100
_GAP = 4  # pixels between panels
_HEADER = 24  # pixels above the panels, for the columns' names
_BAR = 84  # pixels right of the panels, for the colour bar
_LETTER = 11  # points: 15 pixels of a picture 1000 wide
_BACKGROUND, _INK = "#000000", "#d8d8d8"
# Black where there is no error, so that errors stand out on the images' own background; blue and orange are told apart
# by colour-blind readers too.
_ERROR_COLOURS = ("#9fe0ff", "#2b83d6", "#000000", "#d9661f", "#ffd08a")


@dataclass(frozen=True)
class _Plane:
    """One plane as it is drawn: `pixels` from the top left, its size in mm, and what lies left and up."""

    pixels: np.ndarray
    width_mm: float
    height_mm: float
    left: str
    up: str


@dataclass(frozen=True)
class Montage:
    """What a picture of one translated volume needs of it, drawn when the picture is asked for.

    Args:
        columns: axial, coronal and sagittal plane of source, prediction, target and error.
        unit: of prediction, target and error, such as "HU".
        value_range: shown as black and white for prediction and target; None takes the target's 0.5th and 99.5th
            percentiles.
    """

    columns: tuple[tuple[_Plane, ...], ...]
    unit: str = ""
    value_range: tuple[float, float] | None = None

    @classmethod
    def of(
        cls,
        source: np.ndarray,
        prediction: np.ndarray,
        target: np.ndarray,
        *,
        spacing_mm: Sequence[float],
        mask: np.ndarray | None = None,
        centre: tuple[int, int, int] | None = None,
        unit: str = "",
        value_range: tuple[float, float] | None = None,
    ) -> Self:
        """Take the planes of a volume; nothing of it is held on to.

        Args:
            source: `(i, j, k)` in RAS+ voxel order.
            prediction: likewise, in `unit`.
            target: likewise, in `unit`.
            spacing_mm: of the grid.
            mask: `(i, j, k)`, non-zero in the foreground; the error is shown inside it only.
            centre: the voxel the planes go through; by default the centroid of `mask`, or without one that of the
                brighter part of the source.
            unit: of prediction and target.
            value_range: as above.
        """
        at = centre or _centre(source, mask)
        planes = [_planes(volume, at, spacing_mm) for volume in (source, prediction, target)]
        inside = None if mask is None else _planes(mask, at, spacing_mm)
        errors = [made.pixels.astype(np.float32) - true.pixels for made, true in zip(*planes[1:], strict=True)]
        if inside is not None:
            errors = [np.where(one.pixels != 0, error, 0) for one, error in zip(inside, errors, strict=True)]
        error = tuple(replace(plane, pixels=pixels) for plane, pixels in zip(planes[1], errors, strict=True))
        return cls((*planes, error), unit, value_range)

    def draw(self, width: int = 1000) -> np.ndarray:
        """Axial, coronal and sagittal rows; source, prediction, target, error columns, all panels at one scale in mm.

        Planes are shown as radiologists see them: the patient's right on the left of axial and coronal planes, anterior
        on the left of the sagittal one; anterior or superior at the top. Letters at the edges of every panel say so.

        Args:
            width: of the picture in pixels; the height follows from the volume.

        Returns:
            `(rows, columns, 3)` uint8.
        """
        source, _, target, error = self.columns
        values, limit = self.value_range or _range(target), _strongest(error)
        suffix = f" [{self.unit}]" if self.unit else ""
        titles = ("source", "prediction", "target", f"prediction − target{suffix}")
        ranges = (_range(source), values, values, (-limit, limit))
        # An odd number of steps, so that one of them is exactly black.
        colours = LinearSegmentedColormap.from_list("error", _ERROR_COLOURS, N=257)

        layout = _layout(source, width)
        figure = Figure(figsize=(width / _DPI, layout.height / _DPI), dpi=_DPI, facecolor=_BACKGROUND)
        canvas = FigureCanvasAgg(figure)
        for column, (planes, title, (low, high)) in enumerate(zip(self.columns, titles, ranges, strict=True)):
            for row, plane in enumerate(planes):
                axes = figure.add_axes(layout.panel(row, column, plane))
                axes.set_axis_off()
                shown = axes.imshow(
                    plane.pixels,
                    cmap=colours if column == 3 else "gray",
                    vmin=low,
                    vmax=high,
                    aspect="auto",
                    interpolation="antialiased",
                )
                _name_sides(axes, plane)
            figure.text(layout.middle(column), layout.title, title, color=_INK, fontsize=9, ha="center", va="center")
        bar = figure.colorbar(shown, cax=figure.add_axes(layout.bar()))
        bar.outline.set_visible(False)
        bar.ax.tick_params(colors=_INK, labelsize=8)
        canvas.draw()  # type: ignore[no-untyped-call] # matplotlib leaves it untyped
        pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call] # likewise
        return np.ascontiguousarray(pixels[..., :3])


def png_bytes(picture: np.ndarray) -> bytes:
    """A picture `(rows, columns, 3)` uint8 as the content of a PNG file, without metadata."""
    file = io.BytesIO()
    without: dict[str, str] = {"Software": None}  # type: ignore[dict-item] # None is how matplotlib spells "leave it out"
    image.imsave(file, picture, format="png", metadata=without)
    return file.getvalue()


def _planes(volume: np.ndarray, centre: tuple[int, int, int], spacing_mm: Sequence[float]) -> tuple[_Plane, ...]:
    i, j, k = centre
    sizes = [side * step for side, step in zip(volume.shape, spacing_mm, strict=True)]
    # Each cut is (across, up) with both axes growing to R, A or S. Turned over in both directions, it starts at the top
    # left with the high end of both: R or A at the left, A or S at the top.
    cuts = ((volume[:, :, k], 0, 1, "R", "A"), (volume[:, j, :], 0, 2, "R", "S"), (volume[i, :, :], 1, 2, "A", "S"))
    return tuple(
        _Plane(np.array(np.asarray(cut).T[::-1, ::-1]), sizes[across], sizes[up], left, top)
        for cut, across, up, left, top in cuts
    )


@dataclass(frozen=True)
class _Layout:
    """Where the panels of three rows and four equal columns stand, in pixels from the top; matplotlib's from below."""

    width: int
    height: int
    column_width: float
    row_heights: tuple[float, ...]
    pixels_per_mm: float

    @property
    def title(self) -> float:
        return 1 - _HEADER / 2 / self.height

    def middle(self, column: int) -> float:
        return (column * (self.column_width + _GAP) + self.column_width / 2) / self.width

    def panel(self, row: int, column: int, plane: _Plane) -> tuple[float, float, float, float]:
        wide, high = plane.width_mm * self.pixels_per_mm, plane.height_mm * self.pixels_per_mm
        top = _HEADER + sum(self.row_heights[:row]) + row * _GAP
        return (self.middle(column) - wide / 2 / self.width, 1 - (top + high) / self.height, *self._part(wide, high))

    def bar(self) -> tuple[float, float, float, float]:
        left, high = self.width - _BAR + 16, min(240.0, 0.8 * (self.height - _HEADER))
        return (left / self.width, (self.height - _HEADER - high) / 2 / self.height, *self._part(12, high))

    def _part(self, wide: float, high: float) -> tuple[float, float]:
        return wide / self.width, high / self.height


def _layout(planes: Sequence[_Plane], width: int) -> _Layout:
    column_width = (width - _BAR - 3 * _GAP) / 4
    scale = column_width / max(plane.width_mm for plane in planes)
    heights = tuple(plane.height_mm * scale for plane in planes)
    return _Layout(width, round(_HEADER + sum(heights) + 3 * _GAP), column_width, heights, scale)


_OPPOSITE = {"R": "L", "A": "P", "S": "I"}


def _name_sides(axes: Axes, plane: _Plane) -> None:
    """A letter at each edge, with a dark rim, so that it can be read on bright tissue too."""
    places = (
        (plane.left, 0.02, 0.5, "left", "center"),
        (_OPPOSITE[plane.left], 0.98, 0.5, "right", "center"),
        (plane.up, 0.5, 0.98, "center", "top"),
        (_OPPOSITE[plane.up], 0.5, 0.02, "center", "bottom"),
    )
    for letter, across, up, ha, va in places:
        text = axes.text(across, up, letter, ha=ha, va=va, transform=axes.transAxes, color=_INK, fontsize=_LETTER)
        text.set_path_effects([withStroke(linewidth=2.5, foreground=_BACKGROUND)])


def _range(planes: Sequence[_Plane]) -> tuple[float, float]:
    """The 0.5th and 99.5th percentiles of what is drawn; a little wider than nothing where it is constant."""
    values = np.concatenate([plane.pixels.ravel() for plane in planes])
    values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 1.0
    low, high = (float(bound) for bound in np.percentile(values, (0.5, 99.5)))
    return (low, high) if high > low else (low, low + 1e-6)


def _strongest(planes: Sequence[_Plane]) -> float:
    """The 99.5th percentile of the magnitudes above 0; 1 without any."""
    magnitudes = np.abs(np.concatenate([plane.pixels.ravel() for plane in planes]))
    magnitudes = magnitudes[np.isfinite(magnitudes) & (magnitudes > 0)]
    return float(np.percentile(magnitudes, 99.5)) if magnitudes.size else 1.0


def _centre(source: np.ndarray, mask: np.ndarray | None) -> tuple[int, int, int]:
    if mask is None or not mask.any():
        low, high = float(np.nanmin(source)), float(np.nanmax(source))
        mask = source > low + 0.1 * (high - low)
    if not mask.any():
        mask = np.ones(source.shape, dtype=bool)
    counts = [(mask != 0).sum(axis=tuple({0, 1, 2} - {axis})) for axis in range(3)]
    i, j, k = (round(float(np.arange(len(count)) @ count / count.sum())) for count in counts)
    return i, j, k


def keep_volumes(
    folder: Path, stem: str, member: Member, predicted: Volume, *, source: str, target: str, rules: ReadingRules
) -> None:
    """Keep small copies of a case's source, prediction and target, as `<stem>_<role>.nii.gz`.

    Args:
        folder: of the run's pictures.
        stem: such as "worst_case_0007".
        member: the case.
        predicted: its prediction.
        source: the modality that is shown as source.
        target: the modality that was predicted.
        rules: how images are read that would otherwise be refused.
    """
    volumes = {
        "source": load_image(member.case, source, rules),
        "prediction": predicted,
        "target": load_image(member.case, target, rules),
    }
    for role, volume in for_viewing(volumes).items():
        levels, low, step = quantised(volume.data)
        rounded = Volume((low + step * levels).astype(np.float32), volume.affine)  # a third of the bytes once packed
        write(rounded, folder / f"{stem}_{role}.nii.gz", description="medtrans: for viewing only")


def kept_volumes(folder: Path, stem: str) -> dict[str, Volume]:
    """What `keep_volumes` kept, by role, on one grid; empty where it did not keep all."""
    paths = {role: folder / f"{stem}_{role}.nii.gz" for role in ROLES}
    if not all(path.is_file() for path in paths.values()):
        return {}
    volumes = {role: read(path) for role, path in paths.items()}
    return _on(volumes["prediction"].grid, volumes)  # earlier versions cropped each by itself


def for_viewing(volumes: Mapping[str, Volume]) -> dict[str, Volume]:
    """The volumes on the prediction's grid in RAS+ order, without the border that is empty in all of them.

    While there are more than two million voxels, every second one is taken along the axes with the finest spacing, so
    that what is shown are values of the image and no means.
    """
    grid = canonical(volumes["prediction"].grid)
    placed = {role: volume.data for role, volume in _on(grid, volumes).items()}
    box = _box(placed.values())
    grid = cropped(grid, box)
    strides = np.ones(3, dtype=int)
    while (sides := -(-np.asarray(grid.shape) // strides)).prod() > _MOST_VOXELS:
        spacing = np.where(sides < 4, np.inf, grid.spacing_mm * strides)
        strides = np.where(spacing < 1.5 * spacing.min(), 2 * strides, strides)
    i, j, k = strides
    affine = grid.affine @ np.diag([i, j, k, 1.0])
    return {role: Volume(np.ascontiguousarray(data[box][::i, ::j, ::k]), affine) for role, data in placed.items()}


def quantised(data: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Values as whole levels from 0 to `LEVELS`, the value of level 0, and the step from one level to the next."""
    low, high = float(data.min()), float(data.max())
    step = (high - low) / LEVELS or 1.0
    return np.rint((data - low) / step).astype(np.uint16), low, step


def _on(grid: Grid, volumes: Mapping[str, Volume]) -> dict[str, Volume]:
    return {
        role: Volume(
            regrid(volume.data, volume.grid, grid, fill=float(volume.data.min())).astype(np.float32), grid.affine
        )
        for role, volume in volumes.items()
    }


def _box(volumes: Iterable[np.ndarray]) -> tuple[slice, slice, slice]:
    """Where at least one of the volumes is brighter than its background, and two voxels around."""
    inside = np.logical_or.reduce([data > _dark(data) for data in volumes])
    if not inside.any():
        inside[:] = True
    return box_around(inside, margin=2)


def box_around(inside: np.ndarray, margin: int = 0) -> tuple[slice, slice, slice]:
    """The smallest box with all voxels that are set, and a margin as far as there is one."""
    planes = (np.flatnonzero(inside.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3))
    i, j, k = (slice(max(0, int(along[0]) - margin), int(along[-1]) + 1 + margin) for along in planes)
    return i, j, k


def _dark(data: np.ndarray) -> float:
    low, high = np.percentile(data, (0.5, 99.5))
    return float(low + _DIM * (high - low))
