"""NIfTI files read and written a few planes at a time, so that a volume need not fit into memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from medtrans.errors import DataError
from medtrans.volume import nifti_reader
from medtrans.volume.header import NO_RULES, ImageHeader, ReadingRules
from medtrans.volume.nifti_writer import check_reads_back, new_nifti, open_for_writing
from medtrans.volume.stream import (
    CHUNK,
    PADDING,
    open_nifti,
    physical_values,
    reading_errors,
    surplus_fault,
    truncation_fault,
)
from medtrans.volume.volume import Grid


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
        """What the header says, or a DataError of all its faults."""
        with reading_errors(self.path):
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
        with reading_errors(self.path), open_nifti(self.path) as stream:
            stream.seek(layout.offset + first * plane)
            for start in range(first, stop, together):
                count = min(together, stop - start)
                stored = np.empty((count, j, i), layout.stored)
                found = _read_into(stream, stored.reshape(-1).view(np.uint8).data)
                if found < stored.nbytes:
                    raise DataError(f"{self.path}: {truncation_fault(start * plane + found, layout)}")
                values, _ = physical_values(self.path, stored, replace(layout, shape=stored.shape), self.rules)
                yield values
            rest = stream.read(PADDING + 1) if stop == k else b""
            if len(rest) > PADDING or any(rest):
                raise DataError(f"{self.path}: {surplus_fault('dim and datatype', len(rest), layout)}")


def _read_into(stream: BinaryIO, view: memoryview) -> int:
    """Fill `view` as far as the stream goes; the bytes that were read."""
    end = 0
    try:
        while end < len(view) and (count := cast("Any", stream).readinto1(view[end : end + CHUNK])):
            end += count
    except EOFError:  # a compressed stream cut off: the caller says how far it went
        return end
    return end


class PlaneWriter:
    """Takes the planes k of a float32 volume in order."""

    def __init__(self, path: Path, stream: BinaryIO, shape: tuple[int, int, int]) -> None:
        self._path, self._stream, self._shape = path, stream, shape
        self._state = blake2b()
        self._left = shape[2]

    def write(self, planes: np.ndarray) -> None:
        """Append planes `(n, j, i)`; a DataError where they have another size, are too many, or are not finite."""
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
        """A hash of all voxels; a DataError where planes are lacking."""
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
    whole = np.broadcast_to(np.float32(0), grid.shape)  # takes the memory of one voxel
    with new_nifti(path, whole, grid.affine, space_code, description) as (temporary, header, _):
        with open_for_writing(temporary) as stream:
            stream.write(header)
            writer = PlaneWriter(path, stream, grid.shape)
            yield writer
        digest = writer.digest()
        check_reads_back(path, lambda: _is_same(PlaneReader(temporary), grid, space_code, digest))


def _is_same(reader: PlaneReader, grid: Grid, space_code: int, digest: bytes) -> bool:
    state = blake2b()
    for planes in reader.planes():
        state.update(np.ascontiguousarray(planes, "<f4").data)
    placed = np.array_equal(reader.layout.affine, grid.affine.astype(np.float32))
    return state.digest() == digest and placed and reader.layout.space_code == space_code
