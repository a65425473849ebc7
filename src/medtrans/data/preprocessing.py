"""Preprocessing: from stored volumes to what networks see, and back; grid, box and intensities, all reversible.

Two kinds of axes meet here. Voxel axes (i, j, k) count the elements of an array, in any order and direction that the
file was written in. World axes (right, front, up, in mm) are what a grid's affine maps them to. Spatial work is done
in voxels of one grid for each case, counted in RAS+ order (i grows towards the right as far as the scan's axes allow);
between grids everything goes by world coordinates alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from medtrans.config.experiment import Experiment
from medtrans.data.checks.images import voxel_faults
from medtrans.data.sampling import foreground
from medtrans.errors import ConfigError, DataError
from medtrans.utils.memory import require_memory
from medtrans.volume.resampling import canonical, covered, cropped, regrid, spaced

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from medtrans.plugins.interfaces import Preprocess
    from medtrans.volume import Grid, Volume

__all__ = ["Prepared", "Preprocessing", "box_of", "make_preprocessing"]


Crop: TypeAlias = Literal["foreground", "mask", "none"]
Box: TypeAlias = tuple[slice, slice, slice]

_BYTES_A_VOXEL = 36  # at the peak: as many as nine float32 volumes
_MARGIN = 2  # voxels kept around a box, so that its border is seen in context
_CLIPPED = 1e-4  # of the scaling's range; a voxel that the way there and back moves further was clipped, not rounded


@dataclass(frozen=True, eq=False)
class Prepared:
    """One case as networks see it, with all that is needed to go back.

    Args:
        source: `(c, i, j, k)` float32 in [0, 1], RAS+ voxel order; a channel for each source modality.
        target: `(c, i, j, k)` float32 in [0, 1]; None unless every target modality is there.
        mask: `(1, i, j, k)` uint8 of 0 and 1; None where the case has none.
        grid: where the voxels of these arrays lie.
        native: where the voxels of the first source lie as stored.
        space_code: NIfTI code of the first source's world space.
        numbers: for each modality what its scaling was fitted to.
        clipped: for each modality the share of voxels whose intensity the scaling clipped, inside the mask where there
            is one.
        partial: the grids of the images, by modality, whose field of view ends inside `grid`.
        uncovered: for each of them the share of `grid`'s voxels that it has no data for.
    """

    source: np.ndarray
    target: np.ndarray | None
    mask: np.ndarray | None
    grid: Grid
    native: Grid
    space_code: int
    numbers: Mapping[str, Mapping[str, float]]
    clipped: Mapping[str, float]
    partial: Mapping[str, Grid] = field(default_factory=dict)
    uncovered: Mapping[str, float] = field(default_factory=dict)

    def valid_on(self, grid: Grid) -> np.ndarray | None:
        """Where every image of the case has data for the voxels of a grid, booleans; None where all have everywhere."""
        return covered(self.partial.values(), grid)

    @property
    def valid(self) -> np.ndarray | None:
        """As `valid_on` of the grid that networks see."""
        return self.valid_on(self.grid)


@dataclass(frozen=True, eq=False)
class _Placed:
    """Images by modality and the mask, all `(i, j, k)` on one grid, intensities as stored.

    `reached` says for the images whose field of view ends inside the grid where they have data.
    """

    arrays: Mapping[str, np.ndarray]
    mask: np.ndarray | None
    grid: Grid
    reached: Mapping[str, np.ndarray]

    def measured(self, name: str) -> tuple[np.ndarray, np.ndarray | None]:
        """An image and the mask, cut to the box that the image has data for, so that no filling is fitted to."""
        mask = None if self.mask is None else self.mask > 0
        if name not in self.reached:
            return self.arrays[name], mask
        box = _box_around(self.reached[name], margin=0)
        return self.arrays[name][box], None if mask is None or not mask[box].any() else mask[box]


class Preprocessing:
    """Brings the images of a case onto one grid and into [0, 1], and a translation back to where its source lay.

    The first source's grid, counted in RAS+ order, resampled to `spacing_mm` and cropped, is the grid of everything.
    Each image is interpolated at most once, from its own grid straight to that one: trilinear, the mask and modalities
    whose scaling says so nearest, and not at all where the voxels coincide. Where an image does not reach, it takes its
    own smallest value.

    Args:
        source: modalities to translate from; each is a channel.
        target: modalities to translate to; each is a channel.
        scalings: for each of these modalities its intensity scaling.
        spacing_mm: voxel size in RAS+ axis order; None keeps the first source's own.
        crop: what is kept, always with a margin of 2 voxels. "foreground": the box around all voxels of the first
            source brighter than its 0.5th percentile by more than a tenth of the distance to the 99.5th; everything
            if there are none. "mask": the box around the mask. "none": everything.

    Raises:
        ConfigError: a modality has no scaling, or `crop` is none of the three.
    """

    def __init__(
        self,
        source: Sequence[str],
        target: Sequence[str],
        scalings: Mapping[str, Preprocess],
        *,
        spacing_mm: Sequence[float] | None = None,
        crop: Crop = "foreground",
    ) -> None:
        faults = [
            f"preprocess.intensity.{modality}: no scaling for this modality; found {', '.join(scalings) or 'none'}; "
            f"add one, such as {{name: percentile}}"
            for modality in dict.fromkeys((*source, *target))
            if modality not in scalings
        ]
        if crop not in ("foreground", "mask", "none"):
            faults.append(f"preprocess.crop: expected foreground, mask or none, found {crop!r}")
        if faults:
            raise ConfigError(*faults)
        self.source = tuple(source)
        self.target = tuple(target)
        self.scalings = dict(scalings)
        self.spacing_mm = spacing_mm
        self.crop = crop

    def prepare(self, images: Mapping[str, Volume]) -> Prepared:
        """The case as networks see it.

        Args:
            images: by modality; "mask" (inside where it is above 0) and the targets may be missing, others are not
                looked at.

        Raises:
            DataError: a source is missing, the mask is missing where it gives the box or holds no voxel, or an image
                cannot be scaled or holds what its scaling is not made for; the message names the modality.
        """
        known = self._known(images)
        faults = [
            f"{name}: {fault}" for name in known for fault in voxel_faults(images[name], self.scalings[name]).values()
        ]
        if faults:
            raise DataError(*faults)
        placed = self._placed(images, known)
        scaled, numbers, clipped = {}, {}, {}
        for name, array in placed.arrays.items():
            scaled[name], numbers[name], clipped[name] = _scale(name, self.scalings[name], array, placed)
        first = images[self.source[0]]
        target = self.target if all(name in images for name in self.target) else ()
        return Prepared(
            source=np.stack([scaled[name] for name in self.source]),
            target=np.stack([scaled[name] for name in target]) if target else None,
            mask=None if placed.mask is None else placed.mask[None],
            grid=placed.grid,
            native=first.grid,
            space_code=first.space_code,
            numbers=numbers,
            clipped=clipped,
            partial={name: images[name].grid for name in placed.reached},
            uncovered={name: float(1 - reached.mean()) for name, reached in placed.reached.items()},
        )

    @property
    def learned(self) -> dict[str, dict[str, list[float]]]:
        """What the scalings learnt from training cases, by modality; only those that learn anything."""
        return {
            name: {key: [float(number) for number in numbers] for key, numbers in scaling.learned.items()}
            for name, scaling in self.scalings.items()
            if scaling.learned
        }

    def learn(self, modality: str, training: Iterable[Mapping[str, Volume]]) -> None:
        """Let a modality's scaling learn from training cases; they are looked at only if it learns anything.

        Args:
            modality: a source or target.
            training: the images of each training case, as `prepare` takes them: the first source, the modality, and
                "mask" where there is one.

        Raises:
            DataError: an image cannot be placed or learnt from.
        """

        def unscaled() -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
            for images in training:
                yield self._placed(images, (modality,)).measured(modality)

        scaling = self.scalings[modality]
        scaling.learned = scaling.learn(unscaled())

    def restore(self, learned: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
        """Give the scalings what they learnt when a run was trained, as `learned` gave it."""
        for modality, lists in learned.items():
            self.scalings[modality].learned = lists

    def to_native(
        self, scaled: np.ndarray, prepared: Prepared, backgrounds: Sequence[float] | None = None
    ) -> np.ndarray:
        """Channels on `prepared.grid` as they lie on the first source's stored grid.

        Bit-exact where the spacing was kept, else trilinear (the target channels of a scaling that says so: nearest);
        background outside the box that was kept.

        Args:
            scaled: `(c, i, j, k)` in [0, 1].
            prepared: what `prepare` gave for the case.
            backgrounds: of each channel, in [0, 1]; None for 0.

        Raises:
            ValueError: `scaled` is not on `prepared.grid`.
        """
        if scaled.ndim != 4 or scaled.shape[1:] != prepared.grid.shape:
            raise ValueError(f"expected (c, i, j, k) with sides {prepared.grid.shape}, found {scaled.shape}")
        # The moves of `prepare` in one, by world coordinates: put back the margins, undo the spacing, count the axes as
        # they were stored. Intensities are the scalings' matter.
        channels = np.asarray(scaled, dtype=np.float32)
        own = len(channels) == len(self.target)
        nearest = [self.scalings[name].nearest for name in self.target] if own else [False] * len(channels)
        return np.stack(
            [
                regrid(channel, prepared.grid, prepared.native, nearest=kept, fill=background)
                for channel, kept, background in zip(
                    channels, nearest, backgrounds or [0.0] * len(channels), strict=True
                )
            ]
        )

    def target_backgrounds(self, found: Sequence[float]) -> list[float]:
        """What lies outside the box of each target, in [0, 1], from `background_of` the targets; 0 of label maps."""
        return [0.0 if self.scalings[name].nearest else one for name, one in zip(self.target, found, strict=True)]

    def native_image(self, image: Volume, prepared: Prepared, *, nearest: bool = False) -> np.ndarray:
        """A stored volume as it lies on the first source's stored grid; untouched where the grids agree.

        Args:
            image: such as the target (trilinear) or labels (`nearest`).
            prepared: what `prepare` gave for the case.
            nearest: keep the values as they are; outside the image is then 0 instead of its smallest value.
        """
        return _image_onto(image, prepared.native, nearest=nearest)

    def placed_image(self, image: Volume, prepared: Prepared, *, nearest: bool = False) -> np.ndarray:
        """A stored volume as it lies on the grid that networks see; as `native_image`."""
        return _image_onto(image, prepared.grid, nearest=nearest)

    def _known(self, images: Mapping[str, Volume]) -> tuple[str, ...]:
        """The modalities to prepare: all sources, and the targets if they are complete.

        Raises:
            DataError: a source is missing.
        """
        missing = [name for name in self.source if name not in images]
        if missing:
            raise DataError(
                *(f"{name}: no such image; it is a source. Found {', '.join(images) or 'none'}" for name in missing)
            )
        target = self.target if all(name in images for name in self.target) else ()
        return tuple(dict.fromkeys((*self.source, *target)))

    def _placed(self, images: Mapping[str, Volume], modalities: Sequence[str]) -> _Placed:
        """The images on the case's grid and in its box, in their native intensities."""
        first = images[self.source[0]]
        # canonical only counts the stored voxels in another order: no value changes, an oblique scan stays oblique.
        # Where the spacing changes, the voxels do too, and this is the one interpolation there is.
        whole = canonical(first.grid)
        if self.spacing_mm is not None:
            whole = spaced(whole, self.spacing_mm)
        # A header may claim voxels of a metre, which a spacing of a millimetre cuts into a thousand each.
        taken = _BYTES_A_VOXEL * math.prod(whole.shape)
        require_memory(taken, f"preparing {' × '.join(map(str, whole.shape))} voxels of {self.source[0]}")
        reference = _image_onto(first, whole)
        mask = (
            regrid((images["mask"].data > 0).astype(np.uint8), images["mask"].grid, whole, nearest=True)
            if "mask" in images
            else None
        )
        # The box is found in voxels of that grid. A crop moves the grid's origin along with its first voxel, so that
        # world coordinates hold, and `to_native` needs nothing but the two grids to undo all of this at once.
        box = self._box(reference, mask)
        grid = cropped(whole, box)
        if mask is not None:
            mask = np.ascontiguousarray(mask[box])
            if not mask.any():
                raise DataError("mask: it holds no voxel of the source; check the file, or leave it out of the dataset")
        # Other images go from their own grid straight to the cropped one, not by way of the first one's stored grid.
        arrays = {
            name: reference[box]
            if name == self.source[0]
            else _image_onto(images[name], grid, nearest=self.scalings[name].nearest)
            for name in modalities
        }
        reached = {name: covered([images[name].grid], grid) for name in modalities if name != self.source[0]}
        found = {name: one for name, one in reached.items() if one is not None and not one.all()}
        everywhere = np.ones(grid.shape, dtype=bool) if mask is None else mask > 0
        if found and not np.logical_and.reduce([everywhere, *found.values()]).any():
            raise DataError(
                f"{', '.join(found)}: no data where {self.source[0]} and the mask are; the images of a case must "
                "lie in one world space: register them, or exclude the case"
            )
        return _Placed(arrays, mask, grid, found)

    def _box(self, reference: np.ndarray, mask: np.ndarray | None) -> Box:
        if self.crop == "mask":
            if mask is None:
                raise DataError(
                    "mask: no such image, but preprocess.crop is mask; give the case a mask, "
                    "or set preprocess.crop: foreground"
                )
            return _box_around(mask > 0)
        if self.crop == "foreground":
            low, high = np.percentile(reference, (0.5, 99.5))  # robust: one hot voxel would hide a whole head
            return _box_around(foreground(reference, (low, high)))
        return _box_around(np.ones_like(reference, dtype=bool))


