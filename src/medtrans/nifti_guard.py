"""Owns what a sound NIfTI file is: every other one is refused by file and field, before memory is taken for it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header

from medtrans.errors import DataError
from medtrans.image_layout import Layout
from medtrans.image_stream import is_compressed, length_faults, opened, packed_faults, stored_voxels
from medtrans.nifti_placement import NiftiHeader, placement_of
from medtrans.reading_rules import ReadingRules

__all__ = ["layout_of", "voxels_of"]

_DATATYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
_UNREADABLE = {
    1: "1 bit a voxel",
    32: "complex64",
    128: "RGB",
    1536: "float128",
    1792: "complex128",
    2048: "complex256",
    2304: "RGBA",
}


def layout_of(path: Path, rules: ReadingRules) -> Layout:
    """What the header of a `.nii` or `.nii.gz` file says, once every field that matters has been checked.

    Raises:
        DataError: all faults of the header, one each.
    """
    with opened(path) as stream:
        return _layout(path, stream, rules)


def voxels_of(path: Path, rules: ReadingRules) -> tuple[Layout, np.ndarray]:
    """What the header says, and the voxels as stored, `(i, j, k)`.

    Raises:
        DataError: all faults of the header, or what is wrong with the bytes.
    """
    with opened(path) as stream:
        layout = _layout(path, stream, rules)
        return layout, stored_voxels(path, stream, layout, "dim and datatype")


def _layout(path: Path, stream: BinaryIO, rules: ReadingRules) -> Layout:
    header = _header(path, stream)
    faults: list[str] = []
    shape = _shape(header, faults)
    stored = _stored(header, faults)
    offset = _offset(header, faults)
    slope, inter = _scaling(header, faults)
    _check_units(header, faults)
    with np.errstate(invalid="ignore"):  # a signalling NaN warns when it is cast; it is refused as any NaN
        affine, code, notes = placement_of(header, shape, rules, faults)
    if shape is not None and stored is not None and offset is not None:
        layout = Layout(shape, stored, offset, affine, code, slope, inter, notes)
        size = path.stat().st_size
        if is_compressed(path):
            faults += packed_faults("dim and vox_offset", layout.end, size, "store it as .nii")
        else:
            faults += length_faults("dim and datatype", layout, size)
        if not faults:
            return layout
    raise DataError(*(f"{path}: {fault}" for fault in faults))


def _header(path: Path, stream: BinaryIO) -> NiftiHeader:
    block = stream.read(348)
    if len(block) < 348:
        raise DataError(f"{path}: the file ends after {len(block)} of the header's 348 bytes. Copy it again.")
    sizes = {order: int(np.frombuffer(block, f"{order}i4", 1)[0]) for order in "<>"}
    order = next((order for order, size in sizes.items() if size in (348, 540)), None)
    if order is None:
        raise DataError(
            f"{path}: sizeof_hdr: found {sizes['<']}, expected 348 (NIfTI-1) or 540 (NIfTI-2): "
            "no NIfTI file, or a damaged one. Convert or copy it again."
        )
    if sizes[order] == 348:
        kind, magic, expected = Nifti1Header, block[344:348], b"n+1\0"
    else:
        block += stream.read(192)
        kind, magic, expected = Nifti2Header, block[4:12], b"n+2\0\r\n\x1a\n"
    if magic != expected:
        pair = " (half of an .hdr/.img pair)" if magic[:2] == b"ni" else ""
        raise DataError(f"{path}: magic: found {magic!r}{pair}, expected {expected!r}. Convert it to one .nii file.")
    if len(block) < sizes[order]:
        raise DataError(f"{path}: the file ends after {len(block)} of the header's 540 bytes. Copy it again.")
    header: NiftiHeader = cast("Any", kind)(block, endianness=order, check=False)
    return header


def _shape(header: NiftiHeader, faults: list[str]) -> tuple[int, int, int] | None:
    axes, *sides = (int(side) for side in header["dim"])
    if not 1 <= axes <= 7:
        faults.append(f"dim[0]: found {axes} axes, expected 3. The header is damaged; export the scan again.")
        return None
    sides = sides[:axes]
    empty = [f"dim[{axis}]: found {side}, expected at least 1" for axis, side in enumerate(sides, 1) if side <= 0]
    i, j, k, *others = *sides, *[1] * (3 - axes)
    if empty:
        faults.extend(f"{fault}. The header is damaged; export the scan again." for fault in empty)
    elif math.prod(others) > 1:
        faults.append(f"dim: found {math.prod(others)} volumes ({axes}-D), expected one. Extract one volume.")
    elif min(i, j, k) < 2:
        faults.append(
            f"dim: found {i} × {j} × {k}, expected at least 2 voxels a side: medtrans is for 3-D. Exclude it."
        )
    else:
        return i, j, k
    return None


def _stored(header: NiftiHeader, faults: list[str]) -> np.dtype[Any] | None:
    code, bits = int(header["datatype"]), int(header["bitpix"])
    if code not in _DATATYPES:
        found = f"{code} ({_UNREADABLE[code]})" if code in _UNREADABLE else f"{code}"
        faults.append(f"datatype: found {found}, expected integers of 8 to 64 bits, float32 or float64. Convert it.")
        return None
    stored = np.dtype(_DATATYPES[code]).newbyteorder(header.endianness)
    if bits not in (0, 8 * stored.itemsize):
        faults.append(
            f"bitpix: found {bits}, expected {8 * stored.itemsize} as for datatype {code} ({stored.name}). "
            "The header is damaged; export the scan again."
        )
    return stored


def _offset(header: NiftiHeader, faults: list[str]) -> int | None:
    offset, least = float(header["vox_offset"]), int(header["sizeof_hdr"]) + 4
    if math.isfinite(offset) and offset >= least and offset == int(offset):
        return int(header["vox_offset"])
    faults.append(
        f"vox_offset: found {offset:g}, expected a whole number from {least} on. The header is damaged; export "
        "the scan again."
    )
    return None


def _scaling(header: NiftiHeader, faults: list[str]) -> tuple[float, float]:
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or math.isnan(slope):  # NIfTI: the voxels are the values, whatever the intercept says
        return 1.0, 0.0
    for field, value in (("scl_slope", slope), ("scl_inter", inter)):
        if not math.isfinite(value):
            faults.append(f"{field}: found {value}, expected a finite number. Export the scan again.")
    return slope, inter


def _check_units(header: NiftiHeader, faults: list[str]) -> None:
    units = int(header["xyzt_units"]) & 7
    if units not in (0, 2):
        found = {1: "metres", 3: "micrometres"}.get(units, "no unit of length")
        faults.append(f"xyzt_units: found {units} ({found}), expected 2 (mm). Convert positions and spacing to mm.")
