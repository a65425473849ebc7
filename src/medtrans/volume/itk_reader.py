"""MetaImage and NRRD files: a sound header, and voxels that are the bytes it declares; all else is refused."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from medtrans.errors import DataError
from medtrans.volume import metaimage_header, nrrd_header
from medtrans.volume.header import ImageHeader
from medtrans.volume.rules import ReadingRules
from medtrans.volume.stream import CHUNK, PADDING, check_present, cut, length_faults, packed_faults, surplus
from medtrans.volume.text_header import LARGEST_HEADER, Described

__all__ = ["data_file", "layout_of", "voxels_of"]


def layout_of(path: Path, rules: ReadingRules) -> ImageHeader:
    """What the header says, once every field that matters has been checked.

    Raises:
        DataError: all faults of the header, one each.
    """
    return _described(path, rules).layout


def data_file(path: Path, rules: ReadingRules) -> Path:
    """The file that holds the voxels: the header's own or one beside it; raises as `layout_of`."""
    return _described(path, rules).data


def voxels_of(path: Path, rules: ReadingRules) -> tuple[ImageHeader, np.ndarray]:
    """What the header says, and the voxels as stored, `(i, j, k)` in the file's own type and order.

    Raises:
        DataError: all faults of the header, or what is wrong with the bytes: there are fewer than declared, more than
            zeros follow them, or their compression is damaged.
        MemoryError: the voxels do not fit into memory.
    """
    described = _described(path, rules)
    layout, where = described.layout, _where(path, described)
    voxels = np.empty(layout.voxel_bytes // layout.stored.itemsize, layout.stored)
    view, count = voxels.view(np.uint8).data, 0
    with described.data.open("rb") as file:
        file.seek(layout.offset)
        try:
            for piece in _pieces(file, described.packing):
                own = max(0, len(view) - count)
                view[count : count + len(piece)] = piece[:own]
                count += len(piece)
                if count > len(view) + PADDING or any(piece[own:]):
                    raise DataError(f"{where}: {surplus(described.fields, count - len(view), layout)}")
        except EOFError:
            if count >= len(view):
                raise
        except zlib.error as error:
            raise DataError(
                f"{where}: the compressed voxels are damaged ({error}). Copy it again from its source."
            ) from error
    if count < len(view):
        raise DataError(f"{where}: {cut(count, layout)}")
    return layout, voxels.reshape(layout.shape, order="F")


def _described(path: Path, rules: ReadingRules) -> Described:
    check_present(path)
    with path.open("rb") as file:
        block = file.read(LARGEST_HEADER)
    describe = nrrd_header.described if path.name.lower().endswith(".nrrd") else metaimage_header.described
    described = describe(path, block, rules)
    layout, data = described.layout, described.data
    try:
        check_present(data)
    except DataError as error:
        raise DataError(*(f"{path}: its voxels are in another file, and {fault}" for fault in error.faults)) from error
    size = data.stat().st_size
    if described.packing is None:
        faults = length_faults(described.fields, layout, size)
    else:
        faults = packed_faults(described.fields, layout.voxel_bytes, size - layout.offset, "store it uncompressed")
    if found := [f"{_where(path, described)}: {fault}" for fault in faults]:
        raise DataError(*found)
    return described


def _where(path: Path, described: Described) -> str:
    return f"{path}" if described.data == path else f"{path}, {described.data.name!r}"


def _pieces(file: BinaryIO, packing: str | None) -> Iterator[bytes]:
    """The bytes from here to the end of the file, decompressed; fewer where the stream is cut off.

    Raises:
        zlib.error: they are damaged, have no checksum, or go on after it.
    """
    if packing is None:
        while block := file.read(CHUNK):
            yield block
        return
    unpack = zlib.decompressobj(31 if packing == "gzip" else 15)
    while not unpack.eof:
        block = unpack.unconsumed_tail or file.read(CHUNK)
        piece = unpack.decompress(block, CHUNK)
        yield piece
        if not (block or piece or unpack.eof):
            raise EOFError
    if unpack.unused_data or file.read(1):
        raise zlib.error("more follows after their end")
