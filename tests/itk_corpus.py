"""Owns MetaImage and NRRD files, bad ones and odd but legal ones, each with what the reader must say of it.

The headers are written out from the formats' descriptions, without SimpleITK, so that the corpus can say what
SimpleITK would not write.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Mapping

import numpy as np

from .nifti_corpus import VOXELS, Bad, Odd

__all__ = ["BAD", "ODD", "WORLD", "metaimage", "nrrd"]

WORLD = np.array([[0, 0, -1.5, 40.25], [2.0, 0, 0, -31.5], [0, 2.5, 0, 12.0], [0, 0, 0, 1]])
"""Voxels to left, posterior, superior, as these formats have it; the same place as the NIfTI corpus' AFFINE."""

_RAS = np.diag([-1.0, -1.0, 1.0, 1.0]) @ WORLD
_RAW = VOXELS.astype("<i2").tobytes(order="F")
_META_TYPES = {
    "i1": "CHAR",
    "u1": "UCHAR",
    "i2": "SHORT",
    "u2": "USHORT",
    "i4": "INT",
    "u4": "UINT",
    "i8": "LONG_LONG",
    "u8": "ULONG_LONG",
    "f4": "FLOAT",
    "f8": "DOUBLE",
}
_NRRD_TYPES = {
    "i1": "signed char",
    "u1": "uchar",
    "i2": "short",
    "u2": "unsigned short int",
    "i4": "int32_t",
    "u4": "uint",
    "i8": "long long int",
    "u8": "uint64",
    "f4": "float",
    "f8": "double",
}


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


_FLOAT = VOXELS.astype("f4")
_LONG = VOXELS.astype("i8") * 2**40
_BROKEN = _FLOAT.copy()
_BROKEN.flat[3:5] = np.nan, np.inf
_BEYOND = VOXELS.astype("f8")
_BEYOND.flat[3] = 1e300
_SHEARED = WORLD.copy()
_SHEARED[:3, 0] = np.array([0.6, 0.8, 0]) * 2
_DETACHED = {"ElementDataFile": "scan.raw", "raw": b""}
_BESIDE = (("scan.raw", _RAW),)
_PLAIN_NAME = "the plain name of one file in the same folder"

