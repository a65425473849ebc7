"""Owns what a sound NIfTI file is: every other one is refused by file and field, before memory is taken for it."""

from __future__ import annotations

import difflib
import gzip
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, cast

import numpy as np
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header
from nibabel.orientations import aff2axcodes
from nibabel.quaternions import quat2mat

from medtrans.errors import DataError, SetupError

__all__ = [
    "TOLERANCE_VOXELS",
    "XFORM_CODES",
    "Layout",
    "affine_fault",
    "check_alone",
    "check_name",
    "corners_mm",
    "distance_mm",
    "is_compressed",
    "layout_of",
    "opened",
    "orientation",
    "qform_affine",
    "spacing_mm",
    "stored_voxels",
]

TOLERANCE_VOXELS = 0.1
"""How far, in voxels at the volume's corners, two statements of one position may lie apart."""

XFORM_CODES = range(1, 6)
"""The NIfTI codes that name a space; 0 means that the position is unknown."""

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
_LARGEST_COMPRESSED = 16 * 2**30  # bytes a compressed file may declare: a few MB of gzip can unfold to fill any memory
_DEFLATE_RATIO = 1032  # deflate spends at least 2 bits on 258 bytes
_PADDING = 4096  # bytes of zeros that may follow the voxels, as block-wise writers leave them
_LARGEST_MM = 1e6
_SMALLEST_MM = 1e-6
_CHUNK = 2**22

_Header: TypeAlias = Nifti1Header | Nifti2Header


@dataclass(frozen=True, eq=False)
class Layout:
    """What a sound header says.

    Args:
        shape: voxels along i, j, k.
        stored: the voxels' type in the file, byte order included.
        offset: bytes before the first voxel.
        slope: factor to the physical value; 1 where nothing is scaled.
        inter: physical value of a stored 0; 0 where nothing is scaled.
        affine: `(4, 4)` float64, voxel indices to mm.
        space_code: NIfTI code of the space `affine` leads to.
    """

    shape: tuple[int, int, int]
    stored: np.dtype[Any]
    offset: int
    slope: float
    inter: float
    affine: np.ndarray
    space_code: int

    @property
    def scaled(self) -> bool:
        """Whether the stored numbers are not yet the physical values."""
        return (self.slope, self.inter) != (1.0, 0.0)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type the voxels are handed out in: float32, or an unscaled integer's own."""
        return np.dtype(np.float32) if self.scaled or self.stored.kind == "f" else self.stored.newbyteorder("=")

    @property
    def end(self) -> int:
        """Bytes up to the end of the last voxel."""
        return self.offset + math.prod(self.shape) * self.stored.itemsize


def spacing_mm(affine: np.ndarray) -> tuple[float, float, float]:
    """Distance between neighbouring voxels along i, j, k."""
    i, j, k = (float(length) for length in np.sqrt((affine[:3, :3] ** 2).sum(axis=0)))
    return i, j, k


def corners_mm(shape: tuple[int, int, int], affine: np.ndarray) -> np.ndarray:
    """World positions `(8, 3)` of the centres of the corner voxels."""
    corners = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * (np.array(shape) - 1)
    return np.asarray(corners @ affine[:3, :3].T + affine[:3, 3])


def distance_mm(shape: tuple[int, int, int], affine: np.ndarray, other: np.ndarray) -> float:
    """The largest distance between the corners of one volume under two affines."""
    return float(np.linalg.norm(corners_mm(shape, affine) - corners_mm(shape, other), axis=1).max())


def orientation(affine: np.ndarray) -> str:
    """The direction in which i, j and k grow, such as "RAS"."""
    return "".join(cast("Any", aff2axcodes)(affine))


def affine_fault(affine: np.ndarray) -> str | None:
    """Why a `(4, 4)` affine places no volume, or None where it does."""
    if not np.isfinite(affine).all():
        return "found NaN or infinity, expected finite numbers"
    if np.abs(affine).max() > _LARGEST_MM:
        return f"found {np.abs(affine).max():.3g}, expected at most {_LARGEST_MM:,.0f} mm"
    lengths = spacing_mm(affine)
    if min(lengths) < _SMALLEST_MM or abs(np.linalg.det(affine[:3, :3])) <= 1e-6 * math.prod(lengths):
        return f"found a singular matrix {affine[:3, :3].tolist()}, expected three axes that span space"
    return None


