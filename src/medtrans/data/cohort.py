"""Who is in a run: its numbered cases, each in one split, their images, and the scans that stand in two splits."""

from __future__ import annotations

import csv
import io
import logging
import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

import numpy as np

from medtrans.data.checks.intensities import settled
from medtrans.data.splits import SplitName, assign, empty_splits, folded
from medtrans.errors import DataError
from medtrans.utils.files import write_text
from medtrans.utils.messages import capped, listed
from medtrans.volume import NO_RULES, ReadingRules, Volume, read
from medtrans.volume.resampling import canonical, regrid

if TYPE_CHECKING:
    from medtrans.config.schema import SplitSettings
    from medtrans.plugins.interfaces import Case, Dataset, Preprocess

__all__ = [
    "Cohort",
    "Duplicate",
    "KnownCase",
    "Member",
    "absent_images",
    "alike_faults",
    "alike_warnings",
    "array_digest",
    "build_cohort",
    "find_duplicates",
    "list_cases",
    "load_image",
    "load_images",
    "read_case_table",
    "voxel_digest",
    "write_cases",
]


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


def build_cohort(
    dataset: Dataset,
    split: SplitSettings,
    *,
    source: Sequence[str],
    target: Sequence[str],
    seed: int,
    known: Sequence[KnownCase] | None = None,
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
        known: the cases that the run was trained with: they keep their numbers and splits, and new ones are left out.

    Raises:
        DataError: naming together all known cases that are not there any more or are in another split now, missing
            images, repeated cases, subjects or scans in two splits, and empty
            splits. A split is meant to be empty only where its fraction is exactly 0.
    """
    cohort, faults = list_cases(dataset, split, source=source, target=target, seed=seed, known=known)
    required = [*source, *target]
    absent = [fault for member in cohort.members for fault in absent_images(member.case, required).values()]
    if faults or absent:
        raise DataError(*faults, *capped(absent))
    return cohort


def list_cases(
    dataset: Dataset,
    split: SplitSettings,
    *,
    source: Sequence[str],
    target: Sequence[str],
    seed: int,
    known: Sequence[KnownCase] | None = None,
) -> tuple[Cohort, list[str]]:
    """As `build_cohort`, with what is wrong beside the cohort, and without looking whether each case has its images.

    Returns:
        The cases whose split is known, and the faults.

    Raises:
        DataError: there is no case at all, or the dataset or the split's file cannot be read.
    """
    cases = tuple(dataset.cases())
    if not cases:
        raise DataError(f"the dataset {type(dataset).__name__} lists no case; check its options against the data")
    if known is not None:
        members, faults = _recalled(cases, split, seed, known)
        return Cohort(tuple(members)), _name_faults(cases) + faults + _shared_files(members, [*source, *target])
    splits, split_faults = assign(cases, split, seed)
    faults = _name_faults(cases) + split_faults
    members = [
        Member(number, case, splits[folded(case.subject)])
        for number, case in enumerate(cases, 1)
        if folded(case.subject) in splits
    ]
    faults += _shared_files(members, [*source, *target])
    faults += alike_faults(members, [_file_identities(member.case) for member in members], source, target)
    if not split_faults:
        faults += empty_splits(splits, split)
    return Cohort(tuple(members)), faults


def _recalled(
    cases: Sequence[Case], split: SplitSettings, seed: int, known: Sequence[KnownCase]
) -> tuple[list[Member], list[str]]:
    """The cases that a run was trained with, in their numbers and splits, and what has become of those that differ."""
    there = {folded(case.case): case for case in cases}
    members, faults = [], []
    for one in known:
        case = there.get(folded(one.case))
        if case is None:
            faults.append(f'case "{one.case}" ({one.split}): the run knows it and it is not there any more; restore it')
        elif folded(case.subject) != folded(one.subject):
            faults.append(f'case "{one.case}": is of subject "{case.subject}" now, and was of "{one.subject}"')
        else:
            members.append(Member(one.number, case, one.split))
    new = [case for name, case in there.items() if name not in {folded(one.case) for one in known}]
    if new:
        logging.getLogger("medtrans").warning(
            "%d cases were not there when the run began and are left out; train a new run to take them in", len(new)
        )
    faults += _moved(members, split, seed)
    return members, capped(faults)


def _moved(members: Sequence[Member], split: SplitSettings, seed: int) -> list[str]:
    """The cases that a table has in another split now; random splits are those that the run has kept."""
    if split.by not in ("column", "file"):
        return []
    try:
        now, _ = assign([member.case for member in members], split, seed)
    except DataError:  # the table is gone: the run knows its splits by itself
        return []
    return [
        f'case "{member.case.case}": is in {now[name]} now and was in {member.split} when the run began: scores '
        "would be of cases it has seen. Put it back, or train a new run"
        for member in members
        if now.get(name := folded(member.case.subject), member.split) != member.split
    ]


def absent_images(case: Case, required: Sequence[str]) -> dict[str, str]:
    """By modality, what is wrong with a case's list of images: a required one is not there, or a file is not."""
    missing = {
        modality: f'case "{case.case}": no {modality}; the dataset gives '
        f"{listed(sorted(case.images)) or 'no image'} for it"
        for modality in required
        if modality not in case.images
    }
    return missing | {
        modality: f'case "{case.case}", {modality}: no such file "{image}"; '
        "restore it or correct the dataset's options"
        for modality, image in case.images.items()
        if modality in (*required, "mask", "labels") and not callable(image) and _file_identity(image) is None
    }


def load_image(case: Case, modality: str, rules: ReadingRules = NO_RULES, scaling: Preprocess | None = None) -> Volume:
    """One image of a case: its file read, or its function called; padding counts as air where there is a scaling.

    In a mask and in labels voxels that are not finite are filled with 0 where the rules fill them at all: the value
    that suits an intensity would mark them as inside.

    Raises:
        DataError: naming the case and the modality, if there is no such image or it cannot be had.
    """
    where = f'case "{case.case}", {modality}'
    if modality in ("mask", "labels") and rules.fill_not_finite is not None:
        rules = replace(rules, fill_not_finite=0.0)
    image = case.images.get(modality)
    if image is None:
        raise DataError(f"{where}: the dataset gives no such image, only {listed(sorted(case.images))}")
    try:
        volume = image() if callable(image) else read(image, rules)
    except DataError as error:
        raise DataError(*(f"{where}: {fault}" for fault in error.faults)) from error
    except OSError as error:
        raise DataError(f"{where}: cannot be read ({error})") from error
    if not isinstance(volume, Volume):
        raise DataError(f"{where}: the dataset's function gave {type(volume).__name__}, expected a Volume")
    return settled(volume, scaling)


def load_images(
    case: Case,
    modalities: Iterable[str],
    rules: ReadingRules = NO_RULES,
    scalings: Mapping[str, Preprocess] | None = None,
) -> dict[str, Volume]:
    """Several images of a case, as `load_image`; `scalings` by modality."""
    return {modality: load_image(case, modality, rules, (scalings or {}).get(modality)) for modality in modalities}


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


@dataclass(frozen=True)
class KnownCase:
    """A row of the table of cases that a run keeps."""

    number: int
    case: str
    subject: str
    split: SplitName


def read_case_table(path: Path) -> list[KnownCase]:
    """The cases as `write_cases` wrote them.

    Raises:
        DataError: the file cannot be read, or is no such table.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        known = [KnownCase(int(row["number"]), row["case"], row["subject"], _split(row["split"])) for row in rows]
    except (OSError, ValueError, LookupError, TypeError, csv.Error) as error:
        raise DataError(
            f"{path}: cannot be read as the run's table of cases ({error}); expected the columns number, case, subject "
            "and split. Restore it"
        ) from error
    if not known:
        raise DataError(f"{path}: holds no case; restore it")
    return known


def _split(name: str) -> SplitName:
    if name not in get_args(SplitName):
        raise ValueError(f"{name!r} is no split")
    return cast("SplitName", name)


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
    return capped(faults)


def _file_identity(path: Path) -> tuple[int, int] | None:
    """What links to one file share; None where there is no regular file."""
    try:
        status = Path(path).stat()
    except (OSError, ValueError):
        return None
    return (status.st_dev, status.st_ino) if stat.S_ISREG(status.st_mode) else None


def _file_identities(case: Case) -> dict[str, tuple[int, int]]:
    """By modality, what `_file_identity` says of the images that are files."""
    found = {name: _file_identity(image) for name, image in case.images.items() if not callable(image)}
    return {name: identity for name, identity in found.items() if identity is not None}


def alike_faults(
    members: Sequence[Member], held: Sequence[Mapping[str, object]], source: Sequence[str], target: Sequence[str]
) -> list[str]:
    """The cases whose source and target are one image: there is nothing to learn but to copy it.

    Args:
        members: of the cohort.
        held: of each, by modality, what only one and the same image shares: its file, or a digest of its voxels.
        source: modalities.
        target: modalities.
    """
    faults = [
        f'case "{member.case.case}": {one} and {other} are one image (the same file or the same voxels); correct the '
        "dataset's options, or the file that is a copy"
        for member, own in zip(members, held, strict=True)
        for one in source
        for other in target
        if one in own and own[one] == own.get(other)
    ]
    return capped(faults)


def alike_warnings(
    members: Sequence[Member], held: Sequence[Mapping[str, object]], modalities: Sequence[str]
) -> list[str]:
    """As `alike_faults`, of images that are given twice among the sources; a line for each pair of modalities."""
    warnings = []
    for one, other in combinations(modalities, 2):
        twice = [
            member.label for member, own in zip(members, held, strict=True) if one in own and own[one] == own.get(other)
        ]
        if twice:
            warnings.append(
                f"{one} and {other} are one image in {len(twice)} cases ({listed(twice)}): look at the files"
            )
    return warnings


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
    return capped(faults)


@dataclass(frozen=True)
class Duplicate:
    """Two cases in two splits that hold the same voxels, of a modality as stored or of "source" or "target"."""

    earlier: Member
    later: Member
    held: str

    def __str__(self) -> str:
        return (
            f'case "{self.earlier.case.case}" in {self.earlier.split} and case "{self.later.case.case}" in '
            f"{self.later.split} hold identical {self.held} voxels: scores would be too good. Remove one"
        )


def find_duplicates(members: Sequence[Member], digests: Sequence[Mapping[str, str]]) -> list[Duplicate]:
    """The pairs of cases in two splits that share a digest under one name, each pair once; `digests` of each member."""
    found: dict[tuple[int, int], Duplicate] = {}
    for name in dict.fromkeys(name for own in digests for name in own):
        first: dict[str, Member] = {}
        for member, own in zip(members, digests, strict=True):
            earlier = first.setdefault(own[name], member) if name in own else member
            if earlier.split != member.split:
                found.setdefault((earlier.number, member.number), Duplicate(earlier, member, name))
    return list(found.values())


def voxel_digest(image: Volume) -> str | None:
    """A hash of the values in RAS+ order; None for a constant image, which is no scan.

    Values count as float32, so that a copy stored as another type is the same. Where the voxels lie does not count.
    """
    values = regrid(image.data, image.grid, canonical(image.grid))
    return None if values.min() == values.max() else array_digest(values)


def array_digest(values: np.ndarray) -> str:
    """A hash of an array's shape and values."""
    state = blake2b(str(values.shape).encode(), digest_size=16)
    for plane in values:  # one at a time: a copy of the whole would double the memory
        state.update((plane.astype(np.float32) + np.float32(0)).tobytes())  # the sum makes -0.0 the 0.0 it equals
    return state.hexdigest()
