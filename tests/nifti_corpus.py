"""Owns NIfTI files, bad ones and odd but legal ones, each with what the reader must say of it.

The bytes are packed by offset from the NIfTI-1 and NIfTI-2 standards, without nibabel, so that the corpus is a second
opinion and can say what nibabel would not write.
"""

from __future__ import annotations

import gzip
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["AFFINE", "BAD", "BOTH_FORMS", "ODD", "VOXELS", "Bad", "Odd", "flip", "header_fields", "nifti", "squeeze"]

VOXELS = np.arange(120, dtype=np.int16).reshape(4, 5, 6) * 7 - 100
AFFINE = np.array([[0, 0, 1.5, -40.25], [-2.0, 0, 0, 31.5], [0, 2.5, 0, 12.0], [0, 0, 0, 1]])

_DATATYPES = {"u1": 2, "i2": 4, "i4": 8, "f4": 16, "f8": 64, "i1": 256, "u2": 512, "u4": 768, "i8": 1024, "u8": 1280}

_NIFTI1 = {
    "sizeof_hdr": (0, "i"),
    "data_type": (4, "10s"),
    "db_name": (14, "18s"),
    "dim": (40, "8h"),
    "intent_code": (68, "h"),
    "datatype": (70, "h"),
    "bitpix": (72, "h"),
    "pixdim": (76, "8f"),
    "vox_offset": (108, "f"),
    "scl_slope": (112, "f"),
    "scl_inter": (116, "f"),
    "xyzt_units": (123, "B"),
    "cal_max": (124, "f"),
    "descrip": (148, "80s"),
    "aux_file": (228, "24s"),
    "qform_code": (252, "h"),
    "sform_code": (254, "h"),
    "quatern": (256, "3f"),
    "qoffset": (268, "3f"),
    "srow": (280, "12f"),
    "intent_name": (328, "16s"),
    "magic": (344, "4s"),
}
_NIFTI2 = {
    "sizeof_hdr": (0, "i"),
    "magic": (4, "8s"),
    "datatype": (12, "h"),
    "bitpix": (14, "h"),
    "dim": (16, "8q"),
    "pixdim": (104, "8d"),
    "vox_offset": (168, "q"),
    "scl_slope": (176, "d"),
    "scl_inter": (184, "d"),
    "qform_code": (344, "i"),
    "sform_code": (348, "i"),
    "quatern": (352, "3d"),
    "qoffset": (376, "3d"),
    "srow": (400, "12d"),
    "xyzt_units": (500, "i"),
}


def header_fields(version: int = 1) -> Mapping[str, tuple[int, str]]:
    """Offset and format of each field."""
    return _NIFTI1 if version == 1 else _NIFTI2


def nifti(
    voxels: np.ndarray = VOXELS,
    *,
    version: int = 1,
    order: str = "<",
    extension: bytes = b"",
    tail: bytes = b"",
    **fields: Any,
) -> bytes:
    """A whole .nii file: sound unless `fields` say otherwise, sform only, with space code 1."""
    size = 348 if version == 1 else 540
    shape = voxels.shape
    values: dict[str, Any] = {
        "sizeof_hdr": size,
        "dim": (len(shape), *shape, *[1] * (7 - len(shape))),
        "datatype": _DATATYPES[voxels.dtype.str[1:]],
        "bitpix": 8 * voxels.dtype.itemsize,
        "pixdim": (1, 2, 2.5, 1.5, 0, 0, 0, 0),
        "vox_offset": size + 4 + len(extension),
        "scl_slope": 1,
        "scl_inter": 0,
        "xyzt_units": 2,
        "sform_code": 1,
        "srow": AFFINE[:3].ravel().tolist(),
        "magic": b"n+1\0" if version == 1 else b"n+2\0\r\n\x1a\n",
    }
    block = bytearray(size)
    for name, value in (values | fields).items():
        offset, form = header_fields(version)[name]
        struct.pack_into(f"{order}{form}", block, offset, *(value if isinstance(value, (tuple, list)) else (value,)))
    flag = bytes([bool(extension), 0, 0, 0])
    stored = voxels.astype(voxels.dtype.newbyteorder(order)).tobytes(order="F")
    return bytes(block) + flag + extension + stored + tail


