"""MetaImage and NRRD files, bad ones and odd but legal ones, each with what the reader must say of it.

The headers are written out from the formats' descriptions, without SimpleITK, so that the corpus can say what
SimpleITK would not write.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from tests.helpers.nifti_corpus import VOXELS, Bad, Odd

__all__ = ["BAD", "FLIP", "ODD", "WORLD", "metaimage", "nrrd"]

WORLD = np.array([[0, 0, -1.5, 40.25], [2.0, 0, 0, -31.5], [0, 2.5, 0, 12.0], [0, 0, 0, 1]])
"""Voxels to left, posterior, superior, as these formats have it; the same place as the NIfTI corpus' AFFINE."""

FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])
"""From there to right, anterior, superior."""

_RAW = VOXELS.astype("<i2").tobytes(order="F")
_CODES = ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8")
_META = ("CHAR", "UCHAR", "SHORT", "USHORT", "INT", "UINT", "LONG_LONG", "ULONG_LONG", "FLOAT", "DOUBLE")
_NRRD = ("int8", "uchar", "short", "unsigned short int", "int32_t", "uint", "long long", "uint64", "float", "double")
_META_TYPES = dict(zip(_CODES, _META, strict=True))
_NRRD_TYPES = dict(zip(_CODES, _NRRD, strict=True))


def _numbers(values: np.ndarray) -> str:
    return " ".join(f"{value:.17g}" for value in values.ravel())


def metaimage(
    voxels: np.ndarray = VOXELS,
    *,
    order: str = "<",
    packed: bool = False,
    raw: bytes | None = None,
    world: np.ndarray = WORLD,
    end: str = "\n",
    **fields: str | None,
) -> bytes:
    """A whole .mha file: sound unless `fields` say otherwise; None leaves a field out."""
    stored = voxels.astype(voxels.dtype.newbyteorder(order)).tobytes(order="F") if raw is None else raw
    body = zlib.compress(stored) if packed else stored
    spacing = np.linalg.norm(world[:3, :3], axis=0)
    values: dict[str, str | None] = {
        "ObjectType": "Image",
        "NDims": "3",
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": str(order == ">"),
        "CompressedData": str(packed),
        "CompressedDataSize": str(len(body)) if packed else None,
        "TransformMatrix": _numbers((world[:3, :3] / spacing).T),
        "Offset": _numbers(world[:3, 3]),
        "CenterOfRotation": "0 0 0",
        "AnatomicalOrientation": "RAI",
        "ElementSpacing": _numbers(spacing),
        "DimSize": " ".join(map(str, voxels.shape)),
        "ElementType": f"MET_{_META_TYPES[voxels.dtype.str[1:]]}",
    }
    values |= fields
    values["ElementDataFile"] = fields.get("ElementDataFile", "LOCAL")
    return _joined(values, " = ", end).encode() + body


def nrrd(
    voxels: np.ndarray = VOXELS,
    *,
    order: str = "<",
    packed: bool = False,
    raw: bytes | None = None,
    world: np.ndarray = WORLD,
    end: str = "\n",
    magic: str = "NRRD0004",
    lines: tuple[str, ...] = (),
    **fields: str | None,
) -> bytes:
    """A whole .nrrd file: sound unless `fields` (with _ for a space) say otherwise; None leaves a field out."""
    stored = voxels.astype(voxels.dtype.newbyteorder(order)).tobytes(order="F") if raw is None else raw
    values: dict[str, str | None] = {
        "type": _NRRD_TYPES[voxels.dtype.str[1:]],
        "dimension": str(voxels.ndim),
        "space": "left-posterior-superior",
        "sizes": " ".join(map(str, voxels.shape)),
        "space directions": " ".join(f"({','.join(f'{x:.17g}' for x in axis)})" for axis in world[:3, :3].T),
        "kinds": " ".join(["domain"] * voxels.ndim),
        "endian": "big" if order == ">" else "little",
        "encoding": "gzip" if packed else "raw",
        "space origin": f"({','.join(f'{x:.17g}' for x in world[:3, 3])})",
    }
    values |= {name.replace("_", " "): value for name, value in fields.items()}
    header = magic + end + _joined(values, ": ", end) + "".join(line + end for line in lines) + end
    return header.encode() + (gzip.compress(stored, mtime=0) if packed else stored)


