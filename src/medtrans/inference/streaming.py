"""Translation of an image larger than memory, from file to file."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from medtrans._version import __version__
from medtrans.data.checks.voxels import range_faults, whole_numbers
from medtrans.data.preprocessing import Preprocessing, box_of, foreground_limit
from medtrans.errors import DataError, SetupError
from medtrans.inference.slabs import can_be_ordered, percentiles, translated_slabs
from medtrans.inference.translator import Translator
from medtrans.plugins.interfaces import Preprocess
from medtrans.volume import NIFTI_ENDINGS
from medtrans.volume.planes import PlaneReader, written_planes
from medtrans.volume.resampling import canonical, reordering

__all__ = ["NOT_COMPARED", "VOLUMES_IN_MEMORY", "free_memory", "refusal", "streams", "translate_file"]


_MACHINE = Path("/proc/meminfo")
_CONTAINER = Path("/sys/fs/cgroup")


def free_memory(machine: Path = _MACHINE, container: Path = _CONTAINER) -> int | None:
    """Bytes that this process may still take, in its container where it has one; None where nobody knows.

    Args:
        machine: what Linux says of the machine.
        container: what it says of the control group.
    """
    free = [bytes_free for bytes_free in (_of_machine(machine), _of_container(container)) if bytes_free is not None]
    return min(free, default=None)


def _of_machine(path: Path) -> int | None:
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def _of_container(folder: Path) -> int | None:
    try:
        limit = (folder / "memory.max").read_text(encoding="ascii").strip()
        used = int((folder / "memory.current").read_text(encoding="ascii"))
        facts = (folder / "memory.stat").read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        return None
    # Cached files count as used, and go where memory is needed.
    cached = sum(int(line.split()[1]) for line in facts if line.startswith(("inactive_file ", "active_file ")))
    return None if limit == "max" else max(0, int(limit) - used + cached)


VOLUMES_IN_MEMORY = 9
"""Float32 volumes that translating an image in memory takes at its peak, rounded up from what was measured."""

NOT_COMPARED = "translated in slabs: not compared with the training images"
"""What the notes of such a translation say."""


def streams(translator: Translator, image: Path, *, masked: bool) -> bool:
    """Whether an image is too large to be translated in memory, so that it goes by slabs.

    Raises:
        SetupError: it is too large, and something about it or the run does not go by slabs.
    """
    if not image.name.lower().endswith(NIFTI_ENDINGS):
        return False
    shape = _reader(translator, image).layout.shape
    needed, free = VOLUMES_IN_MEMORY * 4 * math.prod(shape), free_memory()
    if free is None or needed <= free:
        return False
    if reason := refusal(translator, image, masked=masked):
        raise SetupError(
            f"{image}: translating it takes about {needed / 2**30:.1f} GiB of memory, {free / 2**30:.1f} GiB are "
            f"free, and it cannot be translated in slabs: {reason}. Use a machine with more memory, or cut the image"
        )
    return True


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
    found = next((reason for reason, holds in reasons.items() if holds), None)
    return found or _unstreamed_scaling(preprocessing) or _unordered(translator, image)


def _unstreamed_scaling(preprocessing: Preprocessing) -> str | None:
    for name in preprocessing.source:
        if type(preprocessing.scalings[name]).fit_percentiles is Preprocess.fit_percentiles:
            return f"the scaling of {name} is fitted to all voxels at once (window, minmax and percentile are not)"
    for name in (*preprocessing.source, *preprocessing.target):
        if not preprocessing.scalings[name].voxelwise:
            return f"the scaling of {name} looks at more than one voxel at a time"
    return None


def _unordered(translator: Translator, image: Path) -> str | None:
    kind = _reader(translator, image).layout.dtype
    return None if can_be_ordered(kind) else f"its voxels are {kind}"


def _reader(translator: Translator, image: Path) -> PlaneReader:
    return PlaneReader(image, translator.experiment.config.reading.rules)


def translate_file(translator: Translator, image: Path, outputs: Mapping[str, Path]) -> tuple[str, ...]:
    """Translate an image in slabs along the axis that is slowest in the file.

    The results are those of `Translator.translate`. Memory is taken for as many planes as a window has, see
    `medtrans.streaming`. The file is read once to look at it and once to translate it; a fitted scaling and a crop to
    the foreground read it up to five times more, since their percentiles are exact.

    Args:
        translator: a run.
        image: `.nii` or `.nii.gz`.
        outputs: for each target the file to write, in a folder that exists.

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
        source = _Source(_reader(translator, image), translator.preprocessing, name)
        source.check()
        numbers = source.numbers
    except DataError as error:
        raise DataError(*(f"{name}: {fault}" for fault in error.faults)) from error
    reader, grid = source.reader, source.reader.grid
    notes = (*(f"{name}: {note}" for note in reader.layout.notes), NOT_COMPARED)
    for note in notes:
        logging.getLogger("medtrans").warning("%s", note)
    translator.warn_of_no_mask()
    sides = [side.stop - side.start for side in source.box]
    translated = translated_slabs(
        translator.batches(),
        source.slabs(numbers),
        (sides[0], sides[1], sides[2]),
        axis=source.axis,
        descending=source.descending,
        **translator.windows(sides),
    )
    with ExitStack() as files:
        writers = [
            files.enter_context(
                written_planes(
                    outputs[target],
                    grid,
                    reader.layout.space_code,
                    description=f"medtrans {__version__}: synthetic, research use only",
                )
            )
            for target in translator.experiment.config.target
        ]
        for planes in source.native(_concluded(translator, translated), len(writers)):
            for writer, channel, target in zip(writers, planes, translator.experiment.config.target, strict=True):
                writer.write(translator.intensities(target, channel))
    return notes


