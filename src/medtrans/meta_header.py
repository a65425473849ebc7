"""What a sound MetaImage header (.mha, .mhd) says; every other one is refused by field."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medtrans.errors import DataError
from medtrans.image_layout import Layout
from medtrans.reading_rules import ReadingRules
from medtrans.text_header import RAS_OF_LPS, Described, Fields, own_name

__all__ = ["described"]

_TYPES = {
    "met_char": "i1",
    "met_uchar": "u1",
    "met_short": "i2",
    "met_ushort": "u2",
    "met_int": "i4",
    "met_uint": "u4",
    "met_long_long": "i8",
    "met_ulong_long": "u8",
    "met_float": "f4",
    "met_double": "f8",
}
_TRUTH = {"true": True, "false": False}
_LINE = re.compile(r"\s*([^\s=:][^=:]*?)\s*[=:]\s*(.*?)\s*")
_LAST = "ElementDataFile"  # the voxels follow it
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
    data = _data(path, fields)
    packed = _truth(fields, "CompressedData", "False")
    if packed:
        _check_packed_size(fields, data)
    _check_meaning(fields)
    affine, notes = _placement(fields, rules)
    if fields.faults or shape is None or stored is None or data is None:
        raise DataError(*(f"{path}: {fault}" for fault in fields.faults))
    offset = fields.begin if data == path else 0
    layout = Layout(shape, stored, offset, affine, notes=notes)
    return Described(layout, data, "zlib" if packed else None, "DimSize and ElementType")


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
            raise DataError(
                f"{path}, line {number}: found {text[:40]!r}, expected a line 'key = value' of a MetaImage header, "
                f"which ends with {_LAST}. It is no MetaImage file, or a damaged one: convert or copy it again."
            )
        if found[1] in values:
            raise DataError(f"{path}, line {number}: {found[1]} stands there twice. Remove one, or export it again.")
        values[found[1]] = found[2]
        if found[1] == _LAST:
            return Fields(values, at)
    raise DataError(
        f"{path}: {_LAST}: found none in the first {len(block):,} bytes, expected it at the header's end. It is no "
        "MetaImage file, or a damaged one: convert or copy it again."
    )


def _truth(fields: Fields, name: str, default: str | None = None) -> bool | None:
    if name not in fields.values and default is not None:
        return _TRUTH[default.lower()]
    truth: bool | None = fields.one_of(name, _TRUTH, "True or False", "Export the scan again")
    return truth


def _stored(fields: Fields) -> np.dtype[Any] | None:
    code: str | None = fields.one_of(
        "ElementType",
        _TYPES,
        "integers of 8 to 64 bits whose size is the same everywhere, float or double",
        "Convert it",
    )
    if code is None:
        return None
    order = "BinaryDataByteOrderMSB" if "BinaryDataByteOrderMSB" in fields.values else "ElementByteOrderMSB"
    if code[1] == "1":
        return np.dtype(code)
    if order not in fields.values:
        fields.fault("BinaryDataByteOrderMSB", "True or False")
        return None
    return np.dtype((">" if _truth(fields, order) else "<") + code)


def _data(path: Path, fields: Fields) -> Path | None:
    name = fields.values[_LAST]
    if name in ("LOCAL", "Local", "local"):
        return path
    if expected := own_name(path, name):
        fields.fault(_LAST, f"LOCAL, or {expected}", "Convert it to one file")
        return None
    return path.with_name(name)


def _check_packed_size(fields: Fields, data: Path | None) -> None:
    """Other programs read rubbish without a word where this size is missing or wrong."""
    size = fields.values.get("CompressedDataSize", "")
    if data is None or not data.is_file():
        return
    found = data.stat().st_size - (0 if data.name == fields.values[_LAST] else fields.begin)
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
