"""MetaImage and NRRD files: a sound header, and voxels that are the bytes it declares; all else is refused."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from medtrans.errors import DataError
from medtrans.volume.header import ImageHeader, ReadingRules
from medtrans.volume.itk_headers import LARGEST_HEADER, ItkHeader, metaimage_header, nrrd_header
from medtrans.volume.stream import CHUNK, check_present, compression_faults, length_faults, stored_voxels


def layout_of(path: Path, rules: ReadingRules) -> ImageHeader:
    """What the header says, or a DataError of all faults of the fields that matter."""
    return _read_header(path, rules).layout


def data_file(path: Path, rules: ReadingRules) -> Path:
    """The file that holds the voxels: the header's own or one beside it; raises as `layout_of`."""
    return _read_header(path, rules).data_file


def voxels_of(path: Path, rules: ReadingRules) -> tuple[ImageHeader, np.ndarray]:
    """What the header says, and the voxels as stored, `(i, j, k)`; or a DataError of all faults of header or bytes."""
    header = _read_header(path, rules)
    layout, where = header.layout, _place(path, header)
    with header.data_file.open("rb") as file:
        file.seek(layout.offset)
        try:
            return layout, stored_voxels(where, _chunks(file, header.compression), layout, header.size_fields)
        except zlib.error as error:
            raise DataError(
                f"{where}: the compressed voxels are damaged ({error}). Copy it again from its source."
            ) from error


def _read_header(path: Path, rules: ReadingRules) -> ItkHeader:
    check_present(path)
    with path.open("rb") as file:
        block = file.read(LARGEST_HEADER)
    parse = nrrd_header if path.name.lower().endswith(".nrrd") else metaimage_header
    header = parse(path, block, rules)
    try:
        check_present(header.data_file)
    except DataError as error:
        raise DataError(*(f"{path}: its voxels are in another file, and {fault}" for fault in error.faults)) from error
    layout, fields, size = header.layout, header.size_fields, header.data_file.stat().st_size
    if header.compression is None:
        faults = length_faults(fields, layout, size)
    else:
        faults = compression_faults(fields, layout.voxel_bytes, size - layout.offset, "store it uncompressed")
    if found := [f"{_place(path, header)}: {fault}" for fault in faults]:
        raise DataError(*found)
    return header


def _place(path: Path, header: ItkHeader) -> str:
    return f"{path}" if header.data_file == path else f"{path}, {header.data_file.name!r}"


def _chunks(file: BinaryIO, compression: str | None) -> Iterator[bytes]:
    """The bytes from here to the end of the file, decompressed.

    Raises:
        EOFError: the compressed stream is cut off.
        zlib.error: it is damaged, has no checksum, or goes on after it.
    """
    if compression is None:
        while block := file.read(CHUNK):
            yield block
        return
    stream = zlib.decompressobj(31 if compression == "gzip" else 15)  # zlib's numbers for the two kinds of envelope
    while not stream.eof:
        block = stream.unconsumed_tail or file.read(CHUNK)
        chunk = stream.decompress(block, CHUNK)
        yield chunk
        if not (block or chunk or stream.eof):
            raise EOFError
    if stream.unused_data or file.read(1):
        raise zlib.error("more follows after their end")
