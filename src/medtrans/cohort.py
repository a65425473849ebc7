"""Owns who is in a run: numbered cases, the subject-level split, and the checks that need no voxel."""

from __future__ import annotations

import csv
import io
import json
import logging
import math
import os
import stat
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import numpy as np

from medtrans.atomic import write_text
from medtrans.errors import DataError
from medtrans.regrid import canonical
from medtrans.seeds import derived_seed
from medtrans.volume import Volume, read, read_header

if TYPE_CHECKING:
    from medtrans.components import Case, Dataset
    from medtrans.settings import FractionsSplit, SplitSettings
    from medtrans.volume import Grid

__all__ = ["Cohort", "Member", "SplitName", "folded", "gather", "load_image", "load_images", "preflight", "write_cases"]

SplitName: TypeAlias = Literal["train", "validation", "test"]
_SPLITS: tuple[SplitName, ...] = get_args(SplitName)
_LISTED = 20  # faults of one kind that are spelt out; the others are counted


@dataclass(frozen=True)
class Member:
    """A case in its place in the cohort.

    Args:
        number: from 1, in the dataset's order.
        case: what the dataset said of it.
        split: the one split its subject is in.
    """

    number: int
    case: Case
    split: SplitName

    @property
    def label(self) -> str:
        """The name that may be shared: "case_0001"."""
        return f"case_{self.number:04d}"


@dataclass(frozen=True)
class Cohort:
    """All cases of a run, in the dataset's order."""

    members: tuple[Member, ...]

    def of(self, split: SplitName) -> tuple[Member, ...]:
        """The members of one split, in the dataset's order."""
        return tuple(member for member in self.members if member.split == split)


def gather(
    dataset: Dataset, split: SplitSettings, *, source: Sequence[str], target: Sequence[str], seed: int
) -> Cohort:
    """List the cases of a dataset and put every subject into one split.

    Names that agree when `folded` are the same. Random splits order the subjects by a hash of the seed and the
    subject's name, so that neither the order of listing nor the version of a library changes them. `fractions` gives
    each split its share of the subjects, rounded by largest remainder; `folds` tests on fold `fold`, validates on the
    next one (the first after the last) and trains on the others; `column` and `file` do as they are told.

    Args:
        dataset: where the cases come from.
        split: how subjects are split.
        source: modalities every case must have.
        target: modalities every case must have.
        seed: of the run.

    Raises:
        DataError: naming together all missing images, repeated cases, subjects or scans in two splits, and empty
            splits. A split is meant to be empty only where its fraction is exactly 0.
    """
    cases = tuple(dataset.cases())
    if not cases:
        raise DataError(f"the dataset {type(dataset).__name__} lists no case; check its options against the data")
    faults = _name_faults(cases) + _image_faults(cases, [*source, *target])
    splits, split_faults = _assign(cases, split, seed)
    faults += split_faults
    members = [
        Member(number, case, splits[folded(case.subject)])
        for number, case in enumerate(cases, 1)
        if folded(case.subject) in splits
    ]
    faults += _shared_files(members, [*source, *target])
    if not split_faults:
        faults += _empty_splits(splits, split)
    if faults:
        raise DataError(*faults)
    return Cohort(tuple(members))


def folded(name: str) -> str:
    """A case or subject name as it is compared: after Unicode NFC, case folding and whitespace folding."""
    composed = unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
    return " ".join(composed.split())


def load_image(case: Case, modality: str) -> Volume:
    """One image of a case: its file read, or its function called.

    Raises:
        DataError: naming the case and the modality, if there is no such image or it cannot be had.
    """
    where = f'case "{case.case}", {modality}'
    image = case.images.get(modality)
    if image is None:
        raise DataError(f"{where}: the dataset gives no such image, only {_listed(sorted(case.images))}")
    try:
        volume = image() if callable(image) else read(image)
    except DataError as error:
        raise DataError(*(f"{where}: {fault}" for fault in error.faults)) from error
    except OSError as error:
        raise DataError(f"{where}: cannot be read ({error})") from error
    if not isinstance(volume, Volume):
        raise DataError(f"{where}: the dataset's function gave {type(volume).__name__}, expected a Volume")
    return volume


