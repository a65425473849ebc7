"""What the text headers of MetaImage (.mha, .mhd) and NRRD (.nrrd) files say; an unsound one is refused by field.

MetaImage counts world positions to the left, posterior and superior (LPS), and so does NRRD unless it says otherwise;
medtrans and NIfTI count to the right, anterior and superior (RAS). The first two rows of an affine change their sign.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from medtrans.errors import DataError
from medtrans.volume.affine import affine_fault
from medtrans.volume.header import TO_ACCEPT_UNKNOWN_SPACE, ImageHeader, ReadingRules

LARGEST_HEADER = 2**18
"""Bytes in which a header must end; what writers put into comments and keys of their own fits many times."""

_RAS_OF_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # left becomes right, posterior anterior
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?")
_WHOLE = re.compile(r"\d{1,12}")


@dataclass(frozen=True, eq=False)
class ItkHeader:
    """What a sound text header says.

    Args:
        layout: shape, type and place; the offset counts in `data_file`.
        data_file: the file with the voxels: the header's own, or one beside it.
        compression: of the voxels, all to the end of the file.
        size_fields: which fields say how many bytes the voxels take.
    """

    layout: ImageHeader
    data_file: Path
    compression: Literal["zlib", "gzip"] | None
    size_fields: str


class Fields:
    """The fields of a header, and what is found wrong with them.

    Args:
        path: of the file.
        values: by name.
        begin: bytes before the voxels, where they follow the header.
    """

    def __init__(self, path: Path, values: Mapping[str, str], begin: int) -> None:
        self.path, self.values, self.begin = path, values, begin
        self.faults: list[str] = []

    def fault(self, name: str, expected: str, advice: str = "Export the scan again") -> None:
        """Say what was found in a field, what was expected and what to do."""
        text = self.values.get(name, "")
        found = repr(text if len(text) <= 60 else f"{text[:57]}...") if name in self.values else "none"
        self.faults.append(f"{name}: found {found}, expected {expected}. {advice}.")

    def one_of(self, name: str, known: Mapping[str, Any], expected: str, advice: str) -> Any:
        """What the field's text stands for, in any case of letters; None and a fault where it is unknown."""
        text = self.values.get(name, "").lower()
        if text in known:
            return known[text]
        self.fault(name, expected, advice)
        return None

    def shape(self, name: str, axes: str) -> tuple[int, int, int] | None:
        """Three sides of at least 2 voxels; the field `axes` says how many there are."""
        words = self.values.get(name, "").split()
        if self.values.get(axes, "") != "3":
            self.fault(axes, "3: one 3-D volume", "Extract one volume; medtrans is for 3-D")
        elif len(words) != 3 or not all(_WHOLE.fullmatch(word) for word in words):
            self.fault(name, "three whole numbers")
        elif min(int(word) for word in words) < 2:
            self.fault(name, "at least 2 voxels a side", "Exclude it: medtrans is for 3-D")
        else:
            i, j, k = (int(word) for word in words)
            return i, j, k
        return None

    def numbers(self, name: str, count: int, text: str | None = None) -> np.ndarray | None:
        """So many finite numbers, from the field or from `text` made of it."""
        words = (self.values.get(name, "") if text is None else text).split()
        if len(words) == count and all(_NUMBER.fullmatch(word) for word in words):
            found = np.array([float(word) for word in words])
            if np.isfinite(found).all():
                return found
        self.fault(name, f"{count} finite numbers")
        return None

    def expect_default(self, name: str, harmless: Sequence[str], advice: str) -> None:
        """A field that may be missing, and must not say more than that all is as usual."""
        if name in self.values and self.values[name].lower() not in harmless:
            self.fault(name, harmless[0], advice)

    def sibling_file(self, name: str, otherwise: str = "") -> Path | None:
        """The file in the header's own folder that the field names; None and a fault where it names another."""
        text = self.values[name]
        if not text or text.startswith((".", "LIST")) or re.search(r"[/\\:*?%<>|\"\x00-\x1f\x7f\ud800-\udfff]", text):
            self.fault(name, f"{otherwise}the plain name of one file in the same folder", "Convert it to one file")
        elif text == self.path.name:
            self.fault(name, f"{otherwise}another file than the header", "Convert it to one file")
        else:
            return self.path.with_name(text)
        return None

    def affine(self, name: str, affine: np.ndarray) -> np.ndarray:
        """The affine, with a fault where it places nothing."""
        if fault := affine_fault(affine):
            self.faults.append(f"{name}: {fault}. Export the scan again.")
        return affine

    def header(
        self,
        shape: tuple[int, int, int] | None,
        stored: np.dtype[Any] | None,
        data: Path | None,
        placement: tuple[np.ndarray, tuple[str, ...]],
        compression: Literal["zlib", "gzip"] | None,
        size_fields: str,
    ) -> ItkHeader:
        """All that was found together, or a DataError of all faults."""
        if self.faults or shape is None or stored is None or data is None:
            raise DataError(*(f"{self.path}: {fault}" for fault in self.faults))
        affine, notes = placement
        layout = ImageHeader(shape, stored, self.begin if data == self.path else 0, affine, notes=notes)
        return ItkHeader(layout, data, compression, size_fields)