def squeeze(content: bytes, name: str = "") -> bytes:
    """The content as one gzip member without a time."""
    packed = gzip.compress(content, mtime=0)
    return packed[:3] + b"\x08" + packed[4:10] + name.encode() + b"\0" + packed[10:] if name else packed


def flip(content: bytes, position: int, bit: int = 0) -> bytes:
    """The content with one bit changed."""
    changed = bytearray(content)
    changed[position] ^= 1 << bit
    return bytes(changed)


@dataclass(frozen=True)
class Bad:
    """Files of which the first is refused.

    Args:
        name: of the first file.
        content: of the first file; None leaves it out.
        says: what each fault must contain, in order, all faults counted.
        late: whether only reading the voxels can find it.
        beside: other files in the folder.
    """

    label: str
    content: bytes | None
    says: tuple[str, ...]
    name: str = "scan.nii"
    late: bool = False
    beside: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True)
class Odd:
    """A file that is unusual and read all the same, with the volume it must give."""

    label: str
    content: bytes
    data: np.ndarray
    affine: np.ndarray
    space_code: int = 1
    name: str = "scan.nii"


def _altered(value: float, *, dtype: str = "f4", count: int = 1) -> np.ndarray:
    voxels = VOXELS.astype(dtype)
    voxels.flat[3 : 3 + count] = value
    return voxels


def _srow(**entries: float) -> list[float]:
    rows = AFFINE[:3].copy()
    for place, value in entries.items():
        rows[int(place[1]), int(place[2])] = value
    return rows.ravel().tolist()


def _dim(*sides: int) -> tuple[int, ...]:
    return (*sides, *[1] * (8 - len(sides)))


NAN, INF = float("nan"), float("inf")
_GOOD = nifti()
_GOOD_GZ = squeeze(_GOOD)
_Z_TURN = {"quatern": (0, 0, 0.5**0.5), "qoffset": (10, 20, 30)}  # 90 degrees about z: i grows to anterior
_Z_TURNED = np.array([[0, -2.5, 0, 10], [2.0, 0, 0, 20], [0, 0, 1.5, 30], [0, 0, 0, 1]])
_MIRRORED = _Z_TURNED * np.array([1, 1, -1, 1])
_ALIGNED = np.array([[2.0, 0, 0, 10], [0, 2.5, 0, 20], [0, 0, 1.5, 30], [0, 0, 0, 1]])
_ALIGNED_SROW = _ALIGNED[:3].ravel().tolist()
BOTH_FORMS = {"srow": _ALIGNED_SROW, "qform_code": 1, "qoffset": (10, 20, 30)}