def _concluded(translator: Translator, slabs: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    for slab in slabs:
        whole = translator.method.conclude(torch.from_numpy(np.ascontiguousarray(slab))[None])[0].numpy()
        if broken := int(whole.size - np.count_nonzero(np.isfinite(whole))):
            raise DataError(
                f"the prediction is not finite in {broken} of {whole.size} voxels of a slab: the weights are unusable"
            )
        yield whole


@dataclass(frozen=True)
class _Source:
    """A file as the slabs that networks see, and the way back to its planes."""

    reader: PlaneReader
    preprocessing: Preprocessing
    name: str

    @cached_property
    def _turn(self) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
        return reordering(self.reader.grid)

    @property
    def axis(self) -> int:
        """The axis in RAS+ order that the file's planes follow one another along."""
        return self._turn[0][2]

    @property
    def descending(self) -> bool:
        """Whether they follow one another against it."""
        return self._turn[1][2]

    @cached_property
    def box(self) -> tuple[slice, slice, slice]:
        """What is kept of the volume in RAS+ order."""
        shape = canonical(self.reader.grid).shape
        if self.preprocessing.crop != "foreground":
            return slice(0, shape[0]), slice(0, shape[1]), slice(0, shape[2])
        low, high = percentiles(self.reader.planes, (0.5, 99.5))
        limit = foreground_limit(low, high)
        kept = [np.zeros(side, dtype=bool) for side in shape]
        place = 0
        for planes in self.reader.planes():
            inside = self._canonical(planes > limit)
            for axis in range(3):
                found = inside.any(axis=tuple(other for other in range(3) if other != axis))
                if axis == self.axis:
                    kept[axis][place : place + len(planes)] = found
                else:
                    kept[axis] |= found
            place += len(planes)
        if self.descending:
            kept[self.axis] = kept[self.axis][::-1]
        return box_of(kept)

    @property
    def _range(self) -> tuple[int, int]:
        """The file's planes that are in the box."""
        side, extent = self.box[self.axis], self.reader.layout.shape[2]
        return (extent - side.stop, extent - side.start) if self.descending else (side.start, side.stop)

    def check(self) -> None:
        """Look at each voxel once.

        Raises:
            DataError: as `Preprocessing.prepare`, or the file is damaged.
        """
        low, high, whole = math.inf, -math.inf, True
        for planes in self.reader.planes():
            low, high = min(low, float(planes.min())), max(high, float(planes.max()))
            whole = whole and whole_numbers(planes)
        if faults := range_faults(low, high, lambda: whole, self.preprocessing.scalings[self.name]):
            raise DataError(*faults.values())

    @cached_property
    def numbers(self) -> dict[str, float]:
        """What the scaling is fitted to."""
        numbers = self.preprocessing.scalings[self.name].fit_percentiles(
            lambda percents: percentiles(self._parts, percents)
        )
        if numbers is None:
            raise SetupError(f"{self.name}: its scaling cannot be fitted in slabs")
        return numbers

    def slabs(self, numbers: Mapping[str, float]) -> Iterator[np.ndarray]:
        """The box, scaled: `(1, i, j, k)` a few planes at a time, in the file's order."""
        for part in self._parts():
            yield self.preprocessing.scalings[self.name].apply(part, numbers)[None]

    def _parts(self) -> Iterator[np.ndarray]:
        across = tuple(slice(None) if axis == self.axis else side for axis, side in enumerate(self.box))
        for planes in self.reader.planes(*self._range):
            yield self._canonical(planes)[across]

    def native(self, slabs: Iterator[np.ndarray], channels: int) -> Iterator[np.ndarray]:
        """Slabs in [0, 1] `(c, i, j, k)` as all planes of the file, `(c, n, j, i)`; 0 outside the box."""
        i, j, k = self.reader.layout.shape
        first, stop = self._range
        yield from _nothing(channels, first, (j, i))
        across = tuple(slice(None) if axis == self.axis else side for axis, side in enumerate(self.box))
        for slab in slabs:
            shape = list(canonical(self.reader.grid).shape)
            shape[self.axis] = slab.shape[self.axis + 1]
            whole = np.zeros((channels, *shape), np.float32)
            whole[(slice(None), *across)] = slab
            yield np.stack([self._stored(channel) for channel in whole])
        yield from _nothing(channels, k - stop, (j, i))

    def _canonical(self, planes: np.ndarray) -> np.ndarray:
        """Planes `(n, j, i)` in RAS+ order, but along the slow axis in the file's."""
        axes, flipped = self._turn
        return np.flip(np.transpose(planes.T, np.argsort(axes)), self._across_flipped(axes, flipped))

    def _stored(self, volume: np.ndarray) -> np.ndarray:
        """The way back."""
        axes, flipped = self._turn
        return np.transpose(np.flip(volume, self._across_flipped(axes, flipped)), axes).T

    @staticmethod
    def _across_flipped(axes: Sequence[int], flipped: Sequence[bool]) -> tuple[int, ...]:
        return tuple(axis for axis, turned in zip(axes[:2], flipped[:2], strict=True) if turned)


def _nothing(channels: int, planes: int, sides: tuple[int, int]) -> Iterator[np.ndarray]:
    for _ in range(planes):
        yield np.zeros((channels, 1, *sides), np.float32)