# MetaImage

_METAIMAGE_TYPES = {
    f"met_{name}": code
    for name, code in {
        "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4",
        "long_long": "i8", "ulong_long": "u8", "float": "f4", "double": "f8",
    }.items()
}  # fmt: skip
_METAIMAGE_LINE = re.compile(r"\s*([^\s=:][^=:]*?)\s*[=:]\s*(.*?)\s*")
_DATA_FILE = "ElementDataFile"  # the voxels follow it
_NO_META = "It is no MetaImage file, or a damaged one: convert or copy it again."
_MATRIX = ("TransformMatrix", "Rotation", "Orientation")  # names in the order in which MetaImage looks for them
_OFFSET = ("Offset", "Position", "Origin")
_SPACING = ("ElementSpacing", "ElementSize")


def metaimage_header(path: Path, block: bytes, rules: ReadingRules) -> ItkHeader:
    """What the MetaImage header in a file's first bytes says, or a DataError of all its faults.

    Fields that place and describe the voxels are checked; `AnatomicalOrientation`, which says roughly again what
    `TransformMatrix` says, `CenterOfRotation`, comments and fields of a writer's own are not looked at.
    """
    fields = _metaimage_fields(path, block)
    shape = fields.shape("DimSize", "NDims")
    stored = _metaimage_dtype(fields)
    local = fields.values[_DATA_FILE] in ("LOCAL", "Local", "local")
    data = path if local else fields.sibling_file(_DATA_FILE, "LOCAL, or ")
    packed = "CompressedData" in fields.values and _flag(fields, "CompressedData")
    if packed:
        _check_packed_size(fields, data)
    _check_metaimage(fields)
    placement = _metaimage_placement(fields, rules)
    return fields.header(shape, stored, data, placement, "zlib" if packed else None, "DimSize and ElementType")


def _metaimage_fields(path: Path, block: bytes) -> Fields:
    values: dict[str, str] = {}
    at = 0
    for number, line in enumerate(block.splitlines(keepends=True), 1):
        at += len(line)
        text = line.decode("utf-8", "surrogateescape")
        if not text.strip():
            continue
        found = _METAIMAGE_LINE.fullmatch(text)
        if found is None or not (text.endswith("\n") or at == len(block)):
            raise DataError(f"{path}, line {number}: found {text[:40]!r}, expected a line 'key = value'. {_NO_META}")
        if found[1] in values:
            raise DataError(f"{path}, line {number}: {found[1]} stands there twice. Remove one, or export it again.")
        values[found[1]] = found[2]
        if found[1] == _DATA_FILE:
            return Fields(path, values, at)
    raise DataError(
        f"{path}: {_DATA_FILE}: found none in the first {len(block):,} bytes, expected it at the header's end. "
        f"{_NO_META}"
    )


def _flag(fields: Fields, name: str) -> Any:
    return fields.one_of(name, {"true": True, "false": False}, "True or False", "Export the scan again")


def _metaimage_dtype(fields: Fields) -> np.dtype[Any] | None:
    known = "integers of 8 to 64 bits whose size is the same everywhere, float or double"
    code: str | None = fields.one_of("ElementType", _METAIMAGE_TYPES, known, "Convert it")
    if code is None:
        return None
    order = "BinaryDataByteOrderMSB" if "BinaryDataByteOrderMSB" in fields.values else "ElementByteOrderMSB"
    if code[1] == "1":
        return np.dtype(code)
    if order not in fields.values:
        fields.fault("BinaryDataByteOrderMSB", "True or False")
        return None
    return np.dtype((">" if _flag(fields, order) else "<") + code)


def _check_packed_size(fields: Fields, data: Path | None) -> None:
    """Other programs read rubbish without a word where this size is missing or wrong."""
    size = fields.values.get("CompressedDataSize", "")
    if data is None or not data.is_file():
        return
    found = data.stat().st_size - (fields.begin if data == fields.path else 0)
    if size != str(found):
        fields.fault("CompressedDataSize", f"{found}, the bytes that there are", "Copy it again")


