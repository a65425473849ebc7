"""Owns MetaImage and NRRD files: a header that is sound before SimpleITK sees it, voxels that are the file's bytes."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from medtrans import meta_header, nrrd_header
from medtrans.errors import DataError
from medtrans.image_layout import Layout
from medtrans.image_stream import CHUNK, PADDING, check_present, cut, length_faults, packed_faults, surplus
from medtrans.placement import TOLERANCE_VOXELS, distance_mm, spacing_mm
from medtrans.reading_rules import ReadingRules
from medtrans.text_header import LARGEST_HEADER, RAS_OF_LPS, Described

__all__ = ["data_file", "layout_of", "voxels_of"]

_CONVERT = "Convert it to NIfTI with the program that wrote it."


def layout_of(path: Path, rules: ReadingRules) -> Layout:
    """What the header says, once every field that matters has been checked.

    Raises:
        DataError: all faults of the header, one each.
    """
    return _described(path, rules).layout


def data_file(path: Path, rules: ReadingRules) -> Path:
    """The file that holds the voxels: the header's own or one beside it; raises as `layout_of`."""
    return _described(path, rules).data


def voxels_of(path: Path, rules: ReadingRules) -> tuple[Layout, np.ndarray]:
    """What the header says, and the voxels as stored, `(i, j, k)` in this machine's byte order.

    SimpleITK decodes them. It gives rubbish for some files without a word; so what it gives is compared with the
    header and with a checksum of the file's own bytes.

    Raises:
        DataError: all faults of the header, or what is wrong with the bytes.
        MemoryError: the voxels do not fit into memory.
    """
    described = _described(path, rules)
    expected = _checksum(path, described)
    image = _decoded(path, described)
    view = _agreeing(path, image, described.layout)
    found = 0
    for plane in view:
        found = zlib.crc32(plane.astype(described.layout.stored, copy=False).tobytes(), found)
    if found != expected:
        raise DataError(f"{path}: SimpleITK gives other voxels than the file holds. {_CONVERT}")
    return described.layout, np.ascontiguousarray(view.transpose(2, 1, 0))  # a copy: the view dies with the image


def _described(path: Path, rules: ReadingRules) -> Described:
    check_present(path)
    try:
        str(path).encode()
    except UnicodeEncodeError as error:  # SimpleITK would end the process
        raise DataError(f"{str(path)!r}: the name is no UTF-8 text, which SimpleITK needs. Rename it.") from error
    with path.open("rb") as file:
        block = file.read(LARGEST_HEADER)
    describe = nrrd_header.described if path.name.lower().endswith(".nrrd") else meta_header.described
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


def _checksum(path: Path, described: Described) -> int:
    """CRC-32 of the voxels' bytes, once it is sure that they are all there and that nothing but zeros follows."""
    layout, where = described.layout, _where(path, described)
    crc, count = 0, 0
    with described.data.open("rb") as file:
        file.seek(layout.offset)
        try:
            for piece in _pieces(file, described.packing):
                own = layout.voxel_bytes - count
                crc = zlib.crc32(piece[: max(0, own)], crc)
                count += len(piece)
                if count > layout.voxel_bytes + PADDING or any(piece[max(0, own) :]):
                    raise DataError(f"{where}: {surplus(described.fields, count - layout.voxel_bytes, layout)}")
        except EOFError:
            if count >= layout.voxel_bytes:
                raise
        except zlib.error as error:
            raise DataError(
                f"{where}: the compressed voxels are damaged ({error}). Copy it again from its source."
            ) from error
    if count < layout.voxel_bytes:
        raise DataError(f"{where}: {cut(count, layout)}")
    return crc


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


def _decoded(path: Path, described: Described) -> Any:
    """What SimpleITK makes of a file whose header is sound and whose bytes are all there."""
    import SimpleITK as sitk  # noqa: N813 -- its usual name; imported only where such a file is read

    reader = cast("Any", sitk).ImageFileReader()
    reader.SetImageIO(described.reader)
    reader.SetFileName(str(path))
    try:
        return reader.Execute()
    except RuntimeError as error:
        if "memory" in str(error):
            raise MemoryError from error
        said = str(error).strip().splitlines()[-1]
        raise DataError(f"{path}: SimpleITK cannot read it ({said}). {_CONVERT}") from error


def _agreeing(path: Path, image: Any, layout: Layout) -> np.ndarray:
    """The voxels of a SimpleITK image as a view `(k, j, i)`, once size, type and place are those of the header."""
    import SimpleITK as sitk  # noqa: N813 -- its usual name

    view = np.asarray(sitk.GetArrayViewFromImage(image))
    affine = np.eye(4)
    if (view.shape[::-1], view.dtype) == (layout.shape, layout.stored.newbyteorder("=")):
        affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
        affine[:3, 3] = image.GetOrigin()
        apart = distance_mm(layout.shape, layout.affine, RAS_OF_LPS @ affine)
        if apart <= TOLERANCE_VOXELS / 10 * min(spacing_mm(layout.affine)):
            return view
        found, expected = f"corners up to {apart:.3g} mm away", "where the header puts them"
    else:
        found, expected = f"{view.dtype} {view.shape[::-1]}", f"{layout.stored.name} {layout.shape} as the header says"
    raise DataError(f"{path}: SimpleITK reads {found}, expected {expected}. {_CONVERT}")
