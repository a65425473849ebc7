"""Cases listed in a CSV or JSON file."""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from medtrans import Case, DataError, Dataset
from medtrans.builtin.datasets.folders import capped, checked_root, quoted
from medtrans.volume import is_image_file

__all__ = ["Manifest", "Record", "Table", "read_manifest"]

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
        readings = [list(csv.reader(io.StringIO(text, newline=""), delimiter=one)) for one in separators]
    except csv.Error as error:
        raise DataError(f"{path.name}: is no CSV file ({error}); save it again") from error
    # The separator that gives the heading most cells is the file's.
    rows = max(readings, key=lambda rows: next((len(row) for row in rows if row), 0))
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
        Record(
            f"record {number}",
            {key.strip(): _text(value) for key, value in record.items()},
        )
        for number, record in enumerate(found, 1)
    )
    return Manifest(tuple(dict.fromkeys(key for one in records for key in one.cells)), records)


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip()


def _kind(found: Any) -> str:
    if isinstance(found, list):
        return "an empty list" if not found else "a list of something else"
    return "an object" if isinstance(found, dict) else repr(found)


_Split: TypeAlias = Literal["train", "validation", "test"]

_KEYS = ("subject", "case", "split")
_SPLITS: tuple[_Split, ...] = get_args(_Split)