def _image_onto(image: Volume, grid: Grid, *, nearest: bool = False) -> np.ndarray:
    return regrid(image.data, image.grid, grid, nearest=nearest, fill=0.0 if nearest else float(image.data.min()))


def _box_around(inside: np.ndarray, margin: int = _MARGIN) -> Box:
    planes = [np.asarray(inside.any(axis=tuple(other for other in range(3) if other != axis))) for axis in range(3)]
    return box_of(planes, margin)


def box_of(planes: Sequence[np.ndarray], margin: int = _MARGIN) -> Box:
    """The box, with its margin, around the planes to keep along each axis; along an axis without any, all of it."""
    sides = []
    for kept in planes:
        found = np.flatnonzero(kept)
        if not found.size:
            found = np.arange(len(kept))
        sides.append(slice(max(0, int(found[0]) - margin), min(len(kept), int(found[-1]) + 1 + margin)))
    i, j, k = sides
    return i, j, k


def _scale(
    modality: str, scaling: Preprocess, array: np.ndarray, placed: _Placed
) -> tuple[np.ndarray, dict[str, float], float]:
    mask = placed.mask
    try:
        numbers = scaling.fit(*placed.measured(modality))
    except DataError as error:
        raise DataError(*(f"{modality}: {fault}" for fault in error.faults)) from error
    scaled = scaling.apply(array, numbers)
    # What is clipped is not asked of the scaling but seen: it does not come back. Rounding in float32 moves voxels too,
    # but by less than any clipping that matters.
    back = scaling.invert(scaled, numbers)
    low, high = scaling.invert(np.array([[[0.0, 1.0]]], dtype=np.float32), numbers).ravel()
    moved = np.abs(back - array) > _CLIPPED * abs(float(high) - float(low))
    counted = np.ones_like(moved) if mask is None else mask > 0
    if modality in placed.reached:
        counted = counted & placed.reached[modality]
    return scaled, numbers, float(np.mean(moved[counted]))


def make_preprocessing(experiment: Experiment) -> Preprocessing:
    """The preprocessing of the config's sources and targets."""
    config = experiment.config
    scalings = {
        modality: experiment.build("preprocess", "intensity", modality) for modality in config.preprocess.intensity
    }
    return Preprocessing(
        config.source,
        config.target,
        scalings,
        spacing_mm=config.preprocess.spacing_mm,
        crop=config.preprocess.crop,
    )
