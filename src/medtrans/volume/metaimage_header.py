"""What a sound MetaImage header (.mha, .mhd) says; every other one is refused by field."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medtrans.errors import DataError
from medtrans.volume.rules import ReadingRules
from medtrans.volume.text_header import RAS_OF_LPS, Described, Fields

__all__ = ["described"]


_TYPES = {
    f"met_{name}": code
    for name, code in {
        "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4",
        "long_long": "i8", "ulong_long": "u8", "float": "f4", "double": "f8",
    }.items()
}  # fmt: skip
_TRUTH = {"true": True, "false": False}
_LINE = re.compile(r"\s*([^\s=:][^=:]*?)\s*[=:]\s*(.*?)\s*")
_LAST = "ElementDataFile"  # the voxels follow it
_NO_META = "It is no MetaImage file, or a damaged one: convert or copy it again."
_MATRIX = ("TransformMatrix", "Rotation", "Orientation")  # names in the order in which MetaImage looks for them
_OFFSET = ("Offset", "Position", "Origin")
_SPACING = ("ElementSpacing", "ElementSize")


def described(path: Path, block: bytes, rules: ReadingRules) -> Described:
    """What the header in a file's first bytes says.

    Fields that place and describe the voxels are checked; `AnatomicalOrientation`, which says roughly again what
    `TransformMatrix` says, `CenterOfRotation`, comments and fields of a writer's own are not looked at.

    Raises:
        DataError: all faults of the header, one each.
    """
    fields = _fields(path, block)
    shape = fields.shape("DimSize", "NDims")
    stored = _stored(fields)
    local = fields.values[_LAST] in ("LOCAL", "Local", "local")
    data = path if local else fields.beside(_LAST, "LOCAL, or ")
    packed = "CompressedData" in fields.values and _truth(fields, "CompressedData")
    if packed:
        _check_packed_size(fields, data)
    _check_meaning(fields)
    placement = _placement(fields, rules)
    return fields.described(shape, stored, data, placement, "zlib" if packed else None, "DimSize and ElementType")


def _fields(path: Path, block: bytes) -> Fields:
    values: dict[str, str] = {}
    at = 0
    for number, line in enumerate(block.splitlines(keepends=True), 1):
        at += len(line)
        text = line.decode("utf-8", "surrogateescape")
        if not text.strip():
            continue
        found = _LINE.fullmatch(text)
        if found is None or not (text.endswith("\n") or at == len(block)):
            raise DataError(f"{path}, line {number}: found {text[:40]!r}, expected a line 'key = value'. {_NO_META}")
        if found[1] in values:
            raise DataError(f"{path}, line {number}: {found[1]} stands there twice. Remove one, or export it again.")
        values[found[1]] = found[2]
        if found[1] == _LAST:
            return Fields(path, values, at)
    raise DataError(
        f"{path}: {_LAST}: found none in the first {len(block):,} bytes, expected it at the header's end. {_NO_META}"
    )


def _truth(fields: Fields, name: str) -> bool | None:
    truth: bool | None = fields.one_of(name, _TRUTH, "True or False", "Export the scan again")
    return truth


def _stored(fields: Fields) -> np.dtype[Any] | None:
    known = "integers of 8 to 64 bits whose size is the same everywhere, float or double"
    code: str | None = fields.one_of("ElementType", _TYPES, known, "Convert it")
    if code is None:
        return None
    order = "BinaryDataByteOrderMSB" if "BinaryDataByteOrderMSB" in fields.values else "ElementByteOrderMSB"
    if code[1] == "1":
        return np.dtype(code)
    if order not in fields.values:
        fields.fault("BinaryDataByteOrderMSB", "True or False")
        return None
    return np.dtype((">" if _truth(fields, order) else "<") + code)


def _check_packed_size(fields: Fields, data: Path | None) -> None:
    """Other programs read rubbish without a word where this size is missing or wrong."""
    size = fields.values.get("CompressedDataSize", "")
    if data is None or not data.is_file():
        return
    found = data.stat().st_size - (fields.begin if data == fields.path else 0)
    if size != str(found):
        fields.fault("CompressedDataSize", f"{found}, the bytes that there are", "Copy it again")


def _check_meaning(fields: Fields) -> None:
    if _truth(fields, "BinaryData") is False:
        fields.fault("BinaryData", "True", "Convert it")
    fields.neutral("ObjectType", ("image",), "Convert it")
    fields.neutral("HeaderSize", ("0",), "Convert it")
    fields.neutral("ElementNumberOfChannels", ("1",), "Extract one channel")
    fields.neutral("DistanceUnits", ("mm", "?", ""), "Convert positions and spacing to mm")
    fields.neutral("ElementToIntensityFunctionSlope", ("1",), "Export it in physical values")
    fields.neutral("ElementToIntensityFunctionOffset", ("0",), "Export it in physical values")


def _placement(fields: Fields, rules: ReadingRules) -> tuple[np.ndarray, tuple[str, ...]]:
    matrix, offset, spacing = (_stated(fields, names) for names in (_MATRIX, _OFFSET, _SPACING))
    missing = [name for name in (matrix, offset) if name not in fields.values]
    notes = [f"the header has no {name}: placed without (reading.accept_unknown_space)" for name in missing]
    if missing and not rules.accept_unknown_space:
        fields.faults.append(
            f"{' and '.join(missing)}: found none, expected where the volume lies. Export the scan again with its "
            "position, or set reading.accept_unknown_space: true to have it placed without."
        )
    directions = np.eye(3).ravel() if matrix in missing else fields.numbers(matrix, 9)
    origin = np.zeros(3) if offset in missing else fields.numbers(offset, 3)
    lengths = fields.numbers(spacing, 3)
    if directions is None or origin is None or lengths is None:
        return np.eye(4), ()
    axes = directions.reshape(3, 3).T  # a row of the file is the direction of an axis
    if np.abs(np.linalg.norm(axes, axis=0) - 1).max() > 1e-3:
        fields.fault(matrix, "three directions of length 1")
    if lengths.min() <= 0:
        fields.fault(spacing, "lengths above 0 in mm")
    if fields.faults:
        return np.eye(4), ()
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = axes * lengths, origin
    return fields.affine(f"{matrix}, {spacing}, {offset}", RAS_OF_LPS @ affine), tuple(notes)


def _stated(fields: Fields, names: Sequence[str]) -> str:
    """Under which of its names a field stands, the first one where it does not; two must say the same."""
    found = [name for name in names if name in fields.values]
    for other in found[1:]:
        if fields.values[other] != fields.values[found[0]]:
            fields.fault(other, f"what {found[0]} says, {fields.values[found[0]]!r}")
    return (found or names)[0]