def _joined(values: Mapping[str, str | None], between: str, end: str) -> str:
    return "".join(f"{name}{between}{value}{end}" for name, value in values.items() if value is not None)


def _cut(content: bytes, count: int) -> bytes:
    return content[: len(content) - count]


_BROKEN = VOXELS.astype("f4")
_BROKEN.flat[3:5] = np.nan, np.inf
_BEYOND = VOXELS.astype("f8")
_BEYOND.flat[3] = 1e300
_LONG = VOXELS.astype("i8") * 2**40
_SHEARED = WORLD.copy()
_SHEARED[:3, 0] = np.array([0.6, 0.8, 0]) * 2
_BOMB = "30000 30000 30000"
_META_FIELDS: dict[str, tuple[str | None, ...]] = {
    # what the voxels are
    "NDims": ("2", "4", None),
    "DimSize": ("4 30 1", "4 0 6", "4 -5 6", "4 30", "9" * 40 + " 5 6", "four five six", None),
    "ElementNumberOfChannels": ("3",),
    "ElementType": (None, "MET_LONG", "MET_FLOAT_ARRAY"),
    "BinaryDataByteOrderMSB": (None, "maybe"),
    "BinaryData": ("False", None),
    "HeaderSize": ("-1",),
    "ObjectType": ("Tube",),
    "ElementToIntensityFunctionSlope": ("2",),
    "ElementToIntensityFunctionOffset": ("-1024",),
    # where they are
    "DistanceUnits": ("m",),
    "Offset": (None, "1e999 0 0", "inf 0 0"),
    "Position": ("1 2 3",),  # beside an Offset that says otherwise
    "TransformMatrix": (None, "2 0 0 0 1 0 0 0 1"),
    "ElementSpacing": (None, "2 0 1.5", "-2 2 1.5", "nan 2 1.5"),
    # in which file
    "ElementDataFile": (
        "/etc/passwd", "../scan.raw", "folder/scan.raw", "..", ".", ".hidden", "C:\\scan.raw", "http://host/scan.raw",
        "file:scan.raw", "LIST", "LISTed.raw", "slice%03d.raw 1 6 1", "scan*.raw", "scan?.raw", "a\tb.raw", "",
        "scan.mha",
    ),
}  # fmt: skip
_NRRD_FIELDS: dict[str, tuple[str | None, ...]] = {
    "dimension": ("2", "4"),
    "kinds": ("3-vector domain domain", "domain domain time"),
    "sizes": ("4 30 1", None),
    "type": (None, "block"),
    "endian": (None,),
    "encoding": ("ascii", "bzip2"),
    "line skip": ("1",),
    "byte skip": ("-1",),
    "old min": ("0",),
    "space units": ('"m" "m" "m"',),
    "space": (None, "scanner-xyz"),
    "space directions": (None, "(1,0,0) (0,1,0)", "none (1,0,0) (0,1,0) (0,0,1)"),
    "space origin": (None, "(nan,0,0)"),
    "data file": ("/etc/passwd", "../scan.raw", "LIST", "scan%d.raw 1 6 1", "http://host/x", "~/x", "scan.nrrd"),
}


def _wrong(make: Callable[..., bytes], fields: Mapping[str, tuple[str | None, ...]], name: str) -> list[Bad]:
    """A file for each wrong value of one field, which is named with what was found."""
    found = {None: "none"}
    return [
        Bad(f"{field} {value!r}", make(**{field: value}), (f"{field}: found {found.get(value, repr(value))}, ",), name)
        for field, values in fields.items()
        for value in values
    ]


