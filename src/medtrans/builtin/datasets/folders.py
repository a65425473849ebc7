"""The base of datasets whose layout is known, looking into their folders, and messages for what is missing there."""

from __future__ import annotations

import logging
import os
import re
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from medtrans import Case, DataError, Dataset
from medtrans.volume import NIFTI_ENDINGS

__all__ = [
    "FolderDataset",
    "capped",
    "case_folders",
    "checked_root",
    "complete",
    "entries",
    "folder_names",
    "image_files",
    "mention",
    "nothing_fits",
    "quoted",
]

_NEVER_CASES = ("__MACOSX", "overview", "overviews")  # what archives bring along beside the cases
_FAULTS = 20


class FolderDataset(Dataset):
    """Base of datasets with a known layout below a root; they look at names only.

    Attributes:
        root: folder from the config.
        expected: the path pattern of a case below it, for messages.
        required: modalities without which a case is left out, with a warning that counts.
        optional: modalities whose lack is warned of.
        advice: what to do where no case is found.
    """

    root: Path
    expected: str
    required: tuple[str, ...] = ()
    optional: Sequence[str] = ()
    advice: str = "correct root"

    @abstractmethod
    def found(self, root: Path) -> Sequence[Case]:
        """The cases with the images they have, complete or not, in their order.

        Raises:
            DataError: the folder is another than this dataset's, or an image is there twice.
        """

    def cases(self) -> Sequence[Case]:
        """The complete cases.

        Raises:
            DataError: there is no such folder, no complete case in it, or an image is there twice.
        """
        root = checked_root(self.root, self.expected)
        found = self.found(root)
        cases = complete(found, self.required)
        if not cases:
            lacking = f": {len(found)} cases are there, none with all of {', '.join(self.required)}" if found else ""
            raise nothing_fits(root, self.expected, self.advice + lacking)
        mention(cases, self.optional)
        return cases


def quoted(names: Sequence[str], most: int = 4) -> str:
    """The first names in quotes, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(f'"{name}"' for name in names[:most]) + more


def capped(faults: Sequence[str]) -> list[str]:
    """The first faults, and how many more there are."""
    more = len(faults) - _FAULTS
    return list(faults) if more <= 0 else [*faults[:_FAULTS], f"... and {more} more of this kind"]


def checked_root(root: Path, expected: str) -> Path:
    """The root that the config gives, with `~` replaced; `expected` is the path pattern of a case below it.

    Raises:
        DataError: there is no such folder; says what was expected in it and what lies beside it.
    """
    root = Path(root).expanduser()
    if root.is_dir():
        return root
    if root.parent.is_dir():
        beside = f'"{root.parent}" holds {quoted(entries(root.parent)) or "nothing"}'
    else:
        beside = f'there is no "{root.parent}" either'
    raise DataError(
        f'root: no such folder "{root}"; {beside}. Correct root so that it holds {expected}, or mount the data'
    )


def nothing_fits(root: Path, expected: str, advice: str, *, what: str = "nothing") -> DataError:
    """The error of a root that holds nothing, or lacks `what`, of the dataset; `advice` says what to do."""
    found = quoted(entries(root)) or "nothing"
    return DataError(f'root: {what} in "{root}" fits; expected {expected}, found {found}. To mend it, {advice}')


def case_folders(root: Path, name: re.Pattern[str], depth: int) -> Iterator[Path]:
    """Folders whose whole name fits, at most `depth` levels below root, in the order of names.

    A folder that fits is not looked into; hidden folders and those that archives bring along are passed over.
    """
    for folder in folder_names(root):
        if name.fullmatch(folder):
            yield root / folder
        elif depth > 1 and folder not in _NEVER_CASES:
            yield from case_folders(root / folder, name, depth - 1)


def entries(folder: Path) -> list[str]:
    """The names of all that is in a folder, sorted, without hidden ones; none where it cannot be listed."""
    return sorted(entry.name for entry in _shown(folder))


def folder_names(folder: Path) -> list[str]:
    """The names of the folders in a folder, likewise."""
    return sorted(entry.name for entry in _shown(folder) if entry.is_dir())


def _shown(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return [entry for entry in found if not entry.name.startswith(".")]
    except OSError:
        return []


def image_files(
    folder: Path, stems: Mapping[str, Sequence[str]], endings: Sequence[str] = NIFTI_ENDINGS
) -> dict[str, Path]:
    """For each modality the first of its stems, under the first of the endings, that has a file in the folder.

    A link that leads nowhere counts, so that a run says which file is missing rather than leave out its case.
    """
    found = {}
    for modality, names in stems.items():
        paths = (folder / f"{stem}{ending}" for stem in names for ending in endings)
        if (path := next(filter(os.path.lexists, paths), None)) is not None:
            found[modality] = path
    return found


def complete(cases: Sequence[Case], required: Iterable[str]) -> list[Case]:
    """The cases that have all required modalities, with a warning for each modality that some lack.

    Warnings count and name nobody, since the log may be shared.
    """
    required = tuple(required)
    _warn(cases, required, "have no %s and are left out")
    return [case for case in cases if all(modality in case.images for modality in required)]


def mention(cases: Sequence[Case], wanted: Iterable[str]) -> None:
    """Warn of each modality that some cases lack."""
    _warn(cases, wanted, "have no %s")


def _warn(cases: Sequence[Case], modalities: Iterable[str], what: str) -> None:
    for modality in modalities:
        lacking = sum(1 for case in cases if modality not in case.images)
        if lacking:
            logging.getLogger("medtrans").warning(f"%d of %d cases {what}", lacking, len(cases), modality)
