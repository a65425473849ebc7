"""Owns reading a manifest, a CSV or JSON file with a record for each case, as spreadsheets and scripts write them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medtrans import DataError
from medtrans.builtin.datasets.wording import capped, quoted

__all__ = ["Manifest", "Record", "read_manifest"]

_SEPARATORS: tuple[str, ...] = (",", ";", "\t")


@dataclass(frozen=True)
class Record:
    """One record: where it stands, as a spreadsheet or an editor counts, and its cells by column, "" for empty ones."""

    where: str
    cells: Mapping[str, str]


@dataclass(frozen=True)
class Manifest:
    """The columns in their order, and the records that are not empty."""

    columns: tuple[str, ...]
    records: tuple[Record, ...]


def read_manifest(path: Path) -> Manifest:
    """Read a CSV file (commas, semicolons or tabs, with or without byte order mark) or a JSON file.

    JSON is a list of objects, or an object with such a list under "files".

    Raises:
        DataError: the file cannot be read as a table, or rows do not fit its heading; names all such rows.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f'path: "{path}" cannot be read ({error.strerror or error}); correct path') from error
    try:
        text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(
            f"{path.name}: line {line} is not in UTF-8; save the file again as UTF-8 (in Excel: CSV UTF-8)"
        ) from error
    return _from_json(path, text) if path.suffix.lower() == ".json" else _from_csv(path, text)


def _from_csv(path: Path, text: str) -> Manifest:
    first, _, rest = text.partition("\n")
    begin, separators = 1, _SEPARATORS
    if first.strip().lower().startswith("sep=") and len(first.strip()) <= len("sep=x"):  # Excel's own first line
        separators, text, begin = (first.rstrip("\r\n")[4:] or "\t",), rest, 2
    try:
        rows = max((list(csv.reader(io.StringIO(text, newline=""), delimiter=one)) for one in separators), key=_width)
    except csv.Error as error:
        raise DataError(f"{path.name}: is no CSV file ({error}); save it again") from error
    numbered = [(number, [cell.strip() for cell in row]) for number, row in enumerate(rows, begin)]
    filled = [(number, row) for number, row in numbered if any(row)]
    if not filled:
        raise DataError(f"{path.name}: is empty; expected a heading with the column subject, and a row a case")
    columns = tuple(_trimmed(filled[0][1]))
    _check_columns(path, columns)
    faults, records = [], []
    for number, row in filled[1:]:
        cells = _trimmed(row)
        if len(cells) > len(columns) or len(row) < len(columns):
            faults.append(
                f"{path.name}, row {number}: found {max(len(cells), len(row))} cells, expected {len(columns)} as in "
                "the heading; put text that holds a separator into double quotes"
            )
        padded = [*cells, *[""] * (len(columns) - len(cells))]
        records.append(Record(f"row {number}", dict(zip(columns, padded, strict=False))))
    if faults:
        raise DataError(*capped(faults))
    return Manifest(columns, tuple(records))


def _width(rows: list[list[str]]) -> int:
    """Cells of the heading: the separator that gives most is the file's."""
    return next((len(row) for row in rows if row), 0)


def _trimmed(row: list[str]) -> list[str]:
    """Without the empty cells that spreadsheets leave at the end."""
    filled = max((place for place, cell in enumerate(row, 1) if cell), default=0)
    return row[:filled]


def _check_columns(path: Path, columns: tuple[str, ...]) -> None:
    twice = [name for name in dict.fromkeys(columns) if name and columns.count(name) > 1]
    if twice:
        raise DataError(f"{path.name}: the heading has {quoted(twice)} more than once; rename one")
    if "" in columns:
        raise DataError(f"{path.name}: column {columns.index('') + 1} of the heading has no name; give it one")


def _from_json(path: Path, text: str) -> Manifest:
    expected = 'expected a list of objects, or {"files": [objects]}'
    try:
        found = json.loads(text)
        json.dumps(found, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise DataError(f"{path.name}, line {error.lineno}: is no JSON ({error.msg}); {expected}") from error
    except (ValueError, RecursionError) as error:  # half a character, a number of thousands of digits, endless brackets
        raise DataError(f"{path.name}: cannot be read ({error}); {expected}") from error
    found = found.get("files", found) if isinstance(found, dict) else found
    if not (isinstance(found, list) and found and all(isinstance(record, dict) for record in found)):
        raise DataError(f"{path.name}: {expected}; found {_kind(found)}")
    records = tuple(
        Record(f"record {number}", {key.strip(): _text(value) for key, value in record.items()})
        for number, record in enumerate(found, 1)
    )
    return Manifest(tuple(dict.fromkeys(key for one in records for key in one.cells)), records)


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip()


def _kind(found: Any) -> str:
    if isinstance(found, list):
        return "an empty list" if not found else "a list of something else"
    return "an object" if isinstance(found, dict) else repr(found)