_BAD_META = [
    *_wrong(metaimage, _META_FIELDS, "scan.mha"),
    Bad("missing", None, ("no such file. Similar names there: scan1.mha.",), beside=(("scan1.mha", metaimage()),)),
    Bad("empty", b"", ("the file is empty (0 bytes)",)),
    Bad("text", b"<html>\nnot found\n</html>\n", ("line 1: found '<html>\\n', expected a line 'key = value'",)),
    Bad("cut in the header", metaimage()[:150], ("ElementDataFile: found none in the first 150 bytes",)),
    Bad("an endless header", b"Comment = x\n" + b"\n" * 2**19, ("ElementDataFile: found none in the first 262,144",)),
    Bad("a field twice", metaimage(Comment="\nNDims = 3"), ("NDims stands there twice",)),
    Bad("cut in half", _cut(metaimage(), 120), ("the file ends after 120 of 240 voxel bytes: the copy is incomplete",)),
    Bad("more voxels", metaimage(raw=_RAW + b"\1"), ("found 1 more bytes than the 240 declared",), late=True),
    Bad("many more", metaimage(raw=_RAW + bytes(5000)), ("DimSize and ElementType: found 5,000 more bytes than",)),
    Bad("packed, cut", _cut(metaimage(packed=True), 9), ("CompressedDataSize: found",)),
    Bad(
        "packed, cut, size mended",
        _cut(metaimage(packed=True, CompressedDataSize="50"), len(zlib.compress(_RAW)) - 50),
        ("of 240 voxel bytes",),
        late=True,
    ),
    Bad("packed, no size", metaimage(packed=True, CompressedDataSize=None), ("CompressedDataSize: found none",)),
    Bad("packed, another size", metaimage(packed=True, CompressedDataSize="5"), ("CompressedDataSize: found '5'",)),
    Bad("packed, damaged", metaimage(packed=True)[:-1] + b"\xff", ("voxels are damaged (Error -3",), late=True),
    Bad("packed, too few", metaimage(packed=True, raw=_RAW[:100]), ("after 100 of 240 voxel bytes",), late=True),
    Bad("packed, too many", metaimage(packed=True, raw=_RAW * 2), ("more bytes than the 240 declared",), late=True),
    Bad("memory bomb", metaimage(DimSize=_BOMB), ("after 240 of 54,000,000,000,000 voxel bytes",)),
    Bad("packed memory bomb", metaimage(packed=True, DimSize=_BOMB), ("bytes declared, expected at most",)),
    Bad("NaN and infinity", metaimage(_BROKEN), ("1 of 120 voxels are NaN and 1 of 120 voxels are infin",), late=True),
    Bad("beyond float32", metaimage(_BEYOND), ("1 of 120 voxels lie beyond float32",), late=True),
    Bad(
        "no place", metaimage(TransformMatrix=None, Offset=None), ("TransformMatrix and Offset: found none, expected",)
    ),
    Bad("far away", metaimage(Offset="2e6 0 0"), ("Offset: found 2e+06, expected at most 1,000,000 mm",)),
    Bad("a flat volume", metaimage(TransformMatrix="1 0 0 1 0 0 0 0 1"), ("found a singular matrix",)),
    *(
        Bad(f"beside: {says}", metaimage(raw=b"", ElementDataFile="scan.raw"), (says,), "scan.mhd", beside=beside)
        for says, beside in (
            ("scan.raw: no such file", ()),
            ("'scan.raw': the file ends after 100 of 240 voxel bytes", (("scan.raw", _RAW[:100]),)),
            ("the file is empty", (("scan.raw", b""),)),
        )
    ),
    Bad(
        "many faults",
        metaimage(DimSize="0 5 6", ElementType="?", BinaryData="False", Offset=None, ElementDataFile="../x"),
        ("DimSize: found", "ElementType: found", "ElementDataFile: found", "BinaryData: found", "Offset: found none"),
    ),
]

