"""NIfTI files as they are read: every field that matters is checked, and the affine is sform's, qform's or a rule's."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, cast

import numpy as np
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header

from medtrans.errors import DataError
from medtrans.volume.affine import (
    LARGEST_MM,
    SMALLEST_MM,
    TOLERANCE_VOXELS,
    XFORM_CODES,
    affine_fault,
    distance_mm,
    orientation,
    qform_affine,
    spacing_mm,
)
from medtrans.volume.header import TO_ACCEPT_UNKNOWN_SPACE, ImageHeader, ReadingRules
from medtrans.volume.stream import CHUNK, compression_faults, is_compressed, length_faults, open_nifti, stored_voxels

NiftiHeader: TypeAlias = Nifti1Header | Nifti2Header
_Placed: TypeAlias = tuple[np.ndarray, int, tuple[str, ...]]
"""An affine, the code of the space it leads to, and the reading rules that were needed."""

_NOWHERE: _Placed = (np.eye(4), 0, ())  # the faults found keep this from being used


# A NIfTI header may place its volume twice. The sform is any affine, by its rows srow_x, srow_y, srow_z; the qform is
# a rotation (a quaternion), a spacing (pixdim) and an offset. Each has a code that names the space it leads to, 0 where
# it says nothing. Scanners write one or both, tools often mend only one of them, and programs differ in which they
# prefer: two that disagree are a doubt that only the user can settle.


def placement_of(
    header: NiftiHeader, shape: tuple[int, int, int] | None, rules: ReadingRules, faults: list[str]
) -> _Placed:
    """Where a header places its volume.

    The sform counts, else the qform; where they are apart, or one cannot be used, the one the user trusts.

    Args:
        header: as read, unchecked.
        shape: None where it is not known.
        rules: of the user.
        faults: what is wrong is added to them; the result is then of no use.
    """
    forms: dict[str, _Placed] = {}
    unusable: dict[str, str] = {}
    for form, affine_of in (("sform", _sform), ("qform", _qform)):
        code = int(header[f"{form}_code"])
        if code in XFORM_CODES:
            affine, fault = affine_of(header)
            if fault is None:
                forms[form] = (affine, code, ())
            else:
                unusable[form] = fault
        elif code:
            faults.append(f"{form}_code: found {code}, expected 0 to {XFORM_CODES[-1]}. Export the scan again.")
    if int(header["sform_code"]) == int(header["qform_code"]) == 0:
        return _unplaced(header, rules, faults)
    if unusable:
        return _without(unusable, forms, rules, faults)
    if shape is not None and len(forms) == 2:
        return _of_two(shape, forms, rules, faults)
    return next(iter(forms.values()), _NOWHERE)


def _unplaced(header: NiftiHeader, rules: ReadingRules, faults: list[str]) -> _Placed:
    if not rules.accept_unknown_space:
        faults.append(
            "sform_code and qform_code: found 0 in both, expected 1 to 5 in one: left and right, front and "
            f"back are unknown. Export it again with its position, or {TO_ACCEPT_UNKNOWN_SPACE} to have it placed "
            "by pixdim alone."
        )
        return _NOWHERE
    spacing, fault = _spacing(header)
    if fault is not None:
        faults.append(f"{fault}. Export the scan again.")
        return _NOWHERE
    note = "sform_code and qform_code are 0: placed by pixdim alone (reading.accept_unknown_space)"
    return np.diag([*spacing, 1.0]), 1, (note,)


def _without(unusable: dict[str, str], forms: dict[str, _Placed], rules: ReadingRules, faults: list[str]) -> _Placed:
    """The only form that can be used, if the user trusts it."""
    if rules.trust in forms:
        (other,) = unusable
        return _trusted(forms, rules.trust, f"the {other} cannot be used ({unusable[other]})")
    advice = "".join(
        f", or set reading.trust: {sound} (--reading trust={sound}) if that places the scan rightly" for sound in forms
    )
    faults += [f"{fault}. Export the scan again{advice}." for fault in unusable.values()]
    return _NOWHERE


def _of_two(shape: tuple[int, int, int], forms: dict[str, _Placed], rules: ReadingRules, faults: list[str]) -> _Placed:
    sform, qform = forms["sform"][0], forms["qform"][0]
    apart, limit = distance_mm(shape, sform, qform), TOLERANCE_VOXELS * min(spacing_mm(sform))
    if apart <= limit:
        return forms["sform"]  # it need not be a rotation and has no quaternion's rounding: the more exact of the two
    directions = f"{orientation(sform)} by sform, {orientation(qform)} by qform"
    positions = f"two positions up to {apart:.4g} mm apart ({directions})"
    if rules.trust is not None:
        return _trusted(forms, rules.trust, f"sform and qform give {positions}")
    faults.append(
        f"sform and qform: found {positions}, expected at most {limit:.2g} mm. Look at the scan in a viewer, then "
        "set reading.trust to sform or qform (--reading trust=sform), or the code of the wrong one to 0."
    )
    return _NOWHERE


def _trusted(forms: dict[str, _Placed], form: str, doubt: str) -> _Placed:
    affine, code, _ = forms[form]
    return affine, code, (f"{doubt}: placed by the {form} (reading.trust)",)


def _sform(header: NiftiHeader) -> tuple[np.ndarray, str | None]:
    affine = np.eye(4)
    affine[:3] = [header["srow_x"], header["srow_y"], header["srow_z"]]
    fault = affine_fault(affine)
    return affine, fault and f"srow_x, srow_y, srow_z: {fault}"


def _qform(header: NiftiHeader) -> tuple[np.ndarray, str | None]:
    direction = float(header["pixdim"][0])
    turn = [float(header[f"quatern_{axis}"]) for axis in "bcd"]
    _, fault = _spacing(header)
    if direction not in (-1, 0, 1):
        fault = f"pixdim[0]: found {direction:g}, expected 1 or -1"
    elif fault is None and not math.hypot(*turn) <= 1.0005:  # more than rounding to 4 digits makes of a unit quaternion
        fault = f"quatern_b, c, d: found {turn}, expected squares that sum up to at most 1"
    if fault is not None:
        return np.eye(4), fault
    affine = qform_affine(header)
    fault = affine_fault(affine)
    return affine, fault and f"qoffset_x, y, z: {fault}"


def _spacing(header: NiftiHeader) -> tuple[list[float], str | None]:
    spacing = [float(value) for value in header["pixdim"][1:4]]
    if all(SMALLEST_MM <= length <= LARGEST_MM for length in spacing):
        return spacing, None
    return spacing, f"pixdim: found spacing {spacing}, expected lengths above 0 in mm"


_DATATYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
_UNREADABLE = {
    1: "1 bit a voxel", 32: "complex64", 128: "RGB", 1536: "float128", 1792: "complex128", 2048: "complex256",
    2304: "RGBA",
}  # fmt: skip
_DAMAGED = "The header is damaged; export the scan again."


def layout_of(path: Path, rules: ReadingRules) -> ImageHeader:
    """What the header of a `.nii` or `.nii.gz` file says, or a DataError of all faults of the fields that matter."""
    with open_nifti(path) as stream:
        return _layout(path, stream, rules)


def voxels_of(path: Path, rules: ReadingRules) -> tuple[ImageHeader, np.ndarray]:
    """What the header says, and the voxels as stored, `(i, j, k)`; or a DataError of all faults of header or bytes."""
    with open_nifti(path) as stream:
        layout = _layout(path, stream, rules)
        stream.seek(layout.offset)
        chunks = iter(lambda: cast("Any", stream).read1(CHUNK), b"")
        return layout, stored_voxels(path, chunks, layout, "dim and datatype")


def _layout(path: Path, stream: BinaryIO, rules: ReadingRules) -> ImageHeader:
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
        layout = ImageHeader(shape, stored, offset, affine, code, slope, inter, notes)
        size = path.stat().st_size
        if is_compressed(path):
            faults += compression_faults("dim and vox_offset", layout.end, size, "store it as .nii")
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
        faults.append(f"dim[0]: found {axes} axes, expected 3. {_DAMAGED}")
        return None
    sides = sides[:axes]
    empty = [f"dim[{axis}]: found {side}, expected at least 1" for axis, side in enumerate(sides, 1) if side <= 0]
    i, j, k, *others = *sides, *[1] * (3 - axes)
    if empty:
        faults += [f"{fault}. {_DAMAGED}" for fault in empty]
    elif math.prod(others) > 1:
        faults.append(f"dim: found {math.prod(others)} volumes ({axes}-D), expected one. Extract one volume.")
    elif min(i, j, k) < 2:
        faults.append(f"dim: found {i} × {j} × {k}, expected at least 2 voxels a side: it is not 3-D. Exclude it.")
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
        expected = f"{8 * stored.itemsize} as for datatype {code} ({stored.name})"
        faults.append(f"bitpix: found {bits}, expected {expected}. {_DAMAGED}")
    return stored


def _offset(header: NiftiHeader, faults: list[str]) -> int | None:
    offset, least = float(header["vox_offset"]), int(header["sizeof_hdr"]) + 4
    if math.isfinite(offset) and offset >= least and offset == int(offset):
        return int(header["vox_offset"])
    faults.append(f"vox_offset: found {offset:g}, expected a whole number from {least} on. {_DAMAGED}")
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
