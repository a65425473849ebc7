"""Anatomical images laid out as BIDS wants it, and what their file names say."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal, TypeAlias

from medtrans import Case, ConfigError, DataError, Dataset
from medtrans.builtin.datasets.folders import (
    capped,
    checked_root,
    complete,
    entries,
    folder_names,
    mention,
    nothing_fits,
    quoted,
)

__all__ = ["BIDS", "Selector", "parsed"]

_NAME = re.compile(
    r"(?P<subject>sub-[A-Za-z0-9+]+)(?:_(?P<session>ses-[A-Za-z0-9+]+))?"
    r"(?P<entities>(?:_[a-z]+-[A-Za-z0-9+]+)*)_(?P<suffix>[A-Za-z0-9]+)\.nii(?:\.gz)?"
)
_SELECTOR = re.compile(r"(?P<entities>(?:[a-z]+-[A-Za-z0-9+]+_)*)(?P<suffix>[A-Za-z0-9]+)")
_FREE = ("acq", "rec", "run")  # tell repeats apart; any other entity makes another kind of image


@dataclass(frozen=True)
class BidsName:
    """What a file's name says: "sub-01", "ses-1" or "", the other key-value pairs, and "T1w"."""

    subject: str
    session: str
    entities: Mapping[str, str]
    suffix: str


def parsed(name: str) -> BidsName | None:
    """What a file's name says, or None where it is no NIfTI file named as BIDS wants it."""
    fields = _NAME.fullmatch(name)
    if fields is None:
        return None
    return BidsName(fields["subject"], fields["session"] or "", _pairs(fields["entities"]), fields["suffix"])


@dataclass(frozen=True)
class Selector:
    """Which files are a modality: those with this suffix and these entities, in a folder below root ("" for root).

    Entities that the selector does not name must be absent, since they make another kind of image (`ce`, `part`,
    `space`, `desc`), save `acq`, `rec` and `run`, which tell repeats apart.
    """

    folder: str
    entities: Mapping[str, str]
    suffix: str

    @classmethod
    def of(cls, text: str) -> Selector | None:
        """A selector as a config writes it, or None where it is none."""
        folder, _, last = text.rpartition("/")
        fields = _SELECTOR.fullmatch(last)
        return None if fields is None else cls(folder, _pairs(fields["entities"]), fields["suffix"])

    def rank(self, name: BidsName, chosen: Mapping[str, str]) -> int:
        """How well a file fits: -1 not at all, else the number of chosen entities that its name states.

        Of the entities `chosen` to decide among repeats a file must state no other value.
        """
        if name.suffix != self.suffix or any(key not in name.entities for key in self.entities):
            return -1
        stated = 0
        for key, value in name.entities.items():
            wanted = self.entities.get(key, chosen.get(key))
            if wanted is None and key in _FREE:
                continue
            if wanted is None or not _same(value, wanted):
                return -1
            stated += key not in self.entities
        return stated


def _pairs(text: str) -> dict[str, str]:
    pairs = (pair.partition("-") for pair in text.split("_") if pair)
    return {key: value for key, _, value in pairs}


def _same(one: str, other: str) -> bool:
    """Whether two values are the same, as `run-1` and `run-01` are."""
    if one.isdecimal() and other.isdecimal():
        return int(one) == int(other)
    return one.casefold() == other.casefold()


_Visit: TypeAlias = tuple[str, str]  # subject and session
_Files: TypeAlias = Mapping[_Visit, Sequence[tuple[BidsName, Path]]]

_USUAL = MappingProxyType({"t1": "T1w", "t2": "T2w", "flair": "FLAIR", "pd": "PDw", "t1ce": "ce-gadolinium_T1w"})
_OPTIONAL = ("mask", "labels")