_BAD_META = [
    # the file
    Bad("missing", None, ("no such file. Similar names there: scan1.mha.",), beside=(("scan1.mha", metaimage()),)),
    Bad("empty", b"", ("the file is empty (0 bytes)",)),
    Bad("text", b"<html>\nnot found\n</html>\n", ("line 1: found '<html>\\n', expected a line 'key = value'",)),
    Bad("noise", bytes(range(256)) * 8, ("line 1: found",)),
    Bad("NIfTI", b"\x5c\x01\0\0" + bytes(600), ("line 1: found",)),
    Bad("cut in the header", metaimage()[:150], ("ElementDataFile: found none in the first 150 bytes",)),
    Bad("cut before the last line", metaimage().split(b"ElementDataFile")[0], ("ElementDataFile: found none in the",)),
    Bad("an endless header", b"Comment = x\n" + b"\n" * 2**19, ("ElementDataFile: found none in the first 262,144",)),
    Bad("a field twice", metaimage(Comment="\nNDims = 3"), ("NDims stands there twice",)),
    # bytes
    Bad("cut in half", _cut(metaimage(), 120), ("the file ends after 120 of 240 voxel bytes: the copy is incomplete",)),
    Bad("cut by a byte", _cut(metaimage(), 1), ("the file ends after 239 of 240 voxel bytes",)),
    Bad("no voxels", _cut(metaimage(), 240), ("the file ends after 0 of 240 voxel bytes",)),
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
    Bad(
        "packed, damaged",
        metaimage(packed=True)[:-1] + b"\xff",
        ("the compressed voxels are damaged (Error -3 while decompressing data: incorrect data check)",),
        late=True,
    ),
    Bad("packed, too few", metaimage(packed=True, raw=_RAW[:100]), ("after 100 of 240 voxel bytes",), late=True),
    Bad("packed, too many", metaimage(packed=True, raw=_RAW * 2), ("more bytes than the 240 declared",), late=True),
    Bad("memory bomb", metaimage(DimSize="30000 30000 30000"), ("after 240 of 54,000,000,000,000 voxel bytes",)),
    Bad(
        "packed memory bomb",
        metaimage(packed=True, DimSize="30000 30000 30000"),
        ("DimSize and ElementType: found 54,000,000,000,000 bytes declared, expected at most",),
    ),
    # what the voxels are
    Bad("2-D", metaimage(NDims="2", DimSize="4 30"), ("NDims: found '2', expected 3: one 3-D volume",)),
    Bad("4-D", metaimage(NDims="4", DimSize="4 5 6 1"), ("NDims: found '4', expected 3",)),
    Bad("no axes", metaimage(NDims=None), ("NDims: found none",)),
    Bad("a single slice", metaimage(DimSize="4 30 1"), ("DimSize: found '4 30 1', expected at least 2 voxels a side",)),
    Bad("a side of 0", metaimage(DimSize="4 0 6"), ("DimSize: found '4 0 6', expected at least 2",)),
    Bad("a negative side", metaimage(DimSize="4 -5 6"), ("DimSize: found '4 -5 6', expected three whole numbers",)),
    Bad("two sides", metaimage(DimSize="4 30"), ("DimSize: found '4 30', expected three whole numbers",)),
    Bad("sides without end", metaimage(DimSize="9" * 5000 + " 5 6"), ("DimSize: found '99999",)),
    Bad("sides in words", metaimage(DimSize="four five six"), ("DimSize: found 'four five six', expected three",)),
    Bad("no sides", metaimage(DimSize=None), ("DimSize: found none, expected three whole numbers",)),
    Bad("vectors", metaimage(ElementNumberOfChannels="3"), ("ElementNumberOfChannels: found '3', expected 1",)),
    Bad("no type", metaimage(ElementType=None), ("ElementType: found none, expected integers of 8 to 64 bits",)),
    Bad("a type of no fixed size", metaimage(ElementType="MET_LONG"), ("ElementType: found 'MET_LONG', expected",)),
    Bad("arrays", metaimage(ElementType="MET_FLOAT_ARRAY"), ("ElementType: found 'MET_FLOAT_ARRAY'",)),
    Bad("no byte order", metaimage(BinaryDataByteOrderMSB=None), ("BinaryDataByteOrderMSB: found none, expected Tr",)),
    Bad("another byte order", metaimage(BinaryDataByteOrderMSB="maybe"), ("BinaryDataByteOrderMSB: found 'maybe'",)),
    Bad("numbers as text", metaimage(BinaryData="False"), ("BinaryData: found 'False', expected True. Convert it",)),
    Bad("binary or not", metaimage(BinaryData=None), ("BinaryData: found none, expected True or False",)),
    Bad("voxels elsewhere", metaimage(HeaderSize="-1"), ("HeaderSize: found '-1', expected 0",)),
    Bad("no image", metaimage(ObjectType="Tube"), ("ObjectType: found 'Tube', expected image",)),
    Bad("metres", metaimage(DistanceUnits="m"), ("DistanceUnits: found 'm', expected mm",)),
    Bad("scaled", metaimage(ElementToIntensityFunctionSlope="2"), ("ElementToIntensityFunctionSlope: found '2'",)),
    Bad("shifted", metaimage(ElementToIntensityFunctionOffset="-1024"), ("FunctionOffset: found '-1024', expected 0",)),
    Bad("NaN and infinity", metaimage(_BROKEN), ("1 of 120 voxels are NaN and 1 of 120 voxels are infin",), late=True),
    Bad("beyond float32", metaimage(_BEYOND), ("1 of 120 voxels lie beyond float32",), late=True),
    # where they are
    Bad("no position", metaimage(Offset=None), ("Offset: found none, expected where the volume lies",)),
    Bad("no direction", metaimage(TransformMatrix=None), ("TransformMatrix: found none, expected where",)),
    Bad(
        "neither",
        metaimage(TransformMatrix=None, Offset=None),
        ("TransformMatrix and Offset: found none, expected where the volume lies. Export the scan again with its",),
    ),
    Bad("no spacing", metaimage(ElementSpacing=None), ("ElementSpacing: found none, expected 3 finite numbers",)),
    Bad("spacing of 0", metaimage(ElementSpacing="2 0 1.5"), ("ElementSpacing: found '2 0 1.5', expected lengths",)),
    Bad("a negative spacing", metaimage(ElementSpacing="-2 2 1.5"), ("ElementSpacing: found '-2 2 1.5', expected l",)),
    Bad("NaN for spacing", metaimage(ElementSpacing="nan 2 1.5"), ("ElementSpacing: found 'nan 2 1.5', expected 3",)),
    Bad("far away", metaimage(Offset="2e6 0 0"), ("Offset: found 2e+06, expected at most 1,000,000 mm",)),
    Bad("beyond all numbers", metaimage(Offset="1e999 0 0"), ("Offset: found '1e999 0 0', expected 3 finite numbers",)),
    Bad("infinitely far", metaimage(Offset="inf 0 0"), ("Offset: found 'inf 0 0', expected 3 finite numbers",)),
    Bad("a flat volume", metaimage(TransformMatrix="1 0 0 1 0 0 0 0 1"), ("found a singular matrix",)),
    Bad("long directions", metaimage(TransformMatrix="2 0 0 0 1 0 0 0 1"), ("expected three directions of length 1",)),
    Bad("two positions", metaimage(Position="1 2 3"), ("Position: found '1 2 3', expected what Offset says",)),
    # another file
    *(
        Bad(
            f"voxels in {name!r}",
            metaimage(raw=b"", ElementDataFile=name),
            (f"ElementDataFile: found {name!r}, expected LOCAL, or {_PLAIN_NAME}",),
            name="scan.mhd",
        )
        for name in (
            "/etc/passwd", "../scan.raw", "folder/scan.raw", "..", ".", ".hidden", "C:\\scan.raw", "http://host/scan.raw",
            "file:scan.raw", "LIST", "LISTed.raw", "slice%03d.raw 1 6 1", "scan*.raw", "scan?.raw", "a\tb.raw",
        )
    ),
    Bad("itself", metaimage(raw=b"", ElementDataFile="scan.mhd"), ("another file than the header",), name="scan.mhd"),
    Bad("no name", metaimage(raw=b"", ElementDataFile=""), ("ElementDataFile: found ''",), name="scan.mhd"),
    Bad("voxels missing", metaimage(**_DETACHED), ("scan.raw: no such file",), name="scan.mhd"),
    Bad(
        "voxels beside, cut",
        metaimage(**_DETACHED),
        ("'scan.raw': the file ends after 100 of 240 voxel bytes",),
        name="scan.mhd",
        beside=(("scan.raw", _RAW[:100]),),
    ),
    Bad(
        "voxels beside, empty",
        metaimage(**_DETACHED),
        ("the file is empty",),
        name="scan.mhd",
        beside=(("scan.raw", b""),),
    ),
    # several faults at once
    Bad(
        "many faults",
        metaimage(DimSize="0 5 6", ElementType="?", BinaryData="False", Offset=None, ElementDataFile="../x"),
        ("DimSize: found", "ElementType: found", "ElementDataFile: found", "BinaryData: found", "Offset: found none"),
    ),
]  # fmt: skip