_BAD_NRRD = [
    *_wrong(nrrd, _NRRD_FIELDS, "scan.nrrd"),
    Bad("text", b"<html>\nnot found\n</html>\n", ("magic: found b'<html>",)),
    Bad("a later version", nrrd(magic="NRRD0006"), ("magic: found b'NRRD0006\\n'",)),
    Bad("cut in the header", nrrd().split(b"kinds")[0], ("found no blank line in the first",)),
    Bad("cut in a line", nrrd()[:90], ("line 6: found 'space direct', expected 'field: value'",)),
    Bad("a field twice", nrrd(lines=("Sizes: 4 5 6",)), ("line 11: sizes stands there twice",)),
    Bad("more voxels", nrrd(raw=_RAW + b"\1"), ("found 1 more bytes than the 240 declared",), late=True),
    Bad("many more", nrrd(raw=_RAW + bytes(5000)), ("sizes and type: found 5,000 more bytes than the 240 declared",)),
    Bad("packed, cut", _cut(nrrd(packed=True), 20), ("of 240 voxel bytes",), late=True),
    Bad("packed, cut in its checksum", _cut(nrrd(packed=True), 2), ("stops before its end mark",), late=True),
    Bad("packed, damaged", _cut(nrrd(packed=True), 8) + bytes(8), ("the compressed voxels are damaged",), late=True),
    Bad("packed, rubbish after", nrrd(packed=True) + b"x", ("(more follows after their end)",), late=True),
    Bad("packed otherwise", nrrd(raw=zlib.compress(_RAW), encoding="gzip"), ("voxels are damaged",), late=True),
    Bad("voxels missing", nrrd(raw=b"", data_file="scan.raw"), ("scan.raw: no such file",)),
]

BAD = [
    replace(bad, label=f"{kind}: {bad.label}", name=bad.name.replace(".nii", f".{kind}"))
    for kind, bads in (("mha", _BAD_META), ("nrrd", _BAD_NRRD))
    for bad in bads
]

_MHA = {
    "int64 wider than float32": metaimage(_LONG),
    "lines ended as by Windows": metaimage(end="\r\n"),
    "padded with zeros": metaimage(raw=_RAW + bytes(512)),
    "other names": metaimage(Offset=None, Origin="40.25 -31.5 12", ElementSpacing=None, ElementSize="2 2.5 1.5"),
    "the same position twice": metaimage(Position="40.25 -31.5 12", Offset="40.25 -31.5 12"),
    "fields of its own": metaimage(Modality="MET_MOD_MR", Comment="a = b: ä", **{"0010|0010": "A^B"}),
    "sheared": metaimage(world=_SHEARED),
}
_NRRDS = {
    "lines ended as by Windows": nrrd(end="\r\n"),
    "the first version": nrrd(magic="NRRD0001"),
    "RAS": nrrd(space="right-anterior-superior"),
    "LAS": nrrd(space="LAS"),
    "no kinds": nrrd(space="Left-Posterior-Superior", kinds=None),
    "keys of its own": nrrd(lines=("# a: b", "k:=v: w", "patient:=A^B")),
    "millimetres": nrrd(space_units='"mm" "mm" "mm"'),
    "sheared": nrrd(world=_SHEARED),
}
_ELSEWHERE = {"sheared": FLIP @ _SHEARED, "RAS": WORLD, "LAS": np.diag([-1.0, 1, 1, 1]) @ WORLD}

ODD = [
    *(
        Odd(
            f"{ending}: {label}",
            content,
            _LONG if "int64" in label else VOXELS,
            _ELSEWHERE.get(label, FLIP @ WORLD),
            name=f"scan.{ending}",
        )
        for ending, contents in (("mha", _MHA), ("nrrd", _NRRDS))
        for label, content in contents.items()
    ),
    *(Odd(name, metaimage(), VOXELS, FLIP @ WORLD, name=name) for name in ("SCAN.MHA", "Schädel .1.mha", "scan.mhd")),
]