BAD = [
    # the name and the file
    Bad("missing", None, ("no such file. Similar names there: scan1.nii.",), beside=(("scan1.nii", _GOOD),)),
    Bad("missing, nothing like it", None, ("no such file. Correct the path.",), beside=(("other.txt", b""),)),
    Bad("missing folder", None, ("no such file, since there is no folder",), name="gone/scan.nii"),
    Bad("another format", _GOOD, ("'.mgz', expected .nii.gz, .nii, .mha, .mhd or .nrrd; convert",), name="scan.mgz"),
    Bad("gz of something else", _GOOD_GZ, ("found the ending '.gz', expected .nii",), name="scan.img.gz"),
    Bad("two under one name", _GOOD, ("scan.nii.gz lies beside it",), beside=(("scan.nii.gz", _GOOD_GZ),)),
    Bad("two, gz", _GOOD_GZ, ("scan.nii lies beside it",), name="scan.nii.gz", beside=(("scan.nii", _GOOD),)),
    Bad("empty", b"", ("the file is empty (0 bytes)",)),
    Bad("empty gz", b"", ("the file is empty (0 bytes)",), name="scan.nii.gz"),
    Bad("gz named nii", _GOOD_GZ, ("found gzip-compressed data",)),
    Bad("nii named gz", _GOOD, ("found plain data",), name="scan.nii.gz"),
    # cut off or damaged on the way
    Bad("cut in the header", _GOOD[:100], ("the file ends after 100 of the header's 348 bytes",)),
    Bad("cut in a NIfTI-2 header", nifti(version=2)[:400], ("the file ends after 400 of the header's 540 bytes",)),
    Bad("cut at the header's end", _GOOD[:348], ("the file ends after 0 of 240 voxel bytes",)),
    Bad("cut in half", _GOOD[: 352 + 120], ("the file ends after 120 of 240 voxel bytes: the copy is incomplete",)),
    Bad("cut by a byte", _GOOD[:-1], ("the file ends after 239 of 240 voxel bytes",)),
    Bad("gz cut in the header", _GOOD_GZ[:20], ("the gzip stream stops before its end mark",), name="scan.nii.gz"),
    Bad("gz cut in half", _GOOD_GZ[: -len(_GOOD_GZ) // 3], ("of 240 voxel bytes",), name="scan.nii.gz", late=True),
    Bad("gz cut in its checksum", _GOOD_GZ[:-2], ("stops before its end mark",), name="scan.nii.gz", late=True),
    Bad("gz with other checksum", flip(_GOOD_GZ, -6), ("is damaged (CRC check failed",), name="scan.nii.gz", late=True),
    Bad("gz of half a file", squeeze(_GOOD[:500]), ("after 148 of 240 voxel bytes",), name="scan.nii.gz", late=True),
    Bad("gz with rubbish after", _GOOD_GZ + b"rubbish", ("is damaged (Not a gzip",), name="scan.nii.gz", late=True),
    # no NIfTI, or not one file
    Bad("text", b"<html>not found</html>" * 40, ("sizeof_hdr: found 1836345404, expected 348",)),
    Bad("another size of header", nifti(sizeof_hdr=347), ("sizeof_hdr: found 347, expected 348",)),
    Bad("half of a pair", nifti(magic=b"ni1\0"), ("magic: found b'ni1\\x00' (half of an .hdr/.img pair)",)),
    Bad("Analyze", nifti(magic=b"\0\0\0\0"), ("magic: found b'\\x00\\x00\\x00\\x00', expected b'n+1\\x00'",)),
    Bad("line ends converted", nifti(version=2, magic=b"n+2\0\n\x1a\n\0"), ("magic: found b'n+2\\x00\\n",)),
    # shape
    Bad("no axes", nifti(dim=_dim(0, 4, 5, 6)), ("dim[0]: found 0 axes, expected 3",)),
    Bad("nine axes", nifti(dim=_dim(9, 4, 5, 6)), ("dim[0]: found 9 axes",)),
    Bad("a side of 0", nifti(dim=_dim(3, 4, 0, 6)), ("dim[2]: found 0, expected at least 1",)),
    Bad("negative sides", nifti(dim=_dim(3, -4, 5, -6)), ("dim[1]: found -4", "dim[3]: found -6")),
    Bad("no volumes", nifti(dim=_dim(4, 4, 5, 6, 0)), ("dim[4]: found 0",)),
    Bad("a series", nifti(np.zeros((4, 5, 6, 3), np.int16)), ("dim: found 3 volumes (4-D), expected one",)),
    Bad("vectors", nifti(np.zeros((4, 5, 6, 1, 3), np.float32)), ("dim: found 3 volumes (5-D), expected one",)),
    Bad("2-D", nifti(np.zeros((4, 5), np.int16)), ("dim: found 4 × 5 × 1, expected at least 2",)),
    Bad("one line", nifti(np.zeros(9, np.int16)), ("dim: found 9 × 1 × 1, expected at least 2",)),
    Bad("a single slice", nifti(np.zeros((4, 5, 1), np.int16)), ("dim: found 4 × 5 × 1, expected at least 2",)),
    # declared and found bytes
    Bad("wider voxels declared", nifti(datatype=64, bitpix=64), ("the file ends after 240 of 960 voxel bytes",)),
    Bad(
        "narrower voxels declared",
        nifti(np.ones((16, 16, 16)), datatype=4, bitpix=16),
        ("dim and datatype: found 24,576 more bytes than the 8,192 declared",),
    ),
    Bad("rubbish after the voxels", nifti(tail=b"\0\0\1"), ("found 3 more bytes than the 240 declared",), late=True),
    Bad("much after the voxels", nifti(tail=bytes(5000)), ("found 5,000 more bytes than the 240 declared",)),
    Bad(
        "a gz that unfolds to more",
        squeeze(nifti(tail=bytes(10**6))),
        ("found 4,097 more bytes than the 240 declared",),
        name="scan.nii.gz",
        late=True,
    ),
    Bad("memory bomb", nifti(dim=_dim(3, 30000, 30000, 30000)), ("after 240 of 54,000,000,000,000 voxel bytes",)),
    Bad(
        "memory bomb in gz",
        squeeze(nifti(dim=_dim(3, 30000, 30000, 30000))),
        ("dim and vox_offset: found 54,000,000,000,352 bytes declared, expected at most",),
        name="scan.nii.gz",
    ),
    Bad(
        "a gz too small for what it declares",
        squeeze(nifti(dim=_dim(3, 500, 500, 500))),
        ("dim and vox_offset: found 250,000,352 bytes declared, expected at most",),
        name="scan.nii.gz",
    ),
    Bad(
        "memory bomb in NIfTI-2",
        squeeze(nifti(version=2, dim=_dim(3, 2**62, 2**62, 2**62))),
        ("dim and vox_offset: found",),
        name="scan.nii.gz",
    ),
    Bad("bits of another type", nifti(bitpix=32), ("bitpix: found 32, expected 16 as for datatype 4 (int16)",)),
    Bad("voxels from byte 0", nifti(vox_offset=0), ("vox_offset: found 0, expected a whole number from 352 on",)),
    Bad("voxels before the file", nifti(vox_offset=-352), ("vox_offset: found -352",)),
    Bad("voxels from NaN on", nifti(vox_offset=NAN), ("vox_offset: found nan",)),
    Bad("voxels from infinity on", nifti(vox_offset=INF), ("vox_offset: found inf",)),
    Bad("voxels from half a byte", nifti(vox_offset=352.5), ("vox_offset: found 352.5",)),
    Bad("voxels far beyond", nifti(vox_offset=1e9), ("the file ends after 0 of 240 voxel bytes",)),
    Bad("voxels in a NIfTI-2 header", nifti(version=2, vox_offset=352), ("vox_offset: found 352, expected a whole",)),
    # types
    Bad("no datatype", nifti(datatype=0), ("datatype: found 0, expected integers",)),
    Bad("unknown datatype", nifti(datatype=9999), ("datatype: found 9999, expected integers",)),
    Bad("bits", nifti(datatype=1, bitpix=1), ("datatype: found 1 (1 bit a voxel)",)),
    Bad("complex", nifti(datatype=32, bitpix=64), ("datatype: found 32 (complex64)",)),
    Bad("RGB", nifti(datatype=128, bitpix=24), ("datatype: found 128 (RGB)",)),
    Bad("RGBA", nifti(datatype=2304, bitpix=32), ("datatype: found 2304 (RGBA)",)),
    Bad("float128", nifti(datatype=1536, bitpix=128), ("datatype: found 1536 (float128)",)),
    # position
    Bad("no position", nifti(sform_code=0), ("sform_code and qform_code: found 0 in both",)),
    Bad("unknown sform code", nifti(sform_code=7), ("sform_code: found 7, expected 0 to 5",)),
    Bad("negative qform code", nifti(qform_code=-1), ("qform_code: found -1, expected 0 to 5",)),
    Bad("NaN in the sform", nifti(srow=_srow(e12=NAN)), ("srow_x, srow_y, srow_z: found NaN or infinity",)),
    Bad("infinity in the sform", nifti(srow=_srow(e03=INF)), ("srow_x, srow_y, srow_z: found NaN or infinity",)),
    Bad("an sform of zeros", nifti(srow=[0] * 12), ("srow_x, srow_y, srow_z: found a singular matrix",)),
    Bad("two axes alike", nifti(srow=_srow(e01=0, e11=-2, e21=0)), ("found a singular matrix",)),
    Bad("beyond a kilometre", nifti(srow=_srow(e03=1e30)), ("found 1e+30, expected at most 1,000,000 mm",)),
    Bad(
        "left and right swapped",
        nifti(
            srow=_ALIGNED_SROW,
            qform_code=1,
            pixdim=(-1, 2, 2.5, 1.5, 0, 0, 0, 0),
            quatern=(0, 1, 0),
            qoffset=(10, 20, 30),
        ),
        ("found two positions up to 12 mm apart (RAS by sform, LAS by qform), expected at most 0.15",),
    ),
    Bad(
        "moved by 0.2 voxel",
        nifti(srow=_ALIGNED_SROW, qform_code=1, qoffset=(10.3, 20, 30)),
        ("sform and qform: found two positions up to 0.3 mm apart (RAS by sform, RAS by qform)",),
    ),
    Bad(
        "qform without spacing", nifti(sform_code=0, qform_code=1, pixdim=_dim(1, 2, 0, 2)), ("pixdim: found spacing",)
    ),
    Bad("negative spacing", nifti(sform_code=0, qform_code=1, pixdim=_dim(1, -2, 2, 2)), ("pixdim: found spacing",)),
    Bad("NaN spacing", nifti(sform_code=0, qform_code=1, pixdim=(1, NAN, *[1] * 6)), ("pixdim: found spacing [nan",)),
    Bad("unknown handedness", nifti(sform_code=0, qform_code=1, pixdim=_dim(3, 1, 1, 1)), ("pixdim[0]: found 3,",)),
    Bad("long quaternion", nifti(sform_code=0, qform_code=1, quatern=(1, 1, 0)), ("quatern_b, c, d: found [1.0, 1.0",)),
    Bad(
        "NaN quaternion", nifti(sform_code=0, qform_code=1, quatern=(0, NAN, 0)), ("quatern_b, c, d: found [0.0, nan",)
    ),
    Bad("NaN origin", nifti(sform_code=0, qform_code=1, qoffset=(0, NAN, 0)), ("qoffset_x, y, z: found NaN",)),
    Bad("bad qform beside a good sform", nifti(qform_code=1, quatern=(1, 1, 0)), ("quatern_b, c, d: found",)),
    Bad("metres", nifti(xyzt_units=1), ("xyzt_units: found 1 (metres), expected 2 (mm)",)),
    Bad("micrometres", nifti(xyzt_units=3 | 8), ("xyzt_units: found 3 (micrometres), expected 2 (mm)",)),
    Bad("no unit of length", nifti(xyzt_units=5), ("xyzt_units: found 5 (no unit of length)",)),
    # values
    Bad("infinite slope", nifti(scl_slope=INF), ("scl_slope: found inf, expected a finite number",)),
    Bad("NaN intercept", nifti(scl_slope=2, scl_inter=NAN), ("scl_inter: found nan, expected a finite number",)),
    Bad("NaN voxels", nifti(_altered(NAN, count=12)), ("12 of 120 voxels are NaN, expected",), late=True),
    Bad("infinite voxel", nifti(_altered(-INF)), ("1 of 120 voxels are infinite, expected",), late=True),
    Bad(
        "float64 beyond float32", nifti(_altered(1e300, dtype="f8")), ("1 of 120 voxels lie beyond float32",), late=True
    ),
    Bad("scaled beyond float32", nifti(scl_slope=3e38), ("120 of 120 voxels lie beyond float32",), late=True),
    Bad("NaN voxels, scaled", nifti(_altered(NAN), scl_slope=2), ("1 of 120 voxels are NaN",), late=True),
    # all at once
    Bad(
        "five faults",
        nifti(dim=_dim(3, 4, 0, 6), datatype=32, vox_offset=3, xyzt_units=1, sform_code=0),
        (
            "dim[2]: found 0",
            "datatype: found 32",
            "vox_offset: found 3,",
            "xyzt_units: found 1",
            "sform_code and qform",
        ),
    ),
]

_FLOAT = VOXELS.astype(np.float32)
_LONG = VOXELS.astype(np.int64) + 2**40
_EXTENSION = struct.pack("<ii", 32, 6) + b"a comment of 24 bytes..."

ODD = [
    Odd("plain", _GOOD, VOXELS, AFFINE),
    Odd("gz", _GOOD_GZ, VOXELS, AFFINE, name="scan.nii.gz"),
    Odd("big-endian", nifti(order=">"), VOXELS, AFFINE),
    Odd("big-endian float64", nifti(VOXELS.astype("f8"), order=">"), _FLOAT, AFFINE),
    Odd("NIfTI-2", nifti(version=2), VOXELS, AFFINE),
    Odd("NIfTI-2, big-endian, gz", squeeze(nifti(version=2, order=">")), VOXELS, AFFINE, name="scan.nii.gz"),
    Odd("gz of two members", squeeze(_GOOD[:500]) + squeeze(_GOOD[500:]), VOXELS, AFFINE, name="scan.nii.gz"),
    Odd("gz with a name inside", squeeze(_GOOD, name="John Doe.nii"), VOXELS, AFFINE, name="scan.nii.gz"),
    Odd("gz with zeros after", _GOOD_GZ + bytes(100), VOXELS, AFFINE, name="scan.nii.gz"),
    Odd("an extension", nifti(extension=_EXTENSION), VOXELS, AFFINE),
    Odd("a gap before the voxels", nifti(extension=b"\1" * 13), VOXELS, AFFINE),
    Odd("padded with zeros", nifti(tail=bytes(512)), VOXELS, AFFINE),
    Odd("4-D of one volume", nifti(VOXELS[..., None]), VOXELS, AFFINE),
    Odd("7-D of one volume", nifti(VOXELS[..., None, None, None, None]), VOXELS, AFFINE),
    Odd("rubbish in unused dims", nifti(dim=(3, 4, 5, 6, 0, -7, 99, 0)), VOXELS, AFFINE),
    Odd("bitpix not set", nifti(bitpix=0), VOXELS, AFFINE),
    Odd("slope 0 means unscaled", nifti(scl_slope=0, scl_inter=5), VOXELS, AFFINE),
    Odd("slope NaN means unscaled", nifti(scl_slope=NAN, scl_inter=5), VOXELS, AFFINE),
    Odd("slope NaN, intercept NaN", nifti(scl_slope=NAN, scl_inter=NAN), VOXELS, AFFINE),
    Odd("slope 0, intercept infinite", nifti(scl_slope=0, scl_inter=INF), VOXELS, AFFINE),
    Odd("scaled", nifti(scl_slope=0.5, scl_inter=-1024), _FLOAT * np.float32(0.5) - 1024, AFFINE),
    Odd("shifted only", nifti(VOXELS.astype("u2"), scl_inter=-1), VOXELS.astype("u2") - np.float32(1), AFFINE),
    Odd("negative slope", nifti(scl_slope=-2), _FLOAT * -2, AFFINE),
    Odd("scaled float64", nifti(VOXELS.astype("f8"), scl_slope=2), _FLOAT * 2, AFFINE),
    Odd("constant", nifti(np.full((4, 5, 6), 7, np.uint8)), np.full((4, 5, 6), 7, np.uint8), AFFINE),
    Odd("float32", nifti(_FLOAT), _FLOAT, AFFINE),
    Odd("float64", nifti(VOXELS.astype("f8")), _FLOAT, AFFINE),
    Odd("float64, far below float32", nifti(_altered(1e-300, dtype="f8")), _altered(0), AFFINE),
    Odd("float32's largest", nifti(_altered(3.4028234e38)), _altered(3.4028234e38), AFFINE),
    Odd("int8", nifti(VOXELS.astype("i1")), VOXELS.astype("i1"), AFFINE),
    Odd("uint16, big-endian", nifti(VOXELS.astype("u2"), order=">"), VOXELS.astype("u2"), AFFINE),
    Odd("int32", nifti(VOXELS.astype("i4")), VOXELS.astype("i4"), AFFINE),
    Odd("uint32", nifti(VOXELS.astype("u4")), VOXELS.astype("u4"), AFFINE),
    Odd("int64 wider than float32", nifti(_LONG), _LONG, AFFINE),
    Odd("uint64", nifti(_LONG.astype("u8")), _LONG.astype("u8"), AFFINE),
    Odd("no unit", nifti(xyzt_units=0), VOXELS, AFFINE),
    Odd("mm and milliseconds", nifti(xyzt_units=2 | 16), VOXELS, AFFINE),
    Odd("sform against pixdim", nifti(pixdim=(0, -9, 0, NAN, 0, 0, 0, 0)), VOXELS, AFFINE),
    Odd("MNI", nifti(sform_code=4), VOXELS, AFFINE, 4),
    Odd("another template", nifti(sform_code=5), VOXELS, AFFINE, 5),
    Odd("sheared", nifti(srow=_srow(e00=0.75)), VOXELS, AFFINE + np.array([[0.75, 0, 0, 0], *[[0] * 4] * 3])),
    Odd("qform alone", nifti(sform_code=0, qform_code=2, **_Z_TURN), VOXELS, _Z_TURNED, 2),
    Odd(
        "left-handed qform",
        nifti(sform_code=0, qform_code=1, pixdim=(-1, 2, 2.5, 1.5, 0, 0, 0, 0), **_Z_TURN),
        VOXELS,
        _MIRRORED,
    ),
    Odd(
        "pixdim[0] of 0 counts as 1",
        nifti(sform_code=0, qform_code=1, pixdim=(0, 2, 2.5, 1.5, 0, 0, 0, 0), **_Z_TURN),
        VOXELS,
        _Z_TURNED,
    ),
    Odd(
        "quaternion a little long",
        nifti(sform_code=0, qform_code=1, quatern=(0, 0, 1.0002), qoffset=(10, 20, 30)),
        VOXELS,
        _ALIGNED * np.array([[-1, -1, 1, 1]] * 3 + [[1, 1, 1, 1]]),
    ),
    Odd("both alike", nifti(srow=_ALIGNED_SROW, sform_code=3, qform_code=1, qoffset=(10, 20, 30)), VOXELS, _ALIGNED, 3),
    Odd("both, 0.05 voxel apart", nifti(srow=_ALIGNED_SROW, qform_code=1, qoffset=(10.07, 20, 30)), VOXELS, _ALIGNED),
    Odd("capitals", _GOOD_GZ, VOXELS, AFFINE, name="SCAN.NII.GZ"),
    Odd("spaces, dots and umlauts", _GOOD, VOXELS, AFFINE, name="Schädel .1 v2.0.nii"),
]
