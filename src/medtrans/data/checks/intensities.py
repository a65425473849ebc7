"""What the values of a scan say of themselves: padding, which is no tissue, and a CT that is not in HU."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from medtrans.plugins.interfaces import Preprocess
    from medtrans.volume import Volume

__all__ = ["hounsfield_doubt", "in_hounsfield_units", "settled"]


_AIR = -1000.0  # HU, by definition
_LOWEST_AIR, _HIGHEST_AIR = -1130.0, -850.0  # where scanners put it, with noise, scatter and the steps of a histogram
_TISSUE_ABOVE_AIR = (850.0, 1250.0)  # from the peak of air to that of fat, water or muscle
_PADDED = 1e-3  # least share of the voxels that padding takes
_APART = 100.0  # HU from padding to the nearest value that is measured
_BIN = 20.0  # HU
_PEAK = 0.03  # least share of the voxels in three bins that makes a peak
_SAMPLE = 2_000_000  # voxels that are looked at


def settled(image: Volume, scaling: Preprocess | None) -> Volume:
    """The image with its padding as air, and notes of that and of values that do not fit its unit.

    Padding is one value far from all others that fills what a scan does not reach, such as -3024 in the corners beyond
    a round field of view. It takes the lowest of the other values: what is scaled, cropped and interpolated then knows
    tissue and air alone.

    Args:
        image: as read; label maps and images without a scaling stay as they are.
        scaling: of its modality.
    """
    if scaling is None or scaling.nearest:
        return image
    hounsfield = in_hounsfield_units(scaling)
    notes = []
    for value in _padding(image.data, hounsfield=hounsfield):
        padded = image.data == value
        share = float(padded.mean())
        if share >= _PADDED and not padded.all():
            air = _air_beside(image.data[~padded], scaling)
            image = replace(image, data=np.where(padded, image.data.dtype.type(air), image.data))
            notes.append(f"{value:g} is padding in {share:.1%} of the voxels, and counts as air ({air:g})")
    if hounsfield and (doubt := hounsfield_doubt(image.data)):
        notes.append(doubt)
    return replace(image, notes=image.notes + tuple(notes)) if notes else image


def in_hounsfield_units(scaling: Preprocess) -> bool:
    """Whether a scaling is made for a CT with air: fixed, in HU, from below 0."""
    if scaling.fitted or scaling.unit != "HU":
        return False
    ends = np.array([[[0.0]]], dtype=np.float32)
    return float(scaling.invert(ends, scaling.fit(ends, None)).item()) < 0


def _air_beside(others: np.ndarray, scaling: Preprocess) -> float:
    lowest = float(others.min())
    if not in_hounsfield_units(scaling):
        return lowest
    ends = np.array([[[0.0]]], dtype=np.float32)
    return max(lowest, float(scaling.invert(ends, scaling.fit(ends, None)).item()))


def _padding(data: np.ndarray, *, hounsfield: bool) -> Iterator[float]:
    """The values that may be padding; whether enough voxels have one is for the caller to see."""
    lowest = float(data.min())
    if hounsfield:
        # Nothing is thinner than air. Several values may stand there: that of the scanner and that of a resampler.
        above = data[data > lowest]
        while lowest < _LOWEST_AIR and above.size and float(above.min()) - lowest > _APART:
            yield lowest
            lowest = float(above.min())
            above = above[above > lowest]
        corners = data[np.ix_(*((0, -1),) * 3)]
        corner = float(corners[0, 0, 0])
        # All corners alike and not air, in a scan that knows air: 0 in a CT that begins at -1024.
        has_air = np.mean((data > _LOWEST_AIR) & (data < _HIGHEST_AIR)) >= _PEAK
        if corner > _HIGHEST_AIR and (corners == corner).all() and has_air:
            yield corner
    elif lowest < 0:
        # Without a unit nothing says what air is: only a negative value further away from all others than these are
        # from one another is none of them. A background of 0 stays what it is.
        above = data[data > lowest]
        if above.size and float(above.min()) - lowest > float(above.max()) - float(above.min()):
            yield lowest


def hounsfield_doubt(data: np.ndarray) -> str | None:
    """Why values can hardly be Hounsfield units, with what to do; None where they can.

    Air is -1000 HU and water 0 by definition, and hardly a scan is without air. So the lowest peak of the histogram
    that has tissue some thousand above it is air, wherever it lies.
    """
    values = data.reshape(-1)[:: max(1, data.size // _SAMPLE)].astype(np.float64)
    low, high = float(values.min()), float(values.max())
    if high > 60_000 and low >= 0 and np.mean(values > 64_000) >= _PADDED:
        return (
            f"values reach {high:g}: negative HU seem to be stored without their sign. Subtract 65536 from what lies "
            "above 32767"
        )
    if high - low < 20:
        return (
            f"values go from {low:.4g} to {high:.4g}, which is too narrow for HU (air -1000, water 0): they may be "
            "attenuation per length or HU divided by 1000. Convert the images to HU"
        )
    air = _air_peak(values, low, high)
    if air is not None:
        if _LOWEST_AIR <= air <= _HIGHEST_AIR:
            return None
        shift = round(air - _AIR)
        return (
            f"air lies at about {air:.0f}, which is -1000 in HU: the images seem to be stored {abs(shift)} "
            f"{'above' if shift > 0 else 'below'} HU. {'Subtract' if shift > 0 else 'Add'} that offset (often 1000 or "
            "1024), or export the CT again with its rescale intercept"
        )
    if low >= 0 and high > 1300:
        return (
            f"values go from {low:g} to {high:g} and none is below 0, where HU have air (-1000) and fat: the images "
            "seem to be stored with an offset (often 1000 or 1024). Subtract it, or export the CT again with its "
            "rescale intercept"
        )
    return None


def _air_peak(values: np.ndarray, low: float, high: float) -> float | None:
    """Where air lies: the lowest peak that has a peak of tissue at the right distance above it."""
    edges = np.arange(low - 2 * _BIN, min(high, low + 8000) + 3 * _BIN, _BIN)
    counts, _ = np.histogram(values, edges)
    smooth = np.convolve(counts, np.ones(3), "same") / values.size
    inner = smooth[1:-1]
    peaks = np.flatnonzero((inner >= smooth[:-2]) & (inner >= smooth[2:]) & (inner >= _PEAK)) + 1
    places = edges[peaks] + _BIN / 2
    for place in places:
        near, far = (place + distance for distance in _TISSUE_ABOVE_AIR)
        if not ((places >= near) & (places <= far)).any():
            continue
        peak = values[np.abs(values - place) <= 1.5 * _BIN]
        middle = float(np.median(peak))
        # Outside a mask a CT may be 0 throughout: soft tissue then lies right above it, where beside air is nothing.
        blank = np.mean(peak == middle) > 0.8
        tissue = np.mean((values >= near) & (values <= far))
        if not (blank and np.mean((values > middle + _BIN) & (values <= middle + 150)) > tissue / 3):
            return middle
    return None
