"""Which split a subject is in: drawn by a seeded hash, or as a column or a file says."""

from __future__ import annotations

import csv
import io
import json
import logging
import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from medtrans.errors import DataError
from medtrans.utils.messages import capped
from medtrans.utils.seeds import derived_seed
from medtrans.utils.tables import as_given

if TYPE_CHECKING:
    from medtrans.config.schema import FractionsSplit, SplitSettings
    from medtrans.plugins.interfaces import Case

__all__ = ["SplitName", "assign", "empty_splits", "folded"]


SplitName: TypeAlias = Literal["train", "validation", "test"]
_SPLITS: tuple[SplitName, ...] = get_args(SplitName)


def folded(name: str) -> str:
    """A case or subject name as it is compared: after Unicode NFC, case folding and whitespace folding."""
    composed = unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
    return " ".join(composed.split())


def assign(cases: Sequence[Case], split: SplitSettings, seed: int) -> tuple[dict[str, SplitName], list[str]]:
    """The split of each subject by its folded name, and what is wrong with it."""
    if split.by == "column":
        return _stated((case.subject, case.split, f'case "{case.case}"') for case in cases)
    subjects = {folded(case.subject): case.subject for case in cases}
    if split.by == "file":
        splits, faults = _stated(_split_rows(Path(split.path)))
        unnamed = [
            f'subject "{name}" is not in {split.path}; add a row for it'
            for folded, name in subjects.items()
            if folded not in splits and not faults
        ]
        strangers = sum(1 for folded in splits if folded not in subjects)
        if strangers:
            logging.getLogger("medtrans").warning(
                "%d subjects of %s are not in the dataset and are left out", strangers, split.path
            )
        return {folded: name for folded, name in splits.items() if folded in subjects}, faults + capped(unnamed)
    drawn = sorted(subjects, key=lambda name: derived_seed(seed, "split", name))
    if split.by == "folds":
        roles: dict[int, SplitName] = {split.fold: "test", (split.fold + 1) % split.folds: "validation"}
        return {name: roles.get(place % split.folds, "train") for place, name in enumerate(drawn)}, []
    names = [name for name, count in _counts(len(drawn), split).items() for _ in range(count)]
    return dict(zip(drawn, names, strict=True)), []


def _counts(subjects: int, split: FractionsSplit) -> dict[SplitName, int]:
    """Subjects of each split, by largest remainder."""
    quotas: dict[SplitName, float] = {name: subjects * getattr(split, name) for name in _SPLITS}
    counts = {name: math.floor(quota) for name, quota in quotas.items()}
    left = subjects - sum(counts.values())
    for name in sorted(quotas, key=lambda name: counts[name] - quotas[name])[:left]:
        counts[name] += 1
    return counts


def _stated(rows: Iterable[tuple[str, str | None, str]]) -> tuple[dict[str, SplitName], list[str]]:
    """Splits as rows of subject, split and place say; a subject that is in two would leak, and is a fault."""
    stated: dict[str, tuple[SplitName, str]] = {}
    unknown, apart = [], []
    for subject, split, where in rows:
        if split not in _SPLITS:
            found = "none" if split is None else f'"{split}"'
            unknown.append(f'{where}: subject "{subject}" needs a split (train, validation or test), found {found}')
            continue
        earlier, earlier_where = stated.setdefault(folded(subject), (split, where))
        if earlier != split:
            apart.append(
                f'subject "{subject}" is in {earlier} ({earlier_where}) and {split} ({where}): scores would be too '
                "good. Move one, or let medtrans split by subject with split: {by: fractions}"
            )
    return {name: split for name, (split, _) in stated.items()}, capped(unknown) + capped(apart)


def _split_rows(path: Path) -> list[tuple[str, str | None, str]]:
    """Rows of subject, split and place of a CSV or JSON file.

    Raises:
        DataError: it cannot be read, or has no such columns.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")  # spreadsheets put a byte order mark first
        rows = json.loads(text) if path.suffix.lower() == ".json" else list(csv.DictReader(io.StringIO(text)))
    except (OSError, ValueError, RecursionError, csv.Error) as error:
        raise DataError(f"split.path: {path}: cannot be read ({error}); expected a CSV or JSON file") from error
    columns = 'with the columns "subject" and "split"'
    if not (isinstance(rows, list) and all(isinstance(row, Mapping) for row in rows)):
        raise DataError(f"split.path: {path}: expected a list of objects {columns}, found {type(rows).__name__}")
    if not rows:
        raise DataError(f"split.path: {path}: expected rows {columns}, found none")
    first = 1 if path.suffix.lower() == ".json" else 2  # row 1 of a CSV is its heading
    for number, row in enumerate(rows, first):
        if not all(isinstance(row.get(column), str) for column in ("subject", "split")):
            found = ", ".join(f'"{column}"' for column in row if isinstance(column, str))
            raise DataError(f"split.path: {path}, row {number}: expected text {columns}, found the columns {found}")
    return [
        (as_given(row["subject"]), row["split"].strip() or None, f"{path.name}, row {number}")
        for number, row in enumerate(rows, first)
    ]


def empty_splits(splits: Mapping[str, SplitName], split: SplitSettings) -> list[str]:
    """Splits without a subject that are not meant to be empty."""
    sizes = {name: sum(1 for own in splits.values() if own == name) for name in _SPLITS}
    shown = ", ".join(f"{name} {size}" for name, size in sizes.items())
    wanted = [name for name in _SPLITS if split.by != "fractions" or getattr(split, name) > 0]
    empty = [name for name in wanted if not sizes[name]]
    if not empty:
        return []
    if len(splits) < len(wanted) or (split.by == "folds" and len(splits) < split.folds):
        least = split.folds if split.by == "folds" else len(wanted)
        advice = "" if split.by == "folds" else "; or set a fraction to 0 to go without that split"
        return [f"split: expected at least {least} subjects, found {len(splits)} ({shown}); add subjects{advice}"]
    faults = []
    for name in empty:
        if split.by == "fractions":
            enough = math.ceil(1000 / len(splits)) / 1000
            found, advice = f" (split.{name}: {getattr(split, name):g})", f"try {enough:g}, or 0 to go without it"
        else:
            found, advice = "", "give it a subject, or let medtrans choose with split: {by: fractions}"
        faults.append(
            f'split "{name}" has 0 of {len(splits)} subjects{found}; sizes are {shown}. Expected at least 1: {advice}'
        )
    return faults