def load_images(case: Case, modalities: Iterable[str]) -> dict[str, Volume]:
    """Several images of a case, as `load_image`."""
    return {modality: load_image(case, modality) for modality in modalities}


def preflight(cohort: Cohort, source: Sequence[str], target: Sequence[str]) -> list[str]:
    """Read the header of every file and compare each image's place in the world with the first source's.

    Images that functions make are trusted. An image on another grid is legal, since it is resampled onto the first
    source's; it must cover at least half of the first source's field of view (a mask or labels: some of it).

    Args:
        cohort: whose files to look at.
        source: modalities; the first one's grid is the case's grid.
        target: modalities.

    Returns:
        Warnings, one a modality, where grids differ by more than a tenth of a voxel.

    Raises:
        DataError: naming together every header that is refused and every pair that is apart.
    """
    faults: list[str] = []
    resampled: dict[str, list[tuple[Member, float]]] = {}
    for member in cohort.members:
        grids, unreadable = _grids(member.case, dict.fromkeys([*source, *target, "mask", "labels"]))
        faults += unreadable
        first = grids.pop(source[0], None)
        if first is None:
            continue
        for modality, grid in grids.items():
            covered, apart_mm = _covered(first, grid), _apart_mm(first, grid)
            if covered == 0 or (covered < 0.5 and modality not in ("mask", "labels")):
                faults.append(
                    f'case "{member.case.case}": {source[0]} is {_shown(first)}, {modality} is {_shown(grid)}; their '
                    f"corners are up to {apart_mm:.1f} mm apart and {modality} covers {covered:.0%} of {source[0]}'s "
                    "field of view. The images of a case must lie in one world space: register them first"
                )
            elif not _same_grid(first, grid, apart_mm):
                resampled.setdefault(modality, []).append((member, apart_mm))
    if faults:
        raise DataError(*_capped(faults))
    return [
        f"{modality} lies on another grid than {source[0]} in {len(pairs)} of {len(cohort.members)} cases "
        f"({_listed([member.label for member, _ in pairs])}; corners up to {max(mm for _, mm in pairs):.2f} mm apart) "
        "and is resampled onto it"
        for modality, pairs in resampled.items()
    ]


def write_cases(path: Path, cohort: Cohort) -> None:
    """Write the key from case numbers to names, a CSV with the columns number, case, subject and split.

    Only its owner can read the file, at no moment anyone else (the process's umask is narrowed while it is written).
    The file serves as `split: {by: file}` of a later run.
    """
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("number", "case", "subject", "split"))
    rows.writerows((member.number, member.case.case, member.case.subject, member.split) for member in cohort.members)
    umask = os.umask(0o177)
    try:
        write_text(path, text.getvalue())
    finally:
        os.umask(umask)


def _name_faults(cases: Sequence[Case]) -> list[str]:
    faults = [
        f'case "{case.case}" of subject "{case.subject}": case and subject must have a name'
        for case in cases
        if not (folded(case.case) and folded(case.subject))
    ]
    first: dict[str, int] = {}
    for number, case in enumerate(cases, 1):
        earlier = first.setdefault(folded(case.case), number)
        if earlier != number:
            faults.append(
                f'cases {earlier} ("{cases[earlier - 1].case}") and {number} ("{case.case}") have the same name '
                "(compared without regard to case and spaces); every case needs its own"
            )
    return _capped(faults)


def _image_faults(cases: Sequence[Case], required: Sequence[str]) -> list[str]:
    missing, absent = [], []
    for case in cases:
        missing += [
            f'case "{case.case}": no {modality}; the dataset gives {_listed(sorted(case.images)) or "no image"} for it'
            for modality in dict.fromkeys(required)
            if modality not in case.images
        ]
        absent += [
            f'case "{case.case}", {modality}: no such file "{image}"; restore it or correct the dataset\'s options'
            for modality, image in case.images.items()
            if modality in (*required, "mask", "labels") and not callable(image) and _file_identity(image) is None
        ]
    return _capped(missing) + _capped(absent)


