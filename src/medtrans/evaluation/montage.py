"""Pictures of volumes: source, prediction, target and error side by side in three planes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import image
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

__all__ = ["montage", "png_bytes"]


_DPI = 100
_GAP = 4  # pixels between panels
_HEADER = 24  # pixels above the panels, for the columns' names
_BAR = 84  # pixels right of the panels, for the colour bar
_BACKGROUND, _INK = "#000000", "#d8d8d8"
# Black where there is no error, so that errors stand out on the images' own background; blue and orange are told apart
# by colour-blind readers too.
_ERROR_COLOURS = ("#9fe0ff", "#2b83d6", "#000000", "#d9661f", "#ffd08a")


def montage(
    source: np.ndarray,
    prediction: np.ndarray,
    target: np.ndarray,
    *,
    spacing_mm: Sequence[float],
    mask: np.ndarray | None = None,
    centre: tuple[int, int, int] | None = None,
    unit: str = "",
    value_range: tuple[float, float] | None = None,
    error_range: float | None = None,
    width: int = 1000,
) -> np.ndarray:
    """A picture of one translated volume: axial, coronal and sagittal rows; source, prediction, target, error columns.

    Planes are shown as radiologists see them: the patient's right on the left of axial and coronal planes, anterior on
    the left of the sagittal one; anterior or superior at the top. The letters in the first column say so. All panels
    are drawn at one scale in mm. The error is prediction - target.

    Args:
        source: `(i, j, k)` in RAS+ voxel order, shown between its own 0.5th and 99.5th percentiles.
        prediction: likewise, in `unit`.
        target: likewise, in `unit`.
        spacing_mm: of the grid.
        mask: `(i, j, k)`, non-zero in the foreground; the error is shown inside it only.
        centre: the voxel the planes go through; by default the centroid of `mask`, or without one that of the
            brighter part of the source.
        unit: of prediction, target and error, such as "HU".
        value_range: shown as black and white for prediction and target; by default the target's 0.5th and 99.5th
            percentiles.
        error_range: the error shown in the strongest colour; by default the 99.5th percentile of its magnitude
            where there is any.
        width: of the picture in pixels; the height follows from the volume.

    Returns:
        `(rows, columns, 3)` uint8.
    """
    at = centre or _centre(source, mask)
    error = np.asarray(prediction, dtype=np.float32) - target
    if mask is not None:
        error = np.where(mask != 0, error, 0)
    columns = [_planes(volume, at, spacing_mm) for volume in (source, prediction, target, error)]
    low_high = value_range or _range(columns[2])
    limit = error_range or _strongest(columns[3])
    suffix = f" [{unit}]" if unit else ""
    titles = ("source", "prediction", "target", f"prediction − target{suffix}")
    ranges = (_range(columns[0]), low_high, low_high, (-limit, limit))
    # An odd number of steps, so that one of them is exactly black.
    colours = LinearSegmentedColormap.from_list("error", _ERROR_COLOURS, N=257)

    layout = _layout(columns[0], width)
    figure = Figure(figsize=(width / _DPI, layout.height / _DPI), dpi=_DPI, facecolor=_BACKGROUND)
    canvas = FigureCanvasAgg(figure)
    for column, (planes, title, (low, high)) in enumerate(zip(columns, titles, ranges, strict=True)):
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
            if column == 0:
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


@dataclass(frozen=True)
class _Plane:
    """One plane as it is drawn: `pixels` from the top left, its size in mm, and what lies left and up."""

    pixels: np.ndarray
    width_mm: float
    height_mm: float
    left: str
    up: str


def _planes(volume: np.ndarray, centre: tuple[int, int, int], spacing_mm: Sequence[float]) -> tuple[_Plane, ...]:
    i, j, k = centre
    sizes = [side * step for side, step in zip(volume.shape, spacing_mm, strict=True)]
    # Each cut is (across, up) with both axes growing to R, A or S. Turned over in both directions, it starts at the top
    # left with the high end of both: R or A at the left, A or S at the top.
    cuts = ((volume[:, :, k], 0, 1, "R", "A"), (volume[:, j, :], 0, 2, "R", "S"), (volume[i, :, :], 1, 2, "A", "S"))
    return tuple(
        _Plane(np.asarray(cut).T[::-1, ::-1], sizes[across], sizes[up], left, top)
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


def _name_sides(axes: Axes, plane: _Plane) -> None:
    style = {"color": _INK, "fontsize": 8, "transform": axes.transAxes}
    axes.text(0.02, 0.5, plane.left, ha="left", va="center", **style)  # type: ignore[arg-type] # a mapping of mixed values
    axes.text(0.5, 0.98, plane.up, ha="center", va="top", **style)  # type: ignore[arg-type] # likewise


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