def _check_metaimage(fields: Fields) -> None:
    if _flag(fields, "BinaryData") is False:
        fields.fault("BinaryData", "True", "Convert it")
    fields.expect_default("ObjectType", ("image",), "Convert it")
    fields.expect_default("HeaderSize", ("0",), "Convert it")
    fields.expect_default("ElementNumberOfChannels", ("1",), "Extract one channel")
    fields.expect_default("DistanceUnits", ("mm", "?", ""), "Convert positions and spacing to mm")
    fields.expect_default("ElementToIntensityFunctionSlope", ("1",), "Export it in physical values")
    fields.expect_default("ElementToIntensityFunctionOffset", ("0",), "Export it in physical values")


def _metaimage_placement(fields: Fields, rules: ReadingRules) -> tuple[np.ndarray, tuple[str, ...]]:
    matrix, offset, spacing = (_stated(fields, names) for names in (_MATRIX, _OFFSET, _SPACING))
    missing = [name for name in (matrix, offset) if name not in fields.values]
    notes = [f"the header has no {name}: placed without (reading.accept_unknown_space)" for name in missing]
    if missing and not rules.accept_unknown_space:
        fields.faults.append(
            f"{' and '.join(missing)}: found none, expected where the volume lies. Export the scan again with its "
            f"position, or {TO_ACCEPT_UNKNOWN_SPACE} to have it placed without."
        )
    directions = np.eye(3).ravel() if matrix in missing else fields.numbers(matrix, 9)
    origin = np.zeros(3) if offset in missing else fields.numbers(offset, 3)
    lengths = fields.numbers(spacing, 3)
    if directions is None or origin is None or lengths is None:
        return np.eye(4), ()
    axes = directions.reshape(3, 3).T  # the file lists the direction of i, then of j, of k: a row is a column here
    if np.abs(np.linalg.norm(axes, axis=0) - 1).max() > 1e-3:
        fields.fault(matrix, "three directions of length 1")
    if lengths.min() <= 0:
        fields.fault(spacing, "lengths above 0 in mm")
    if fields.faults:
        return np.eye(4), ()
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = axes * lengths, origin
    return fields.affine(f"{matrix}, {spacing}, {offset}", _RAS_OF_LPS @ affine), tuple(notes)


def _stated(fields: Fields, names: Sequence[str]) -> str:
    """Under which of its names a field stands, the first one where it does not; two must say the same."""
    found = [name for name in names if name in fields.values]
    for other in found[1:]:
        if fields.values[other] != fields.values[found[0]]:
            fields.fault(other, f"what {found[0]} says, {fields.values[found[0]]!r}")
    return (found or names)[0]


# NRRD

_NRRD_TYPES = {
    name: code
    for code, names in {
        "i1": "signed char, int8, int8_t",
        "u1": "uchar, unsigned char, uint8, uint8_t",
        "i2": "short, short int, signed short, signed short int, int16, int16_t",
        "u2": "ushort, unsigned short, unsigned short int, uint16, uint16_t",
        "i4": "int, signed int, int32, int32_t",
        "u4": "uint, unsigned int, uint32, uint32_t",
        "i8": "longlong, long long, long long int, signed long long, signed long long int, int64, int64_t",
        "u8": "ulonglong, unsigned long long, unsigned long long int, uint64, uint64_t",
        "f4": "float",
        "f8": "double",
    }.items()
    for name in names.split(", ")
}
_SPACES = {
    name: np.diag([x, y, 1.0, 1.0])
    for names, x, y in (
        (("right-anterior-superior", "ras"), 1.0, 1.0),
        (("left-anterior-superior", "las"), -1.0, 1.0),
        (("left-posterior-superior", "lps"), -1.0, -1.0),
    )
    for name in names
}
_NRRD_MAGIC = re.compile(rb"NRRD000[1-5]\r?\n")
_NRRD_END = re.compile(rb"\r?\n\r?\n")
_NRRD_FIELD = re.compile(r"([^:]+): (.*)")
_NRRD_OWN_KEY = re.compile(r"[^:]+:=.*")
_VECTOR = re.compile(r"\(([^()]*)\)")


def nrrd_header(path: Path, block: bytes, rules: ReadingRules) -> ItkHeader:
    """What the NRRD header in a file's first bytes says, or a DataError of all its faults.

    Fields that place and describe the voxels are checked; comments, keys of a writer's own, and what describes the
    content are not looked at.
    """
    fields = _nrrd_fields(path, block)
    shape = fields.shape("sizes", "dimension")
    stored = _nrrd_dtype(fields)
    packing = fields.one_of("encoding", {"raw": "raw", "gzip": "gzip", "gz": "gzip"}, "raw or gzip", "Convert it")
    data = fields.sibling_file("data file") if "data file" in fields.values else path
    _check_nrrd(fields)
    placement = _nrrd_placement(fields, rules)
    return fields.header(shape, stored, data, placement, "gzip" if packing == "gzip" else None, "sizes and type")