def _file_identity(path: Path) -> tuple[int, int] | None:
    """What links to one file share; None where there is no regular file."""
    try:
        status = Path(path).stat()
    except (OSError, ValueError):
        return None
    return (status.st_dev, status.st_ino) if stat.S_ISREG(status.st_mode) else None


def _shared_files(members: Sequence[Member], modalities: Sequence[str]) -> list[str]:
    """Scans that stand in two splits, under one name, a link or a hard link. A mask may be shared: it is no scan."""
    faults = []
    first: dict[tuple[int, int], tuple[Member, Path]] = {}
    for member in members:
        for modality in modalities:
            path = member.case.images.get(modality)
            identity = None if path is None or callable(path) else _file_identity(path)
            if path is None or callable(path) or identity is None:
                continue
            earlier, earlier_path = first.setdefault(identity, (member, path))
            if earlier.split != member.split:
                faults.append(
                    f'case "{earlier.case.case}" in {earlier.split} and case "{member.case.case}" in {member.split} '
                    f'are one file ("{earlier_path}", "{path}"): scores would be too good. Remove one'
                )
    return _capped(faults)


def _assign(cases: Sequence[Case], split: SplitSettings, seed: int) -> tuple[dict[str, SplitName], list[str]]:
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
        return {folded: name for folded, name in splits.items() if folded in subjects}, faults + _capped(unnamed)
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
    """Splits as rows of subject, split and place say, each subject in one."""
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
    return {name: split for name, (split, _) in stated.items()}, _capped(unknown) + _capped(apart)


def _split_rows(path: Path) -> list[tuple[str, str | None, str]]:
    """Rows of subject, split and place of a CSV or JSON file.

    Raises:
        DataError: it cannot be read, or has no such columns.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")  # spreadsheets put a byte order mark first
        rows = json.loads(text) if path.suffix.lower() == ".json" else list(csv.DictReader(io.StringIO(text)))
    except (OSError, ValueError, csv.Error) as error:
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
        (row["subject"], row["split"].strip() or None, f"{path.name}, row {number}")
        for number, row in enumerate(rows, first)
    ]


def _empty_splits(splits: Mapping[str, SplitName], split: SplitSettings) -> list[str]:
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


def _grids(case: Case, modalities: Iterable[str]) -> tuple[dict[str, Grid], list[str]]:
    """The grid of each image that is a file, and what is wrong with their headers."""
    grids, faults = {}, []
    for modality in modalities:
        image = case.images.get(modality)
        try:
            if image is not None and not callable(image):
                grids[modality] = read_header(image).grid
        except DataError as error:
            faults += [f'case "{case.case}", {modality}: {fault}' for fault in error.faults]
    return grids, faults


def _apart_mm(one: Grid, other: Grid) -> float:
    """The largest distance between corners, whatever the order the voxels are stored in."""
    corners = (canonical(grid).corners_mm() for grid in (one, other))
    return float(np.linalg.norm(np.subtract(*corners), axis=1).max())


def _same_grid(one: Grid, other: Grid, apart_mm: float) -> bool:
    return canonical(one).shape == canonical(other).shape and apart_mm <= 0.1 * min(one.spacing_mm)


def _covered(one: Grid, other: Grid) -> float:
    """The share of `one`'s field of view that `other` covers, by 9 × 9 × 9 points."""
    sides = [(np.arange(9) + 0.5) / 9 * side - 0.5 for side in one.shape]
    points = np.stack(np.meshgrid(*sides, indexing="ij"), axis=-1).reshape(-1, 3)
    move = np.linalg.solve(other.affine, one.affine)
    at = points @ move[:3, :3].T + move[:3, 3]
    return float(((at >= -0.5) & (at <= np.asarray(other.shape) - 0.5)).all(axis=1).mean())


def _shown(grid: Grid) -> str:
    sides, spacing = "×".join(map(str, grid.shape)), "×".join(f"{mm:.3g}" for mm in grid.spacing_mm)
    return f"{sides} at {spacing} mm"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _capped(faults: list[str]) -> list[str]:
    more = len(faults) - _LISTED
    return faults if more <= 0 else [*faults[:_LISTED], f"... and {more} more of this kind"]
