"""NIfTI files read and written a few planes at a time, so that a volume need not fit into memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO

import numpy as np

from medtrans._version import __version__
from medtrans.errors import DataError, SetupError
from medtrans.utils.files import complete_file
from medtrans.volume import nifti_reader
from medtrans.volume.header import ImageHeader
from medtrans.volume.io import unwritable_image
from medtrans.volume.nifti_writer import HEADER_BYTES, header_bytes, opened_sink, storable
from medtrans.volume.rules import NO_RULES, ReadingRules
from medtrans.volume.stream import (
    CHUNK,
    NIFTI_ENDINGS,
    PADDING,
    check_alone,
    check_ending,
    cut,
    damage_named,
    filled,
    opened,
    physical,
    surplus,
)
from medtrans.volume.volume import Grid

__all__ = ["PlaneReader", "PlaneWriter", "written_planes"]


@dataclass(frozen=True)
class PlaneReader:
    """A `.nii` or `.nii.gz` file as its planes k, in the order they are stored.

    Args:
        path: the file.
        rules: how to read what would otherwise be refused.
    """

    path: Path
    rules: ReadingRules = NO_RULES

    @cached_property
    def layout(self) -> ImageHeader:
        """What the header says.

        Raises:
            DataError: all its faults.
        """
        with damage_named(self.path):
            return nifti_reader.layout_of(self.path, self.rules)

    @property
    def grid(self) -> Grid:
        """Where the voxels lie."""
        return Grid(self.layout.shape, self.layout.affine)

    def planes(self, first: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
        """The planes from `first` up to `stop`, some at a time: `(n, j, i)` in physical values, as `volume.read`.

        A pass that reaches the last plane has looked at the whole file, as `volume.read` does.

        Raises:
            DataError: the file is cut off, damaged or too long, or a voxel is not finite.
        """
        layout = self.layout
        i, j, k = layout.shape
        stop = k if stop is None else stop
        plane = i * j * layout.stored.itemsize
        together = max(1, CHUNK // plane)
        with damage_named(self.path), opened(self.path) as stream:
            stream.seek(layout.offset + first * plane)
            for start in range(first, stop, together):
                count = min(together, stop - start)
                stored = np.empty((count, j, i), layout.stored)
                found = filled(stream, stored.reshape(-1).view(np.uint8).data)
                if found < stored.nbytes:
                    raise DataError(f"{self.path}: {cut(start * plane + found, layout)}")
                values, _ = physical(self.path, stored, replace(layout, shape=stored.shape), self.rules)
                yield values
            if stop == k:
                self._refuse_more(stream)

    def _refuse_more(self, stream: BinaryIO) -> None:
        rest = stream.read(PADDING + 1)
        if len(rest) > PADDING or any(rest):
            raise DataError(f"{self.path}: {surplus('dim and datatype', len(rest), self.layout)}")


class PlaneWriter:
    """Takes the planes k of a float32 volume in order."""

    def __init__(self, path: Path, stream: BinaryIO, shape: tuple[int, int, int]) -> None:
        self._path, self._stream, self._shape = path, stream, shape
        self._state = blake2b()
        self._left = shape[2]

    def write(self, planes: np.ndarray) -> None:
        """Append planes `(n, j, i)`.

        Raises:
            DataError: they have another size, are more than there are to be, or are not finite.
        """
        i, j, _ = self._shape
        if planes.shape[1:] != (j, i) or len(planes) > self._left:
            raise DataError(f"{self._path}: found planes {planes.shape}, expected up to {self._left} of {(j, i)}.")
        self._left -= len(planes)
        for plane in planes:
            values = np.ascontiguousarray(plane, "<f4")
            if not np.isfinite(values).all():
                raise DataError(f"{self._path}: a voxel to be written is not finite. Mend the volume.")
            self._stream.write(values.data)
            self._state.update(values.data)

    def digest(self) -> bytes:
        """A hash of all voxels.

        Raises:
            DataError: planes are lacking.
        """
        if self._left:
            raise DataError(f"{self._path}: {self._left} of {self._shape[2]} planes were not given.")
        return self._state.digest()


@contextmanager
def written_planes(path: Path, grid: Grid, space_code: int = 1, *, description: str = "") -> Iterator[PlaneWriter]:
    """Write a float32 volume plane by plane; as `volume.write`, whose bytes it gives, in all else.

    Raises:
        DataError: the name, the size or a plane is none that can be stored, or planes are lacking.
        SetupError: the disk is full, the folder is missing or not writable, or what was written differs.
    """
    check_ending(path, NIFTI_ENDINGS)
    whole = storable(path, np.broadcast_to(np.float32(0), grid.shape))  # takes the memory of one voxel
    header = header_bytes(path, whole, grid.affine, space_code, description or f"medtrans {__version__}")
    try:
        check_alone(path)
        with complete_file(path) as temporary:
            with opened_sink(temporary) as stream:
                stream.write(header)
                writer = PlaneWriter(path, stream, grid.shape)
                yield writer
            _compare(path, temporary, grid, space_code, writer.digest())
    except OSError as error:
        raise SetupError(unwritable_image(path, error, whole.size * 4 + HEADER_BYTES)) from error


def _compare(path: Path, written: Path, grid: Grid, space_code: int, digest: bytes) -> None:
    reader, state = PlaneReader(written), blake2b()
    try:
        for planes in reader.planes():
            state.update(np.ascontiguousarray(planes, "<f4").data)
    except DataError as error:
        raise SetupError(f"{path}: what was written cannot be read back: {error} Check the disk.") from error
    placed = np.array_equal(reader.layout.affine, grid.affine.astype(np.float32))
    if state.digest() != digest or not placed or reader.layout.space_code != space_code:
        raise SetupError(f"{path}: what was written reads back differently; the file was not kept. Check the disk.")
