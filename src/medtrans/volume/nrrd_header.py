"""What a sound NRRD header (.nrrd) says; every other one is refused by field."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from medtrans.errors import DataError
from medtrans.volume.rules import ReadingRules
from medtrans.volume.text_header import RAS_OF_LPS, Described, Fields

__all__ = ["described"]


_TYPES = {
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
_MAGIC = re.compile(rb"NRRD000[1-5]\r?\n")
_END = re.compile(rb"\r?\n\r?\n")
_FIELD = re.compile(r"([^:]+): (.*)")
_OWN = re.compile(r"[^:]+:=.*")
_VECTOR = re.compile(r"\(([^()]*)\)")


def described(path: Path, block: bytes, rules: ReadingRules) -> Described:
    """What the header in a file's first bytes says.

    Fields that place and describe the voxels are checked; comments, keys of a writer's own, and what describes the
    content are not looked at.

    Raises:
        DataError: all faults of the header, one each.
    """
    fields = _fields(path, block)
    shape = fields.shape("sizes", "dimension")
    stored = _stored(fields)
    packing = fields.one_of("encoding", {"raw": "raw", "gzip": "gzip", "gz": "gzip"}, "raw or gzip", "Convert it")
    data = fields.beside("data file") if "data file" in fields.values else path
    _check_meaning(fields)
    placement = _placement(fields, rules)
    return fields.described(shape, stored, data, placement, "gzip" if packing == "gzip" else None, "sizes and type")


def _fields(path: Path, block: bytes) -> Fields:
    if not _MAGIC.match(block):
        raise DataError(
            f"{path}: magic: found {block[:9]!r}, expected 'NRRD0001' to 'NRRD0005' on a line: no NRRD file, or a "
            "damaged one. Convert or copy it again."
        )
    end = _END.search(block)
    lines = block[: end.start() if end else None].decode("utf-8", "surrogateescape").split("\n")
    values: dict[str, str] = {}
    for number, line in enumerate(lines[1:], 2):
        text = line.rstrip("\r")
        found = _FIELD.fullmatch(text)
        if found is not None and not found[1].endswith(":"):
            name = _spelt(found[1])
            if name in values:
                raise DataError(f"{path}, line {number}: {name} stands there twice. Remove one, or export it again.")
            values[name] = found[2].strip()
        elif text and not text.startswith("#") and not _OWN.fullmatch(text):
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


def _stored(fields: Fields) -> np.dtype[Any] | None:
    code: str | None = fields.one_of("type", _TYPES, "integers of 8 to 64 bits, float or double", "Convert it")
    if code is None or code[1] == "1":
        return None if code is None else np.dtype(code)
    order: str | None = fields.one_of("endian", {"little": "<", "big": ">"}, "little or big", "Export the scan again")
    return None if order is None else np.dtype(order + code)


def _check_meaning(fields: Fields) -> None:
    for name in ("line skip", "byte skip"):
        fields.neutral(name, ("0",), "Convert it")
    for name in ("old min", "old max"):
        fields.neutral(name, ("none", "nan"), "Export it in physical values")
    kinds = fields.values.get("kinds", "").lower().split()
    if any(kind not in ("domain", "space", "none", "???") for kind in kinds):
        fields.fault("kinds", "domain or space for every axis", "Extract one 3-D volume")
    for name in ("units", "space units"):
        units = re.findall(r'"([^"]*)"|(\S+)', fields.values.get(name, ""))
        if any((quoted or bare) not in ("mm", "", "none", "???") for quoted, bare in units):
            fields.fault(name, '"mm" for every axis', "Convert positions and spacing to mm")


def _placement(fields: Fields, rules: ReadingRules) -> tuple[np.ndarray, tuple[str, ...]]:
    space = fields.values.get("space", "").lower()
    notes: tuple[str, ...] = ()
    if space not in _SPACES:
        if not rules.accept_unknown_space:
            fields.fault(
                "space",
                "left-posterior-superior, right-anterior-superior or left-anterior-superior: left and right, front and "
                "back are unknown",
                "Export the scan again with its position, or set reading.accept_unknown_space: true to have its axes "
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
        fields.neutral("axis mins", ("",), "Export the scan again with a space origin")
        if spacing is None:
            return affine, ()
        affine[:3, :3] = np.diag(np.abs(spacing))
    return fields.affine("space directions, space origin", _SPACES.get(space, RAS_OF_LPS) @ affine), notes


def _vectors(fields: Fields, name: str, count: int) -> np.ndarray | None:
    text = fields.values.get(name, "")
    found = _VECTOR.findall(text)
    if len(found) != count or _VECTOR.sub("", text).strip():
        fields.fault(name, f"{count} vector{'s' * (count > 1)} (x,y,z)")
        return None
    rows = [fields.numbers(name, 3, one.replace(",", " ")) for one in found]
    return None if any(row is None for row in rows) else np.array(rows)