def is_compressed(path: Path) -> bool:
    """Whether the name says gzip."""
    return path.name.lower().endswith(".gz")


def check_name(path: Path) -> None:
    """Refuse an ending that is not read.

    Raises:
        DataError: the name ends in neither `.nii` nor `.nii.gz`.
    """
    if not path.name.lower().endswith((".nii", ".nii.gz")):
        raise DataError(f"{path}: found the ending {path.suffix!r}, expected .nii or .nii.gz; convert it to NIfTI.")


def check_alone(path: Path) -> None:
    """Refuse a name that stands for two files.

    Raises:
        DataError: the same name with the other ending lies beside it.
    """
    sibling = path.with_name(path.name[:-3] if is_compressed(path) else path.name + ".gz")
    if sibling.exists():
        raise DataError(
            f"{path}: {sibling.name} lies beside it, and tools differ in which of the two they open; "
            "expected one of them. Remove or rename the other."
        )


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The bytes of an image file, decompressed where its name says so.

    Raises:
        DataError: the file is missing, not alone under its name, no regular file, compressed otherwise than its name
            says, cut off or damaged; also where reading inside the block finds that.
        SetupError: the block needs more memory than there is.
    """
    check_name(path)
    try:
        _check_present(path)
        check_alone(path)
        with path.open("rb") as file:
            _check_compression(path, cast("Any", file).peek(2)[:2])
            if is_compressed(path):
                with gzip.GzipFile(fileobj=file, mode="rb") as stream:
                    yield cast("BinaryIO", stream)
            else:
                yield file
    except EOFError as error:
        raise DataError(
            f"{path}: the gzip stream stops before its end mark: the copy is incomplete. Copy it again."
        ) from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: the gzip stream is damaged ({error}). Copy it again from its source.") from error
    except MemoryError as error:
        raise SetupError(
            f"{path}: its voxels do not fit into this machine's memory. Use a machine with more."
        ) from error
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror or error}). Check the path and its permissions."
        ) from error


def _check_present(path: Path) -> None:
    if path.is_file():
        return
    if path.exists():
        raise DataError(f"{path}: found a folder or a device, expected a file.")
    if not path.parent.is_dir():
        raise DataError(f"{path}: no such file, since there is no folder {path.parent}. Correct the path.")
    near = difflib.get_close_matches(path.name, sorted(entry.name for entry in path.parent.iterdir()))
    raise DataError(
        f"{path}: no such file. " + (f"Similar names there: {', '.join(near)}." if near else "Correct the path.")
    )


def _check_compression(path: Path, first: bytes) -> None:
    if not first:
        raise DataError(f"{path}: the file is empty (0 bytes). Copy it again.")
    if (first == b"\x1f\x8b") != is_compressed(path):
        found, ending = ("plain", ".nii") if is_compressed(path) else ("gzip-compressed", ".nii.gz")
        raise DataError(
            f"{path}: found {found} data, expected what the name says. Rename it to end in {ending}, or copy it again."
        )


def layout_of(path: Path, stream: BinaryIO) -> Layout:
    """What the header at the start of `stream` says, once every field that matters has been checked.

    Raises:
        DataError: all faults of the header, one each.
    """
    header = _header(path, stream)
    faults: list[str] = []
    shape = _shape(header, faults)
    stored = _stored(header, faults)
    offset = _offset(header, faults)
    slope, inter = _scaling(header, faults)
    _check_units(header, faults)
    with np.errstate(invalid="ignore"):  # a signalling NaN warns when it is cast; it is refused as any NaN
        affine, code = _placement(header, shape, faults)
    if shape is not None and stored is not None and offset is not None:
        layout = Layout(shape, stored, offset, slope, inter, affine, code)
        _check_size(path, layout, faults)
        if not faults:
            return layout
    raise DataError(*(f"{path}: {fault}" for fault in faults))


def _header(path: Path, stream: BinaryIO) -> _Header:
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
    header: _Header = cast("Any", kind)(block, endianness=order, check=False)
    return header


def _shape(header: _Header, faults: list[str]) -> tuple[int, int, int] | None:
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


def _stored(header: _Header, faults: list[str]) -> np.dtype[Any] | None:
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


def _offset(header: _Header, faults: list[str]) -> int | None:
    offset, least = float(header["vox_offset"]), int(header["sizeof_hdr"]) + 4
    if math.isfinite(offset) and offset >= least and offset == int(offset):
        return int(header["vox_offset"])
    faults.append(
        f"vox_offset: found {offset:g}, expected a whole number from {least} on. The header is damaged; export "
        "the scan again."
    )
    return None


def _scaling(header: _Header, faults: list[str]) -> tuple[float, float]:
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or math.isnan(slope):  # NIfTI: the voxels are the values, whatever the intercept says
        return 1.0, 0.0
    for field, value in (("scl_slope", slope), ("scl_inter", inter)):
        if not math.isfinite(value):
            faults.append(f"{field}: found {value}, expected a finite number. Export the scan again.")
    return slope, inter


def _check_units(header: _Header, faults: list[str]) -> None:
    units = int(header["xyzt_units"]) & 7
    if units not in (0, 2):
        found = {1: "metres", 3: "micrometres"}.get(units, "no unit of length")
        faults.append(f"xyzt_units: found {units} ({found}), expected 2 (mm). Convert positions and spacing to mm.")


def _placement(header: _Header, shape: tuple[int, int, int] | None, faults: list[str]) -> tuple[np.ndarray, int]:
    codes = {form: int(header[f"{form}_code"]) for form in ("sform", "qform")}
    affines: dict[str, np.ndarray] = {}
    for form, code in codes.items():
        if code not in (0, *XFORM_CODES):
            faults.append(f"{form}_code: found {code}, expected 0 to {XFORM_CODES[-1]}. Export the scan again.")
        elif code:
            affine, fault = _sform(header) if form == "sform" else _qform(header)
            if fault is None:
                affines[form] = affine
            else:
                faults.append(fault)
    if not any(codes.values()):
        faults.append(
            "sform_code and qform_code: found 0 in both, expected 1 to 5 in one: left and right, front and "
            "back are unknown. Export the scan again with its position."
        )
    if shape is not None and len(affines) == 2:
        _check_agreement(shape, affines["sform"], affines["qform"], faults)
    for form in ("sform", "qform"):
        if form in affines:
            return affines[form], codes[form]
    return np.eye(4), 0  # the faults found above keep this from being used


def _check_agreement(shape: tuple[int, int, int], sform: np.ndarray, qform: np.ndarray, faults: list[str]) -> None:
    apart, limit = distance_mm(shape, sform, qform), TOLERANCE_VOXELS * min(spacing_mm(sform))
    if apart > limit:
        faults.append(
            f"sform and qform: found two positions up to {apart:.4g} mm apart ({orientation(sform)} by sform, "
            f"{orientation(qform)} by qform), expected at most {limit:.2g} mm. Look at the scan in a viewer, "
            "then set the code of the wrong one to 0."
        )


def _sform(header: _Header) -> tuple[np.ndarray, str | None]:
    affine = np.eye(4)
    affine[:3] = [header["srow_x"], header["srow_y"], header["srow_z"]]
    fault = affine_fault(affine)
    return affine, fault and f"srow_x, srow_y, srow_z: {fault}. Export the scan again."


def _qform(header: _Header) -> tuple[np.ndarray, str | None]:
    direction, *spacing = (float(value) for value in header["pixdim"][:4])
    turn = [float(header[f"quatern_{axis}"]) for axis in "bcd"]
    if direction not in (-1, 0, 1):
        return np.eye(4), f"pixdim[0]: found {direction:g}, expected 1 or -1. Export the scan again."
    if not all(_SMALLEST_MM <= length <= _LARGEST_MM for length in spacing):
        return np.eye(4), f"pixdim: found spacing {spacing}, expected lengths above 0 in mm. Export the scan again."
    if not math.hypot(*turn) <= 1.0005:  # more than rounding to 4 digits makes of a unit quaternion
        return np.eye(
            4
        ), f"quatern_b, c, d: found {turn}, expected squares that sum up to at most 1. Export the scan again."
    affine = qform_affine(header)
    fault = affine_fault(affine)
    return affine, fault and f"qoffset_x, y, z: {fault}. Export the scan again."


def qform_affine(header: _Header) -> np.ndarray:
    """The `(4, 4)` affine that pixdim, quaternion and qoffset of a header stand for.

    A pixdim[0] of 0 counts as 1, as NIfTI says, and a quaternion a little too long is shortened.
    """
    vector = np.array([header["quatern_b"], header["quatern_c"], header["quatern_d"]], np.float64)
    rest = math.sqrt(max(0.0, 1.0 - float(vector @ vector)))
    handed = -1 if float(header["pixdim"][0]) < 0 else 1
    affine = np.eye(4)
    affine[:3, :3] = (
        cast("Any", quat2mat)((rest, *vector)) * np.array(header["pixdim"][1:4], np.float64) * (1, 1, handed)
    )
    affine[:3, 3] = header["qoffset_x"], header["qoffset_y"], header["qoffset_z"]
    return affine


def _check_size(path: Path, layout: Layout, faults: list[str]) -> None:
    size = path.stat().st_size
    if is_compressed(path):
        if layout.end > size * _DEFLATE_RATIO:
            faults.append(
                f"dim and vox_offset: found {layout.end:,} bytes declared, expected at most {size * _DEFLATE_RATIO:,}, "
                f"which is all that {size:,} bytes of gzip can hold. The copy is incomplete or the header damaged; "
                "copy it again."
            )
        elif layout.end > _LARGEST_COMPRESSED:
            faults.append(
                f"dim and vox_offset: found {layout.end:,} bytes declared, expected at most {_LARGEST_COMPRESSED:,} "
                "in a .nii.gz. Where the image is that large, store it as .nii."
            )
    elif size < layout.end:
        faults.append(_cut(max(0, size - layout.offset), layout))
    elif size > layout.end + _PADDING:
        faults.append(_surplus(size - layout.end, layout))


def _cut(found: int, layout: Layout) -> str:
    expected = layout.end - layout.offset
    return f"the file ends after {found:,} of {expected:,} voxel bytes: the copy is incomplete. Copy it again."


def _surplus(found: int, layout: Layout) -> str:
    return (
        f"dim and datatype: found {found:,} more bytes than the {layout.end:,} declared, expected none: header and "
        "voxels do not belong together. Export the scan again."
    )


def stored_voxels(path: Path, stream: BinaryIO, layout: Layout) -> np.ndarray:
    """The voxels as stored, `(i, j, k)` in the file's own type and order; `stream` is read to its end.

    Only the end of a gzip stream has its checksum.

    Raises:
        DataError: there are fewer or more bytes than declared; what `opened` raises.
    """
    stream.seek(layout.offset)
    voxels = np.empty(math.prod(layout.shape), layout.stored)
    filled = _fill(stream, voxels.view(np.uint8).data)
    if filled < voxels.nbytes:
        raise DataError(f"{path}: {_cut(filled, layout)}")
    rest = stream.read(_PADDING + 1)
    if len(rest) > _PADDING or any(rest):
        raise DataError(f"{path}: {_surplus(len(rest), layout)}")
    return voxels.reshape(layout.shape, order="F")


def _fill(stream: BinaryIO, view: memoryview) -> int:
    filled = 0
    try:
        while filled < len(view) and (count := cast("Any", stream).readinto1(view[filled : filled + _CHUNK])):
            filled += count
    except EOFError:  # a stream cut off: the caller says how far it went
        return filled
    return filled
