"""Which images a run refuses: by their headers, by where they lie in the world, and by their voxels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from medtrans.errors import DataError
from medtrans.utils.messages import capped, listed, sides
from medtrans.volume import NO_RULES, Header, ReadingRules, read_header
from medtrans.volume.resampling import counted_like

if TYPE_CHECKING:
    from medtrans.data.cohort import Cohort, Member
    from medtrans.plugins.interfaces import Case, Preprocess
    from medtrans.volume import Grid, Volume

__all__ = [
    "apart",
    "check_headers",
    "headers_of",
    "looks_like_labels",
    "range_faults",
    "resampled_warnings",
    "voxel_faults",
    "whole_numbers",
]


_LARGEST_GREY = 255
_MOST_LABELS = 50
_SAMPLE = 20_000  # voxels that are tried first


def check_headers(
    cohort: Cohort, source: Sequence[str], target: Sequence[str], rules: ReadingRules = NO_RULES
) -> list[str]:
    """Read the header of every file and compare each image's place in the world with the first source's.

    Images that functions make are trusted. An image on another grid is legal, since it is resampled onto the first
    source's; it must cover at least half of the first source's field of view (a mask or labels: some of it).

    Args:
        cohort: whose files to look at.
        source: modalities; the first one's grid is the case's grid.
        target: modalities.
        rules: how headers are read that would otherwise be refused.

    Returns:
        Warnings: one an image that a rule was needed for, and one a modality where grids differ by more than a tenth
        of a voxel.

    Raises:
        DataError: naming together every header that is refused and every pair that is apart.
    """
    faults: list[str] = []
    by_rule: list[str] = []
    resampled: list[tuple[Member, Mapping[str, float]]] = []
    for member in cohort.members:
        headers, unreadable = headers_of(member.case, [*source, *target, "mask", "labels"], rules)
        faults += [fault for several in unreadable.values() for fault in several]
        by_rule += [
            f"{member.label}, {modality}: {note}" for modality, header in headers.items() for note in header.notes
        ]
        grids = {modality: header.grid for modality, header in headers.items()}
        away, moved = apart(member.case, source[0], grids)
        faults += away.values()
        resampled.append((member, moved))
    if faults:
        raise DataError(*capped(faults))
    return by_rule + resampled_warnings(source[0], resampled)


def headers_of(
    case: Case, modalities: Iterable[str], rules: ReadingRules = NO_RULES
) -> tuple[dict[str, Header], dict[str, list[str]]]:
    """The header of each image that is a file, and what is wrong with the others', by modality."""
    headers: dict[str, Header] = {}
    faults: dict[str, list[str]] = {}
    for modality in dict.fromkeys(modalities):
        image = case.images.get(modality)
        try:
            if image is not None and not callable(image):
                headers[modality] = read_header(image, rules)
        except DataError as error:
            faults[modality] = [f'case "{case.case}", {modality}: {fault}' for fault in error.faults]
    return headers, faults


def apart(case: Case, first: str, grids: Mapping[str, Grid]) -> tuple[dict[str, str], dict[str, float]]:
    """Compare the grids of a case's images with its first source's.

    Args:
        case: whose images they are.
        first: the first source.
        grids: by modality; without the first source's there is nothing to say.

    Returns:
        By modality, what is wrong where the images do not lie together; and by modality, the distance of the corners
        in mm where they do, but on another grid.
    """
    faults: dict[str, str] = {}
    resampled: dict[str, float] = {}
    here = grids.get(first)
    for modality, grid in grids.items():
        if here is None or modality == first:
            continue
        covered, apart_mm = _covered(here, grid), _apart_mm(here, grid)
        if covered == 0 or (covered < 0.5 and modality not in ("mask", "labels")):
            faults[modality] = (
                f'case "{case.case}": {first} is {_shown(here)}, {modality} is {_shown(grid)}; their corners are up to '
                f"{apart_mm:.1f} mm apart and {modality} covers {covered:.0%} of {first}'s field of view. The images "
                "of a case must lie in one world space: register them first"
            )
        elif here.shape != counted_like(grid, here).shape or apart_mm > 0.1 * min(here.spacing_mm):
            resampled[modality] = apart_mm
    return faults, resampled