_BAD_NRRD = [
    Bad("missing", None, ("no such file. Correct the path.",)),
    Bad("empty", b"", ("the file is empty (0 bytes)",)),
    Bad("text", b"<html>\nnot found\n</html>\n", ("magic: found b'<html>\\nno', expected 'NRRD0001' to",)),
    Bad("a later version", nrrd(magic="NRRD0006"), ("magic: found b'NRRD0006\\n'",)),
    Bad("MetaImage", metaimage(), ("magic: found b'ObjectTyp'",)),
    Bad("cut in the header", nrrd().split(b"kinds")[0], ("found no blank line in the first",)),
    Bad("cut in a line", nrrd()[:90], ("line 6: found 'space direct', expected 'field: value'",)),
    Bad("a damaged line", nrrd(lines=("sizes 4 5 6",)), ("line 11: found 'sizes 4 5 6', expected 'field: value'",)),
    Bad("a field twice", nrrd(lines=("Sizes: 4 5 6",)), ("line 11: sizes stands there twice",)),
    Bad("cut in half", _cut(nrrd(), 120), ("the file ends after 120 of 240 voxel bytes: the copy is incomplete",)),
    Bad("more voxels", nrrd(raw=_RAW + b"\1"), ("found 1 more bytes than the 240 declared",), late=True),
    Bad("many more", nrrd(raw=_RAW + bytes(5000)), ("sizes and type: found 5,000 more bytes than the 240 declared",)),
    Bad("packed, cut", _cut(nrrd(packed=True), 20), ("of 240 voxel bytes",), late=True),
    Bad("packed, cut in its checksum", _cut(nrrd(packed=True), 2), ("stops before its end mark",), late=True),
    Bad(
        "packed, damaged",
        _cut(nrrd(packed=True), 8) + bytes(4) + nrrd(packed=True)[-4:],
        ("the compressed voxels are damaged",),
        late=True,
    ),
    Bad("packed, rubbish after", nrrd(packed=True) + b"x", ("(more follows after their end)",), late=True),
    Bad("packed otherwise", nrrd(raw=zlib.compress(_RAW), encoding="gzip"), ("voxels are damaged",), late=True),
    Bad("memory bomb", nrrd(sizes="30000 30000 30000"), ("after 240 of 54,000,000,000,000 voxel bytes",)),
    Bad("packed memory bomb", nrrd(packed=True, sizes="9000 9000 9000"), ("bytes declared, expected at most",)),
    Bad("2-D", nrrd(dimension="2", sizes="4 30"), ("dimension: found '2', expected 3",)),
    Bad("4-D", nrrd(dimension="4", sizes="1 4 5 6"), ("dimension: found '4', expected 3",)),
    Bad("vectors", nrrd(kinds="3-vector domain domain"), ("kinds: found '3-vector domain domain', expected",)),
    Bad("a series", nrrd(kinds="domain domain time"), ("kinds: found 'domain domain time', expected domain",)),
    Bad("a single slice", nrrd(sizes="4 30 1"), ("sizes: found '4 30 1', expected at least 2 voxels a side",)),
    Bad("no sizes", nrrd(sizes=None), ("sizes: found none",)),
    Bad("no type", nrrd(type=None), ("type: found none, expected integers of 8 to 64 bits, float or double",)),
    Bad("blocks", nrrd(type="block"), ("type: found 'block'",)),
    Bad("no byte order", nrrd(endian=None), ("endian: found none, expected little or big",)),
    Bad("numbers as text", nrrd(encoding="ascii"), ("encoding: found 'ascii', expected raw or gzip",)),
    Bad("bzip2", nrrd(encoding="bzip2"), ("encoding: found 'bzip2', expected raw or gzip",)),
    Bad("lines to skip", nrrd(line_skip="1"), ("line skip: found '1', expected 0",)),
    Bad("bytes to skip", nrrd(byteskip="-1"), ("byte skip: found '-1', expected 0",)),
    Bad("quantised", nrrd(old_min="0", old_max="9"), ("old min: found '0'", "old max: found '9'")),
    Bad("metres", nrrd(space_units='"m" "m" "m"'), ("space units: found '\"m\" \"m\" \"m\"', expected \"mm\"",)),
    Bad("no space", nrrd(space=None), ("space: found none, expected left-posterior-superior, right-",)),
    Bad("a space without sides", nrrd(space="scanner-xyz"), ("set reading.accept_unknown_space: true",)),
    Bad("no directions", nrrd(space_directions=None), ("space directions: found none, expected 3 vectors (x,y,z)",)),
    Bad("no origin", nrrd(space_origin=None), ("space origin: found none, expected 1 vector (x,y,z)",)),
    Bad("two directions", nrrd(space_directions="(1,0,0) (0,1,0)"), ("space directions: found '(1,0,0) (0,1,0)'",)),
    Bad("an axis without", nrrd(space_directions="none (1,0,0) (0,1,0) (0,0,1)"), ("expected 3 vectors (x,y,z)",)),
    Bad("NaN", nrrd(space_origin="(nan,0,0)"), ("space origin: found '(nan,0,0)', expected 3 finite numbers",)),
    Bad("a flat volume", nrrd(space_directions="(1,0,0) (1,0,0) (0,0,1)"), ("found a singular matrix",)),
    Bad("NaN voxels", nrrd(_BROKEN), ("voxels are NaN and 1 of 120 voxels are infinite",), late=True),
    *(
        Bad(
            f"voxels in {name!r}",
            nrrd(raw=b"", data_file=name),
            (f"data file: found {name!r}, expected {_PLAIN_NAME}",),
        )
        for name in ("/etc/passwd", "../scan.raw", "LIST", "LIST 2", "scan%d.raw 1 6 1", "http://host/scan.raw", "~/x")
    ),
    Bad("voxels missing", nrrd(raw=b"", data_file="scan.raw"), ("scan.raw: no such file",)),
    Bad("itself", nrrd(raw=b"", data_file="scan.nrrd"), ("another file than the header",)),
]  # fmt: skip