class BIDS(Dataset):
    """Anatomical images in BIDS: `sub-*/[ses-*/]anat/sub-*_[ses-*_][entities_]<suffix>.nii[.gz]`.

    A case is a session (`sub-01_ses-1`), or a subject without sessions; all sessions of a subject stay in one split.
    A modality is chosen by suffix and entities: `T1w`, or `ce-gadolinium_T1w`. Entities that are not named must be
    absent, so that `T1w` is not the one with contrast agent and `mask` not the one in another space; `acq`, `rec` and
    `run` may be there. Where several files of a session fit, they are all reported, and `entities` chooses among them.

    Masks and labels are often derivatives: put the folder, relative to root, before the selector, such as
    `mask: derivatives/fmriprep/desc-brain_mask`. They are optional to each case. Whether images of a session are
    registered BIDS does not say; raw scans seldom are.

    Args:
        root: folder that holds the `sub-*` folders.
        images: modality to selector; null takes what there is of t1: T1w, t2: T2w, flair: FLAIR, pd: PDw and
            t1ce: ce-gadolinium_T1w.
        entities: what to choose among repeats, such as {run: 1, acq: mprage}; a file without the entity serves where
            none has it.
        incomplete: a session that lacks one of `images` is listed, so that a run that needs the image names it, or
            left out, with a warning that counts.
    """

    def __init__(
        self,
        *,
        root: Path,
        images: dict[str, str] | None = None,
        entities: dict[str, str | int] | None = None,
        incomplete: Literal["list", "leave_out"] = "list",
    ) -> None:
        self._root = root
        self._named = images is not None
        self._images = dict(_USUAL if images is None else images)
        self._chosen = {key: str(value) for key, value in (entities or {}).items()}
        self._incomplete = incomplete
        found = {modality: Selector.of(text) for modality, text in self._images.items()}
        self._selectors = {modality: selector for modality, selector in found.items() if selector is not None}
        faults = [
            f"images.{modality}: expected a suffix such as T1w or ce-gadolinium_T1w, after a folder where need be, "
            f'found "{self._images[modality]}"'
            for modality, selector in found.items()
            if selector is None
        ]
        if all(modality in _OPTIONAL for modality in self._images):
            faults.append("images: expected at least one image beside mask and labels, found none")
        if incomplete == "leave_out" and not self._named:
            faults.append("incomplete: leave_out needs images, which say what a session must have")
        if faults:
            raise ConfigError(*faults)

    def cases(self) -> Sequence[Case]:
        """The cases in the order of subject and session; looks at names only.

        Raises:
            DataError: there is no such folder, an image has no file at all, files lie in another subject's folder, or
                several fit one image.
        """
        expected = f'"sub-01/anat/sub-01_{next(iter(self._images.values()))}.nii.gz"'
        root = checked_root(self._root, expected)
        files = {folder: _files(root / folder) for folder in {one.folder for one in self._selectors.values()}}
        faults = [fault for one in files.values() for fault in _misplaced(one)]
        found: dict[str, dict[_Visit, Path]] = {}
        for modality, selector in self._selectors.items():
            found[modality], ambiguous = self._choose(modality, selector, files[selector.folder])
            faults += ambiguous
        if faults:
            raise DataError(*capped(faults))
        if not any(found[modality] for modality in found if modality not in _OPTIONAL):
            raise nothing_fits(root, expected, "correct root or images")
        if absent := [modality for modality in found if not found[modality] and self._named]:
            raise DataError(*(self._absent(root, modality, files) for modality in absent))
        return self._listed(found)

    def _listed(self, found: Mapping[str, Mapping[_Visit, Path]]) -> list[Case]:
        needed = [modality for modality in found if modality not in _OPTIONAL]
        visits = sorted({visit for modality in needed for visit in found[modality]})
        cases = [
            Case(
                "_".join(filter(None, visit)),
                visit[0],
                {modality: paths[visit] for modality, paths in found.items() if visit in paths},
            )
            for visit in visits
        ]
        if self._incomplete == "leave_out":
            cases = complete(cases, needed)
            if not cases:
                raise DataError(f'images: no session in "{self._root}" has all of {", ".join(needed)}; name fewer')
        if self._named:
            mention(cases, found)
        return cases

    def _choose(self, modality: str, selector: Selector, files: _Files) -> tuple[dict[_Visit, Path], list[str]]:
        """The file of each visit, and what is ambiguous."""
        chosen: dict[_Visit, Path] = {}
        faults = []
        for visit, named in files.items():
            ranks = [(selector.rank(name, self._chosen), name, path) for name, path in named]
            best = max(rank for rank, _, _ in ranks)
            fitting = [(name, path) for rank, name, path in ranks if rank == best]
            if best < 0:
                continue
            if len(fitting) > 1:
                shown = quoted([path.name for _, path in fitting])
                faults.append(
                    f"{'_'.join(filter(None, visit))}, {modality}: {len(fitting)} files fit "
                    f'"{self._images[modality]}": {shown}; {_choice([name for name, _ in fitting])}'
                )
            chosen[visit] = fitting[0][1]
        return chosen, faults

    def _absent(self, root: Path, modality: str, files: Mapping[str, _Files]) -> str:
        folder = self._selectors[modality].folder
        there = [path.name for named in files[folder].values() for _, path in named]
        return (
            f'images.{modality}: nothing in "{root / folder}" is "{self._images[modality]}"; found '
            f"{quoted(there) or 'no image'}. Correct images or root; entities that are not named must be absent"
        )


def _files(root: Path) -> dict[_Visit, list[tuple[BidsName, Path]]]:
    """Image files by the folders they lie in."""
    files: dict[_Visit, list[tuple[BidsName, Path]]] = {}
    for visit, folder in _visits(root):
        named = [(name, folder / file) for file in entries(folder) if (name := parsed(file)) is not None]
        if named:
            files[visit] = named
    return files


def _visits(root: Path) -> Iterator[tuple[_Visit, Path]]:
    for subject in folder_names(root):
        if subject.startswith("sub-"):
            yield (subject, ""), root / subject / "anat"
            for session in folder_names(root / subject):
                if session.startswith("ses-"):
                    yield (subject, session), root / subject / session / "anat"


def _misplaced(files: _Files) -> list[str]:
    return [
        f'"{path}": the name says {name.subject} {name.session}, the folder {" ".join(visit)}; rename or move it'
        for visit, named in files.items()
        for name, path in named
        if (name.subject, name.session) != visit
    ]


def _choice(names: Sequence[BidsName]) -> str:
    """How to choose among files: by the first entity in which they differ."""
    keys = dict.fromkeys(key for name in names for key in name.entities)
    for key in keys:
        values = [name.entities[key] for name in names if key in name.entities]
        if len(set(values)) > 1 or len(values) < len(names):
            return f"choose with entities: {{{key}: {values[0]}}}, or name it in images"
    return "remove all but one"