def resampled_warnings(first: str, found: Sequence[tuple[Member, Mapping[str, float]]]) -> list[str]:
    """A warning for each modality on another grid than the first source, from what `apart` gave for every case."""
    warnings = []
    for modality in dict.fromkeys(modality for _, moved in found for modality in moved):
        pairs = [(member.label, moved[modality]) for member, moved in found if modality in moved]
        warnings.append(
            f"{modality} lies on another grid than {first} in {len(pairs)} of {len(found)} cases "
            f"({listed([label for label, _ in pairs])}; corners up to {max(mm for _, mm in pairs):.2f} mm apart) and "
            "is resampled onto it"
        )
    return warnings


def _apart_mm(one: Grid, other: Grid) -> float:
    """The largest distance between corners, whatever the order the voxels are stored in."""
    between = one.corners_mm() - counted_like(other, one).corners_mm()
    return float(np.linalg.norm(between, axis=1).max())


def _covered(one: Grid, other: Grid) -> float:
    """The share of `one`'s field of view that `other` covers, by 9 × 9 × 9 points."""
    along = [(np.arange(9) + 0.5) / 9 * side - 0.5 for side in one.shape]
    points = np.stack(np.meshgrid(*along, indexing="ij"), axis=-1).reshape(-1, 3)
    move = np.linalg.solve(other.affine, one.affine)
    at = points @ move[:3, :3].T + move[:3, 3]
    border = 0.5 + 1e-3  # of a voxel: a point on the border of both counts, whichever way it is rounded
    return float(((at >= -border) & (at <= np.asarray(other.shape) - 1 + border)).all(axis=1).mean())


def _shown(grid: Grid) -> str:
    return f"{sides(grid.shape)} at {sides(grid.spacing_mm)} mm"


def voxel_faults(image: Volume, scaling: Preprocess) -> dict[str, str]:
    """Why a stored image may not be scaled, in a word and as a sentence that follows "modality: "."""
    low, high = float(image.data.min()), float(image.data.max())
    if not np.isfinite([low, high]).all():
        count = int((~np.isfinite(image.data)).sum())
        found = f"{count:,} of {image.data.size:,} voxels are NaN or infinite"
        return {"not finite": f"{found}, expected finite numbers; mend the image or exclude the case"}
    return range_faults(low, high, lambda: whole_numbers(image.data), scaling)


def range_faults(low: float, high: float, whole: Callable[[], bool], scaling: Preprocess) -> dict[str, str]:
    """As `voxel_faults`, of an image from `low` to `high`; `whole` says whether all values are whole numbers."""
    if low == high and not scaling.nearest:
        return {"constant": f"every voxel is {low:g}: nothing to normalise; exclude the case"}
    lower, upper = _limits(scaling) if not scaling.fitted and scaling.unit == "HU" else (0.0, 0.0)
    # A scaling for air and bone, which the grey values of a picture cannot hold.
    if lower < 0 and upper > _LARGEST_GREY >= high and low >= 0 and whole():
        found = f"all values are whole numbers from {low:g} to {high:g}"
        advice = "Export it again in HU, or give it a scaling that suits it, such as minmax"
        expected = f"HU are expected ({lower:g} to {upper:g})"
        return {"not in HU": f"{found}, but {expected}. Was it exported as a picture? {advice}"}
    return {}


def looks_like_labels(image: Volume) -> int:
    """How many different values an image has that looks like a label map, else 0: at most 50, all whole numbers."""
    values = image.data.reshape(-1)
    some = np.unique(values[:: max(1, values.size // _SAMPLE)])
    if len(some) > _MOST_LABELS or not whole_numbers(some):
        return 0
    every = np.unique(values)
    return len(every) if 1 < len(every) <= _MOST_LABELS and whole_numbers(every) else 0


def whole_numbers(values: np.ndarray) -> bool:
    """Whether all values are whole."""
    return values.dtype.kind in "biu" or bool((values == np.rint(values)).all())


def _limits(scaling: Preprocess) -> tuple[float, float]:
    """The native intensities of 0 and 1 of a scaling that is not fitted."""
    ends = np.array([[[0.0, 1.0]]], dtype=np.float32)
    low, high = scaling.invert(ends, scaling.fit(ends, None)).ravel()
    return float(low), float(high)
