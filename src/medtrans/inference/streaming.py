"""Translation of an image larger than memory, from file to file."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from itertools import repeat
from pathlib import Path

import numpy as np
import torch

from medtrans.data.checks.images import range_faults, whole_numbers
from medtrans.data.preprocessing import Preprocessing, box_of
from medtrans.data.sampling import foreground_limit
from medtrans.errors import DataError, SetupError
from medtrans.inference.slabs import can_be_ordered, percentiles, translated_slabs
from medtrans.inference.sliding_window import window_layout
from medtrans.inference.translator import DESCRIPTION, Translator
from medtrans.plugins.interfaces import Preprocess
from medtrans.volume import NIFTI_ENDINGS, Grid, read_header
from medtrans.volume.planes import PlaneReader, written_planes
from medtrans.volume.resampling import canonical, cropped, regrid, reordering

__all__ = ["NOT_COMPARED", "refusal", "translate_file"]


NOT_COMPARED = "translated in slabs: not compared with the training images"
"""What the notes of such a translation say."""


def refusal(translator: Translator, image: Path, *, masked: bool) -> str | None:
    """Why an image cannot be translated in slabs; None where it can."""
    config, preprocessing = translator.experiment.config, translator.preprocessing
    reasons = {
        "the run has several sources": len(config.source) > 1,
        "it is neither .nii nor .nii.gz": not image.name.lower().endswith(NIFTI_ENDINGS),
        "a mask is given": masked,
        "preprocess.spacing_mm resamples it": preprocessing.spacing_mm is not None,
        "preprocess.crop is mask": preprocessing.crop == "mask",
        "reading.fill_not_finite is set": config.reading.fill_not_finite is not None,
    }
    if found := next((reason for reason, holds in reasons.items() if holds), None):
        return found
    for name in preprocessing.source:
        if type(preprocessing.scalings[name]).fit_percentiles is Preprocess.fit_percentiles:
            return f"the scaling of {name} is fitted to all voxels at once (window, minmax and percentile are not)"
    for name in (*preprocessing.source, *preprocessing.target):
        if not preprocessing.scalings[name].voxelwise:
            return f"the scaling of {name} looks at more than one voxel at a time"
    kind = read_header(image, translator.rules).dtype
    return None if can_be_ordered(kind) else f"its voxels are {kind}"


def translate_file(translator: Translator, image: Path, outputs: Mapping[str, Path]) -> tuple[str, ...]:
    """Translate an image in slabs along the axis that is slowest in the file.

    The results are those of `Translator.translate`. Memory is taken for as many planes as a window has, see
    `translated_slabs`. The file is read once to look at it and once to translate it; a fitted scaling and a crop to
    the foreground read it up to five times more, since their percentiles are exact.

    Args:
        translator: a run.
        image: `.nii` or `.nii.gz`.
        outputs: for each target the file to write; its folder is made.

    Returns:
        Notes, as those of a `Volume`.

    Raises:
        DataError: the image cannot be read or scaled, or the prediction is not finite.
        SetupError: it cannot go by slabs, or an output cannot be written.
    """
    if reason := refusal(translator, image, masked=False):
        raise SetupError(f"{image}: cannot be translated in slabs: {reason}")
    (name,) = translator.preprocessing.source
    try:
        source = _Source(PlaneReader(image, translator.rules), translator.preprocessing, name)
        source.check()
        sides = [side.stop - side.start for side in source.box]
        _ = source.numbers  # fitted before anything is written
    except (DataError, SetupError) as error:
        raise type(error)(*(f"{name}: {fault}" for fault in error.faults)) from error
    reader = source.reader
    notes = (*(f"{name}: {note}" for note in reader.layout.notes), NOT_COMPARED)
    for note in notes:
        logging.getLogger("medtrans").warning("%s", note)
    translator.warn_of_no_mask()
    windows = translator.windows(sides)
    padded = window_layout(sides, windows).shape != tuple(sides)
    translated = translated_slabs(
        translator.batches(),
        source.slabs(),
        (sides[0], sides[1], sides[2]),
        axis=source.axis,
        descending=source.descending,
        background=source.background if padded else 0.0,
        **windows,
    )
    concluded = (translator.conclude(torch.from_numpy(np.ascontiguousarray(slab))[None]) for slab in translated)
    with ExitStack() as files:
        writers = {}
        for target in translator.experiment.config.target:
            outputs[target].parent.mkdir(parents=True, exist_ok=True)
            planes_of = written_planes(outputs[target], reader.grid, reader.layout.space_code, description=DESCRIPTION)
            writers[target] = files.enter_context(planes_of)
        for planes in source.native(concluded, translator.fills):
            for (target, writer), channel in zip(writers.items(), planes, strict=True):
                writer.write(translator.intensities(target, channel))
    return notes


class _Source:
    """A file as the slabs that networks see, and the way back to its planes.

    Two orders of axes meet here. The file stores `(i, j, k)`, i fastest, so that planes k come one after another;
    networks see RAS+ order, the same voxels with axes exchanged and turned round. For a file that is stored LIA:

        axis of the file    0              1              2 (planes)
        runs to             left           inferior       anterior
        axis in RAS+        0, turned      2, turned      1              -> axis = 1, descending = False

    A slab is some planes in RAS+ order and cut to the box, but along `axis` it runs as the file does: what comes first
    stands first. Both ways are `regrid` between the grids of the same planes, as for a volume in memory.
    """

    def __init__(self, reader: PlaneReader, preprocessing: Preprocessing, name: str) -> None:
        self.reader = reader
        self._scaling = preprocessing.scalings[name]
        self._crop = preprocessing.crop
        self._axes, self._turned = reordering(reader.grid)
        self.axis, self.descending = self._axes[2], self._turned[2]

    @cached_property
    def box(self) -> tuple[slice, slice, slice]:
        """What is kept of the volume, in RAS+ order."""
        shape = self.reader.layout.shape
        kept = [np.full(side, self._crop != "foreground") for side in shape]  # by axis of the file
        if self._crop == "foreground":
            limit = foreground_limit(*percentiles(self.reader.planes, (0.5, 99.5)))
            first = 0
            for planes in self.reader.planes():
                bright = (planes > limit).T
                kept[0] |= bright.any(axis=(1, 2))
                kept[1] |= bright.any(axis=(0, 2))
                kept[2][first : first + len(planes)] = bright.any(axis=(0, 1))
                first += len(planes)
        turned = [part[::-1] if turn else part for part, turn in zip(kept, self._turned, strict=True)]
        return box_of([turned[self._axes.index(axis)] for axis in range(3)])

    @property
    def _planes(self) -> tuple[int, int]:
        """The file's planes that are in the box, from and up to."""
        side, extent = self.box[self.axis], self.reader.layout.shape[2]
        return (extent - side.stop, extent - side.start) if self.descending else (side.start, side.stop)

    def _grids(self, first: int, count: int) -> tuple[Grid, Grid]:
        """Where planes of the file lie: as they are stored, and in RAS+ order cut to the box."""
        i, j, _ = self.reader.layout.shape
        stored = cropped(self.reader.grid, (slice(0, i), slice(0, j), slice(first, first + count)))
        box = [slice(0, count) if axis == self.axis else side for axis, side in enumerate(self.box)]
        return stored, cropped(canonical(stored), (box[0], box[1], box[2]))

    def _in_order(self, volume: np.ndarray) -> np.ndarray:
        """From RAS+ to the order in which planes come, along the one axis where slabs differ from it; and back."""
        return np.flip(volume, self.axis) if self.descending else volume

    def _parts(self) -> Iterator[np.ndarray]:
        first, stop = self._planes
        for planes in self.reader.planes(first, stop):
            yield self._in_order(regrid(planes.T, *self._grids(first, len(planes))))
            first += len(planes)

    def check(self) -> None:
        """Look at each voxel once.

        Raises:
            DataError: as `Preprocessing.prepare`, or the file is damaged.
        """
        low, high, whole = math.inf, -math.inf, True
        for planes in self.reader.planes():
            low, high = min(low, float(planes.min())), max(high, float(planes.max()))
            whole = whole and whole_numbers(planes)
        if faults := range_faults(low, high, lambda: whole, self._scaling):
            raise DataError(*faults.values())

    @cached_property
    def numbers(self) -> Mapping[str, float]:
        """What the scaling is fitted to."""
        numbers = self._scaling.fit_percentiles(lambda percents: percentiles(self._parts, percents))
        if numbers is None:
            raise SetupError("its scaling cannot be fitted in slabs")
        return numbers

    @cached_property
    def background(self) -> float:
        """The smallest value in the box, scaled."""
        lowest = np.full((1, 1, 1), min(part.min() for part in self._parts()))
        return float(self._scaling.apply(lowest, self.numbers).item())

    def slabs(self) -> Iterator[np.ndarray]:
        """The box, scaled: `(1, i, j, k)` a few planes at a time."""
        for part in self._parts():
            yield self._scaling.apply(part, self.numbers)[None]

    def native(self, slabs: Iterator[np.ndarray], fills: Sequence[float]) -> Iterator[np.ndarray]:
        """Slabs in [0, 1] `(c, i, j, k)` as all planes of the file, `(c, n, j, i)`; outside the box `fills`."""
        i, j, k = self.reader.layout.shape
        (first, stop), empty = self._planes, np.empty((len(fills), 1, j, i), np.float32)
        empty[:] = np.reshape(fills, (-1, 1, 1, 1))
        yield from repeat(empty, first)
        for slab in slabs:
            stored, kept = self._grids(first, slab.shape[self.axis + 1])
            channels = zip(slab, fills, strict=True)
            yield np.stack([regrid(self._in_order(one), kept, stored, fill=fill).T for one, fill in channels])
            first += slab.shape[self.axis + 1]
        yield from repeat(empty, k - stop)