BAD = [
    *(Bad(f"mha: {b.label}", b.content, b.says, b.name.replace(".nii", ".mha"), b.late, b.beside) for b in _BAD_META),
    *(Bad(f"nrrd: {b.label}", b.content, b.says, b.name.replace(".nii", ".nrrd"), b.late, b.beside) for b in _BAD_NRRD),
]

_NATIVE = [VOXELS.astype(code) for code in ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8")]

ODD = [
    *(
        Odd(
            f"{ending}: {one.dtype}, {order}{', packed' if packed else ''}",
            make(one, order=order, packed=packed),
            one.astype("f4") if one.dtype.kind == "f" else one,
            _RAS,
            name=f"scan.{ending}",
        )
        for ending, make in (("mha", metaimage), ("nrrd", nrrd))
        for one in _NATIVE
        for order, packed in (("<", False), (">", False), ("<", True))
    ),
    Odd("mha: int64 wider than float32", metaimage(_LONG), _LONG, _RAS, name="scan.mha"),
    Odd("mha: lines ended as by Windows", metaimage(end="\r\n"), VOXELS, _RAS, name="scan.mha"),
    Odd("mha: padded with zeros", metaimage(raw=_RAW + bytes(512)), VOXELS, _RAS, name="scan.mha"),
    Odd(
        "mha: other names",
        metaimage(Offset=None, Origin="40.25 -31.5 12", ElementSpacing=None, ElementSize="2 2.5 1.5"),
        VOXELS,
        _RAS,
        name="scan.mha",
    ),
    Odd("mha: the same position twice", metaimage(Position="40.25 -31.5 12", Offset="40.25 -31.5 12"), VOXELS, _RAS,
        name="scan.mha"),
    Odd(
        "mha: fields of its own",
        metaimage(Modality="MET_MOD_MR", Comment="a = b: ä", **{"0010|0010": "A^B"}),
        VOXELS,
        _RAS,
        name="scan.mha",
    ),
    Odd("mha: another orientation code", metaimage(AnatomicalOrientation="LPS"), VOXELS, _RAS, name="scan.mha"),
    Odd("mha: sheared", metaimage(world=_SHEARED), VOXELS, np.diag([-1.0, -1, 1, 1]) @ _SHEARED, name="scan.mha"),
    Odd("mha: capitals", metaimage(), VOXELS, _RAS, name="SCAN.MHA"),
    Odd("mha: spaces and umlauts", metaimage(), VOXELS, _RAS, name="Schädel .1 v2.0.mha"),
    Odd("mhd: voxels inside", metaimage(), VOXELS, _RAS, name="scan.mhd"),
    Odd("nrrd: lines ended as by Windows", nrrd(end="\r\n"), VOXELS, _RAS, name="scan.nrrd"),
    Odd("nrrd: the first version", nrrd(magic="NRRD0001"), VOXELS, _RAS, name="scan.nrrd"),
    Odd("nrrd: RAS", nrrd(space="right-anterior-superior"), VOXELS, WORLD, name="scan.nrrd"),
    Odd("nrrd: LAS", nrrd(space="LAS"), VOXELS, np.diag([-1.0, 1, 1, 1]) @ WORLD, name="scan.nrrd"),
    Odd("nrrd: no kinds", nrrd(space="Left-Posterior-Superior", kinds=None), VOXELS, _RAS, name="scan.nrrd"),
    Odd("nrrd: keys of its own", nrrd(lines=("# a: b", "k:=v: w", "patient:=A^B")), VOXELS, _RAS, name="scan.nrrd"),
    Odd("nrrd: millimetres", nrrd(space_units='"mm" "mm" "mm"'), VOXELS, _RAS, name="scan.nrrd"),
    Odd("nrrd: sheared", nrrd(world=_SHEARED), VOXELS, np.diag([-1.0, -1, 1, 1]) @ _SHEARED, name="scan.nrrd"),
]  # fmt: skip