def _nrrd_fields(path: Path, block: bytes) -> Fields:
    if not _NRRD_MAGIC.match(block):
        raise DataError(
            f"{path}: magic: found {block[:9]!r}, expected 'NRRD0001' to 'NRRD0005' on a line: no NRRD file, or a "
            "damaged one. Convert or copy it again."
        )
    end = _NRRD_END.search(block)
    lines = block[: end.start() if end else None].decode("utf-8", "surrogateescape").split("\n")
    values: dict[str, str] = {}
    for number, line in enumerate(lines[1:], 2):
        text = line.rstrip("\r")
        found = _NRRD_FIELD.fullmatch(text)
        if found is not None and not found[1].endswith(":"):
            name = _spelt(found[1])
            if name in values:
                raise DataError(f"{path}, line {number}: {name} stands there twice. Remove one, or export it again.")
            values[name] = found[2].strip()
        elif text and not text.startswith("#") and not _NRRD_OWN_KEY.fullmatch(text):
            raise DataError(
                f"{path}, line {number}: found {text[:40]!r}, expected 'field: value', 'key:=value' or a comment. The "
                "header is damaged: convert or copy it again."
            )
    if end is None and "data file" not in values:
        raise DataError(
            f"{path}: found no blank line in the first {len(block):,} bytes, expected one at the header's end. The "
            "copy is incomplete or damaged. Copy it again."
        )
    return Fields(path, values, end.end() if end else len(block))


def _spelt(name: str) -> str:
    """A field's name as the NRRD format writes it first."""
    folded = name.lower()
    for two in ("data file", "line skip", "byte skip", "old min", "old max", "axis mins", "axis maxs"):
        if folded == two.replace(" ", ""):
            return two
    return folded


def _nrrd_dtype(fields: Fields) -> np.dtype[Any] | None:
    code: str | None = fields.one_of("type", _NRRD_TYPES, "integers of 8 to 64 bits, float or double", "Convert it")
    if code is None or code[1] == "1":
        return None if code is None else np.dtype(code)
    order: str | None = fields.one_of("endian", {"little": "<", "big": ">"}, "little or big", "Export the scan again")
    return None if order is None else np.dtype(order + code)


def _check_nrrd(fields: Fields) -> None:
    for name in ("line skip", "byte skip"):
        fields.expect_default(name, ("0",), "Convert it")
    for name in ("old min", "old max"):
        fields.expect_default(name, ("none", "nan"), "Export it in physical values")
    kinds = fields.values.get("kinds", "").lower().split()
    if any(kind not in ("domain", "space", "none", "???") for kind in kinds):
        fields.fault("kinds", "domain or space for every axis", "Extract one 3-D volume")
    for name in ("units", "space units"):
        units = re.findall(r'"([^"]*)"|(\S+)', fields.values.get(name, ""))
        if any((quoted or bare) not in ("mm", "", "none", "???") for quoted, bare in units):
            fields.fault(name, '"mm" for every axis', "Convert positions and spacing to mm")


def _nrrd_placement(fields: Fields, rules: ReadingRules) -> tuple[np.ndarray, tuple[str, ...]]:
    space = fields.values.get("space", "").lower()
    notes: tuple[str, ...] = ()
    if space not in _SPACES:
        if not rules.accept_unknown_space:
            fields.fault(
                "space",
                "left-posterior-superior, right-anterior-superior or left-anterior-superior: left and right, front and "
                "back are unknown",
                f"Export the scan again with its position, or {TO_ACCEPT_UNKNOWN_SPACE} to have its axes "
                "taken as left, posterior, superior",
            )
            return np.eye(4), ()
        taken = "axes taken as left, posterior, superior"
        notes = (f"the header names no anatomical space: {taken} (reading.accept_unknown_space)",)
    affine = np.eye(4)
    if space in _SPACES or "space directions" in fields.values:
        axes, origin = _vectors(fields, "space directions", 3), _vectors(fields, "space origin", 1)
        if axes is None or origin is None:
            return affine, ()
        affine[:3, :3], affine[:3, 3] = axes.T, origin[0]
    else:
        spacing = fields.numbers("spacings", 3)
        fields.expect_default("axis mins", ("",), "Export the scan again with a space origin")
        if spacing is None:
            return affine, ()
        affine[:3, :3] = np.diag(np.abs(spacing))
    return fields.affine("space directions, space origin", _SPACES.get(space, _RAS_OF_LPS) @ affine), notes


def _vectors(fields: Fields, name: str, count: int) -> np.ndarray | None:
    text = fields.values.get(name, "")
    found = _VECTOR.findall(text)
    if len(found) != count or _VECTOR.sub("", text).strip():
        fields.fault(name, f"{count} vector{'s' * (count > 1)} (x,y,z)")
        return None
    rows = [fields.numbers(name, 3, one.replace(",", " ")) for one in found]
    return None if any(row is None for row in rows) else np.array(rows)