class Table(Dataset):
    """Cases listed in a CSV or JSON file, one row each: subject, image files, and where wanted case and split.

    A CSV may be separated by commas, semicolons or tabs. A JSON file is a list of objects, or an object with such a
    list under `files`. The columns:

    - `subject`: whose images these are; a subject never stands in two splits. Required.
    - `case`: name of the case, needed where a subject has several rows. Otherwise the subject names it.
    - `split`: train, validation or test, for a config with `split: {by: column}`.
    - one column a modality, such as `t1`, `ct`, `mask` or `labels`, with paths; an empty cell means there is no such
      image.

    Umlauts match however they are composed, and a backslash serves as a slash where no file is called so. Missing files
    and duplicate rows are all reported together, by row.

    Args:
        path: the CSV or JSON file.
        root: folder that relative paths in it start from; null takes the file's own folder.
        columns: what a column is called in the file where it is not called by its name, such as {t1: T1_path}.
        modalities: which columns hold images; null takes those in `columns` and those whose cells end like image
            files.
    """

    def __init__(
        self,
        *,
        path: Path,
        root: Path | None = None,
        columns: dict[str, str] | None = None,
        modalities: tuple[str, ...] | None = None,
    ) -> None:
        self._path = Path(path).expanduser()
        self._root = self._path.parent if root is None else Path(root).expanduser()
        self._columns = dict(columns or {})
        self._modalities = modalities

    def cases(self) -> Sequence[Case]:
        """The cases in the order of the file; looks at names only.

        Raises:
            DataError: the file or root is missing, a column is missing, or rows lack a subject, name a file that is not
                there, state an unknown split or are there twice; all such rows together.
        """
        manifest = read_manifest(self._path)
        checked_root(self._root, f"the files of {self._path.name}")
        modalities = self._image_columns(manifest)
        missing_columns = [self._column(name) for name in ("subject", *self._columns, *modalities)]
        absent = [name for name in dict.fromkeys(missing_columns) if name not in manifest.columns]
        if absent:
            raise DataError(*(self._no_column(name, manifest.columns) for name in absent))
        if not manifest.records:
            raise DataError(f"{self._path.name}: expected a row for each case below the heading, found none")
        if not modalities:
            raise DataError(
                f"{self._path.name}: no column holds image files (such as .nii.gz); found "
                f"{quoted(manifest.columns, 12)}. Set modalities, or add a column a modality"
            )
        cases = [self._case(record, modalities) for record in manifest.records]
        faults = self._row_faults(manifest, cases) + self._missing_files(manifest, modalities)
        if faults:
            raise DataError(*faults)
        return cases

    def _column(self, name: str) -> str:
        """What a column is called in the file."""
        return self._columns.get(name, name)

    def _image_columns(self, manifest: Manifest) -> list[str]:
        if self._modalities is not None:
            return list(dict.fromkeys(self._modalities))
        own = {column: name for name, column in self._columns.items()}
        named = [own.get(column, column) for column in manifest.columns if self._holds_images(manifest, column)]
        return [name for name in dict.fromkeys([*self._columns, *named]) if name not in _KEYS]

    def _holds_images(self, manifest: Manifest, column: str) -> bool:
        return any(is_image_file(record.cells.get(column, "")) for record in manifest.records)

    def _no_column(self, column: str, found: Sequence[str]) -> str:
        folded = {name.casefold(): name for name in found}
        near = get_close_matches(column.casefold(), folded, n=1, cutoff=0.5)
        name = next((name for name, own in self._columns.items() if own == column), column)
        other = folded[near[0]] if near else "<its name in the file>"
        rename = f'Rename "{other}", or set' if near else "Add it, or set"
        return (
            f'{self._path.name}: column "{column}" is missing. Found: {", ".join(found)}. {rename} '
            f"dataset.options.columns: {{{name}: {other}}}"
        )

    def _case(self, record: Record, modalities: Sequence[str]) -> Case:
        subject, case = self._cell(record, "subject"), self._cell(record, "case")
        split = self._cell(record, "split")
        images = {
            modality: _present(self._root, cell) or self._root / cell
            for modality in modalities
            if (cell := self._cell(record, modality))
        }
        known = next((name for name in _SPLITS if name == split), None)
        return Case(case or subject, subject, images, known)

    def _cell(self, record: Record, name: str) -> str:
        return record.cells.get(self._column(name), "")

    def _row_faults(self, manifest: Manifest, cases: Sequence[Case]) -> list[str]:
        faults = []
        first: dict[str, Record] = {}
        for record, case in zip(manifest.records, cases, strict=True):
            where = f"{self._path.name}, {record.where}"
            split = self._cell(record, "split")
            if not case.subject:
                faults.append(f"{where}: subject is empty; say whose images these are")
                continue
            if split and case.split is None:
                near = get_close_matches(split.casefold(), _SPLITS, n=1, cutoff=0.4)
                hint = f'; did you mean "{near[0]}"?' if near else ""
                faults.append(f'{where}: split: expected train, validation or test, found "{split}"{hint}')
            earlier = first.setdefault(_folded(case.case), record)
            if earlier is not record:
                faults.append(self._twice(earlier, record, case.case))
        return capped(faults)

    def _twice(self, earlier: Record, record: Record, name: str) -> str:
        both = f'{self._path.name}: {earlier.where} and {record.where} are both case "{name}"'
        if earlier.cells == record.cells:
            return f"{both} and agree in every cell; remove one"
        if self._cell(record, "case"):
            return f"{both}; give each row a case of its own"
        return f'{both}; name the rows of a subject apart in a column "case", such as the date or session'

    def _missing_files(self, manifest: Manifest, modalities: Sequence[str]) -> list[str]:
        """By row and column, as the file writes the path."""
        named = [
            (record, modality, cell)
            for record in manifest.records
            for modality in modalities
            if (cell := self._cell(record, modality))
        ]
        missing = [
            f"{self._path.name}, {record.where} (case {self._cell(record, 'case') or self._cell(record, 'subject')}), "
            f'{self._column(modality)}: no such file "{cell}" (relative to {self._root})'
            for record, modality, cell in named
            if _present(self._root, cell) is None
        ]
        if not missing:
            return []
        advice = "restore them, empty their cells, set root, or name the columns you need in modalities"
        return [*capped(missing), f"{self._path.name}: {len(missing)} of {len(named)} files are missing: {advice}"]


def _present(root: Path, cell: str) -> Path | None:
    """The file a cell means, or None where it is not there."""
    for spelling in _spellings(cell):
        path = root / Path(spelling).expanduser()
        try:
            if path.is_file():
                return path
        except (OSError, ValueError):  # a name too long or with a null byte
            return None
    return None


def _spellings(cell: str) -> Iterator[str]:
    for text in (cell, cell.replace("\\", "/")):
        yield text
        yield unicodedata.normalize("NFC", text)
        yield unicodedata.normalize("NFD", text)


def _folded(name: str) -> str:
    return " ".join(unicodedata.normalize("NFC", name).casefold().split())
