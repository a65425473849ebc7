"""NIfTI files, bad ones and odd but legal ones, each with what the reader must say of it.

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
    "sizeof_hdr": (0, "i"), "data_type": (4, "10s"), "db_name": (14, "18s"), "dim": (40, "8h"),
    "intent_code": (68, "h"), "datatype": (70, "h"), "bitpix": (72, "h"), "pixdim": (76, "8f"),
    "vox_offset": (108, "f"), "scl_slope": (112, "f"),
    "scl_inter": (116, "f"), "xyzt_units": (123, "B"), "cal_max": (124, "f"), "descrip": (148, "80s"),
    "aux_file": (228, "24s"), "qform_code": (252, "h"), "sform_code": (254, "h"), "quatern": (256, "3f"),
    "qoffset": (268, "3f"), "srow": (280, "12f"), "intent_name": (328, "16s"), "magic": (344, "4s"),
}  # fmt: skip
_NIFTI2 = {
    "sizeof_hdr": (0, "i"), "magic": (4, "8s"), "datatype": (12, "h"), "bitpix": (14, "h"), "dim": (16, "8q"),
    "pixdim": (104, "8d"), "vox_offset": (168, "q"), "scl_slope": (176, "d"), "scl_inter": (184, "d"),
    "qform_code": (344, "i"), "sform_code": (348, "i"), "quatern": (352, "3d"), "qoffset": (376, "3d"),
    "srow": (400, "12d"), "xyzt_units": (500, "i"),
}  # fmt: skip


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

_QFORM = {"sform_code": 0, "qform_code": 1}
_PACKED = "scan.nii.gz"
_WRONG: list[tuple[dict[str, Any], *tuple[str, ...]]] = [
    # no NIfTI, or not one file
    ({"sizeof_hdr": 347}, "sizeof_hdr: found 347, expected 348"),
    ({"magic": b"ni1\0"}, "magic: found b'ni1\\x00' (half of an .hdr/.img pair)"),
    ({"magic": b"\0\0\0\0"}, "magic: found b'\\x00\\x00\\x00\\x00', expected b'n+1\\x00'"),
    ({"version": 2, "magic": b"n+2\0\n\x1a\n\0"}, "magic: found b'n+2\\x00\\n"),  # line ends converted
    # shape
    ({"dim": _dim(0, 4, 5, 6)}, "dim[0]: found 0 axes, expected 3"),
    ({"dim": _dim(3, 4, 0, 6)}, "dim[2]: found 0, expected at least 1"),
    ({"dim": _dim(3, -4, 5, -6)}, "dim[1]: found -4", "dim[3]: found -6"),
    ({"dim": _dim(4, 4, 5, 6, 0)}, "dim[4]: found 0"),
    ({"voxels": np.zeros((4, 5, 6, 3), "i2")}, "dim: found 3 volumes (4-D), expected one"),
    ({"voxels": np.zeros((4, 5), "i2")}, "dim: found 4 × 5 × 1, expected at least 2"),
    # declared and found bytes
    ({"datatype": 64, "bitpix": 64}, "the file ends after 240 of 960 voxel bytes"),
    ({"tail": bytes(5000)}, "found 5,000 more bytes than the 240 declared"),
    ({"dim": _dim(3, 30000, 30000, 30000)}, "after 240 of 54,000,000,000,000 voxel bytes"),
    ({"bitpix": 32}, "bitpix: found 32, expected 16 as for datatype 4 (int16)"),
    ({"vox_offset": 0}, "vox_offset: found 0, expected a whole number from 352 on"),
    ({"vox_offset": NAN}, "vox_offset: found nan"),
    ({"vox_offset": 352.5}, "vox_offset: found 352.5"),
    ({"vox_offset": 1e9}, "the file ends after 0 of 240 voxel bytes"),
    ({"version": 2, "vox_offset": 352}, "vox_offset: found 352, expected a whole"),
    # types
    ({"datatype": 9999}, "datatype: found 9999, expected integers"),
    ({"datatype": 1, "bitpix": 1}, "datatype: found 1 (1 bit a voxel)"),
    ({"datatype": 128, "bitpix": 24}, "datatype: found 128 (RGB)"),
    # position
    ({"sform_code": 0}, "sform_code and qform_code: found 0 in both"),
    ({"sform_code": 7}, "sform_code: found 7, expected 0 to 5"),
    ({"qform_code": -1}, "qform_code: found -1, expected 0 to 5"),
    ({"srow": _srow(e12=NAN)}, "srow_x, srow_y, srow_z: found NaN or infinity"),
    ({"srow": [0] * 12}, "srow_x, srow_y, srow_z: found a singular matrix"),
    ({"srow": _srow(e01=0, e11=-2, e21=0)}, "found a singular matrix"),  # two axes alike
    ({"srow": _srow(e03=1e30)}, "found 1e+30, expected at most 1,000,000 mm"),
    (
        {**BOTH_FORMS, "pixdim": (-1, 2, 2.5, 1.5, 0, 0, 0, 0), "quatern": (0, 1, 0)},  # left and right swapped
        "found two positions up to 12 mm apart (RAS by sform, LAS by qform), expected at most 0.15",
    ),
    ({**BOTH_FORMS, "qoffset": (10.3, 20, 30)}, "found two positions up to 0.3 mm apart (RAS by sform, RAS by qform)"),
    ({**_QFORM, "pixdim": _dim(1, 2, 0, 2)}, "pixdim: found spacing"),
    ({**_QFORM, "pixdim": (1, NAN, *[1] * 6)}, "pixdim: found spacing [nan"),
    ({**_QFORM, "pixdim": _dim(3, 1, 1, 1)}, "pixdim[0]: found 3,"),
    ({**_QFORM, "quatern": (1, 1, 0)}, "quatern_b, c, d: found [1.0, 1.0"),
    ({**_QFORM, "quatern": (0, NAN, 0)}, "quatern_b, c, d: found [0.0, nan"),
    ({**_QFORM, "qoffset": (0, NAN, 0)}, "qoffset_x, y, z: found NaN"),
    ({"qform_code": 1, "quatern": (1, 1, 0)}, "quatern_b, c, d: found"),  # beside a good sform
    ({"xyzt_units": 1}, "xyzt_units: found 1 (metres), expected 2 (mm)"),
    ({"xyzt_units": 3 | 8}, "xyzt_units: found 3 (micrometres), expected 2 (mm)"),
    ({"xyzt_units": 5}, "xyzt_units: found 5 (no unit of length)"),
    # values
    ({"scl_slope": INF}, "scl_slope: found inf, expected a finite number"),
    ({"scl_slope": 2, "scl_inter": NAN}, "scl_inter: found nan, expected a finite number"),
    # all at once
    (
        {"dim": _dim(3, 4, 0, 6), "datatype": 32, "vox_offset": 3, "xyzt_units": 1, "sform_code": 0},
        "dim[2]: found 0", "datatype: found 32", "vox_offset: found 3,", "xyzt_units: found 1", "sform_code and qform",
    ),
]  # fmt: skip
_LATE = {  # what only the voxels show
    "found 3 more bytes than the 240 declared": nifti(tail=b"\0\0\1"),
    "12 of 120 voxels are NaN, expected": nifti(_altered(NAN, count=12)),
    "1 of 120 voxels are infinite, expected": nifti(_altered(-INF)),
    "1 of 120 voxels lie beyond float32": nifti(_altered(1e300, dtype="f8")),
    "120 of 120 voxels lie beyond float32": nifti(scl_slope=3e38),
}
_LATE_PACKED = {
    "of 240 voxel bytes": _GOOD_GZ[: -len(_GOOD_GZ) // 3],
    "stops before its end mark": _GOOD_GZ[:-2],
    "is damaged (CRC check failed": flip(_GOOD_GZ, -6),
    "after 148 of 240 voxel bytes": squeeze(_GOOD[:500]),
    "is damaged (Not a gzip": _GOOD_GZ + b"rubbish",
    "more bytes than the 240 declared": squeeze(nifti(tail=bytes(10**6))),
}

BAD = [
    # the name and the file
    Bad("missing", None, ("no such file. Similar names there: scan1.nii.",), beside=(("scan1.nii", _GOOD),)),
    Bad("missing folder", None, ("no such file, since there is no folder",), name="gone/scan.nii"),
    Bad("another format", _GOOD, ("'.mgz', expected .nii.gz, .nii, .mha, .mhd or .nrrd; convert",), name="scan.mgz"),
    Bad("two under one name", _GOOD, ("scan.nii.gz lies beside it",), beside=((_PACKED, _GOOD_GZ),)),
    Bad("two, gz", _GOOD_GZ, ("scan.nii lies beside it",), name=_PACKED, beside=(("scan.nii", _GOOD),)),
    Bad("empty", b"", ("the file is empty (0 bytes)",)),
    Bad("gz named nii", _GOOD_GZ, ("found gzip-compressed data",)),
    Bad("nii named gz", _GOOD, ("found plain data",), name=_PACKED),
    Bad("text", b"<html>not found</html>" * 40, ("sizeof_hdr: found 1836345404, expected 348",)),
    Bad("cut in the header", _GOOD[:100], ("the file ends after 100 of the header's 348 bytes",)),
    Bad("cut in a NIfTI-2 header", nifti(version=2)[:400], ("the file ends after 400 of the header's 540 bytes",)),
    Bad("cut in half", _GOOD[: 352 + 120], ("the file ends after 120 of 240 voxel bytes: the copy is incomplete",)),
    Bad("gz cut in the header", _GOOD_GZ[:20], ("the gzip stream stops before its end mark",), name=_PACKED),
    *(
        Bad(
            f"gz too small for {side} a side",
            squeeze(nifti(version=2, dim=_dim(3, side, side, side))),
            ("dim and vox_offset: found",),
            name=_PACKED,
        )
        for side in (500, 30_000, 2**62)
    ),
    *(Bad(says[0], nifti(**fields), tuple(says)) for fields, *says in _WRONG),
    *(Bad(says, content, (says,), late=True) for says, content in _LATE.items()),
    *(Bad(f"gz: {says}", content, (says,), name=_PACKED, late=True) for says, content in _LATE_PACKED.items()),
]

_FLOAT = VOXELS.astype(np.float32)
_LONG = VOXELS.astype(np.int64) + 2**40
_EXTENSION = struct.pack("<ii", 32, 6) + b"a comment of 24 bytes..."

ODD = [
    Odd("plain", _GOOD, VOXELS, AFFINE),
    Odd("gz", _GOOD_GZ, VOXELS, AFFINE, name="scan.nii.gz"),
    Odd("NIfTI-2", nifti(version=2), VOXELS, AFFINE),
    Odd("NIfTI-2, big-endian, gz", squeeze(nifti(version=2, order=">")), VOXELS, AFFINE, name="scan.nii.gz"),
    Odd("gz of two members", squeeze(_GOOD[:500]) + squeeze(_GOOD[500:]), VOXELS, AFFINE, name="scan.nii.gz"),
    Odd("gz with a name inside", squeeze(_GOOD, name="John Doe.nii"), VOXELS, AFFINE, name="scan.nii.gz"),
    Odd("gz with zeros after", _GOOD_GZ + bytes(100), VOXELS, AFFINE, name="scan.nii.gz"),
    Odd("an extension", nifti(extension=_EXTENSION), VOXELS, AFFINE),
    Odd("a gap before the voxels", nifti(extension=b"\1" * 13), VOXELS, AFFINE),
    Odd("padded with zeros", nifti(tail=bytes(512)), VOXELS, AFFINE),
    Odd("4-D of one volume", nifti(VOXELS[..., None]), VOXELS, AFFINE),
    Odd("rubbish in unused dims", nifti(dim=(3, 4, 5, 6, 0, -7, 99, 0)), VOXELS, AFFINE),
    Odd("bitpix not set", nifti(bitpix=0), VOXELS, AFFINE),
    Odd("slope 0 means unscaled", nifti(scl_slope=0, scl_inter=5), VOXELS, AFFINE),
    Odd("slope NaN means unscaled", nifti(scl_slope=NAN, scl_inter=5), VOXELS, AFFINE),
    Odd("scaled", nifti(scl_slope=0.5, scl_inter=-1024), _FLOAT * np.float32(0.5) - 1024, AFFINE),
    Odd("shifted only", nifti(VOXELS.astype("u2"), scl_inter=-1), VOXELS.astype("u2") - np.float32(1), AFFINE),
    Odd("negative slope", nifti(scl_slope=-2), _FLOAT * -2, AFFINE),
    *(
        Odd(f"{code}, {order}", nifti(one, order=order), one.astype("f4") if code[0] == "f" else one, AFFINE)
        for code, one in ((code, VOXELS.astype(code)) for code in _DATATYPES)
        for order in "<>"
    ),
    Odd("float64, far below float32", nifti(_altered(1e-300, dtype="f8")), _altered(0), AFFINE),
    Odd("float32's largest", nifti(_altered(3.4028234e38)), _altered(3.4028234e38), AFFINE),
    Odd("int64 wider than float32", nifti(_LONG), _LONG, AFFINE),
    Odd("no unit", nifti(xyzt_units=0), VOXELS, AFFINE),
    Odd("sform against pixdim", nifti(pixdim=(0, -9, 0, NAN, 0, 0, 0, 0)), VOXELS, AFFINE),
    Odd("MNI", nifti(sform_code=4), VOXELS, AFFINE, 4),
    Odd("sheared", nifti(srow=_srow(e00=0.75)), VOXELS, AFFINE + np.array([[0.75, 0, 0, 0], *[[0] * 4] * 3])),
    Odd("qform alone", nifti(sform_code=0, qform_code=2, **_Z_TURN), VOXELS, _Z_TURNED, 2),
    *(
        Odd(
            f"qform with pixdim[0] of {sign}",  # -1 turns k round, 0 counts as 1
            nifti(**_QFORM, pixdim=(sign, 2, 2.5, 1.5, 0, 0, 0, 0), **_Z_TURN),
            VOXELS,
            affine,
        )
        for sign, affine in ((-1, _MIRRORED), (0, _Z_TURNED))
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
