"""The layouts of the SynthRAD challenges of 2023 and 2025."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from medtrans import Case, DataError, Dataset
from medtrans.builtin.datasets.folders import (
    capped,
    case_folders,
    checked_root,
    complete,
    image_file,
    mention,
    nothing_fits,
)

__all__ = ["SynthRAD2023", "SynthRAD2025", "synthrad_cases"]

_DEPTH = 5  # archive/archive/Task1/pelvis/1PA001, where an archive was unpacked into a folder of its own name


def synthrad_cases(root: Path, ids: re.Pattern[str], expected: str, source: str, endings: Sequence[str]) -> list[Case]:
    """The cases below root, in the order of their ids; those without a CT or source are left out with a warning.

    The images of one id may lie in several archives, as a later one may bring the CTs of a validation set.

    Args:
        root: as the config gives it.
        ids: which folders are cases.
        expected: path pattern of a case, for messages.
        source: "mr" or "cbct".
        endings: of image files.

    Raises:
        DataError: there is no such folder, no complete case in it, or an image is there twice.
    """
    root = checked_root(root, expected)
    found: dict[str, dict[str, Path]] = {}
    twice = []
    for folder in case_folders(root, ids, _DEPTH):
        images = found.setdefault(folder.name, {})
        for modality, path in _images(folder, source, endings).items():
            first = images.setdefault(modality, path)
            if first != path:
                twice.append(f'root: "{first}" and "{path}" are both {modality} of {folder.name}; remove one')
    if twice:
        raise DataError(*capped(twice))
    listed = [Case(name, name, images) for name, images in sorted(found.items()) if images]
    cases = complete(listed, (source, "ct"))
    if not cases:
        inputs = f", for {len(listed)} cases are there without their {source} or CT" if listed else ""
        raise nothing_fits(root, expected, f"take the training archive{inputs}, or correct root, task or region")
    mention(cases, ["mask"])
    return cases


def _images(folder: Path, source: str, endings: Sequence[str]) -> Mapping[str, Path]:
    found = {modality: image_file(folder, modality, endings=endings) for modality in (source, "ct", "mask")}
    return {modality: path for modality, path in found.items() if path is not None}


Centre: TypeAlias = Literal["A", "B", "C"]


class SynthRAD2023(Dataset):
    """SynthRAD2023: mr or cbct, ct and mask of the brain (1 mm) and the pelvis (1 x 1 x 2.5 mm).

    Expects `Task1/pelvis/1PA001/{mr,ct,mask}.nii.gz`, with `cbct` in place of `mr` for task 2, up to five folders below
    root, so that root may hold Task1 and Task2, be one of them, or be the region's folder. Only folders named by an id
    (task, region's initial, centre, three digits) are cases; `overview` is passed over.

    Validation and test archives have no CT: their cases are left out, with a warning that counts them. Every case is a
    subject of its own.

    Args:
        root: folder that holds the cases, the task or both tasks.
        task: 1, from mr, or 2, from cbct.
        region: "brain" or "pelvis"; null takes both.
        centres: which centres' cases to take; null takes all. Numbers are not contiguous, and centre B has no pelves in
            task 1.
    """

    def __init__(
        self,
        *,
        root: Path,
        task: Literal[1, 2],
        region: Literal["brain", "pelvis"] | None = None,
        centres: Annotated[tuple[Centre, ...], Field(min_length=1)] | None = None,
    ) -> None:
        initial = "[BP]" if region is None else region[0].upper()
        self._ids = re.compile(rf"{task}{initial}[{''.join(centres or 'ABC')}]\d{{3}}")
        self._source = "mr" if task == 1 else "cbct"
        place = f"Task{task}/{region or 'pelvis'}/<id>/{self._source}.nii.gz"
        example = f"{task}{'B' if region == 'brain' else 'P'}{centres[0] if centres else 'A'}001"
        self._expected = f'"{place}" with an id like {example}'
        self._root = root

    def cases(self) -> Sequence[Case]:
        """The cases in the order of their ids; looks at names only.

        Raises:
            DataError: there is no such folder, no case with a CT in it, or an image is there twice.
        """
        return synthrad_cases(self._root, self._ids, self._expected, self._source, (".nii.gz", ".nii"))


Region: TypeAlias = Literal["HN", "TH", "AB"]
Centre2025: TypeAlias = Literal["A", "B", "C", "D", "E"]


class SynthRAD2025(Dataset):
    """SynthRAD2025: mr or cbct, ct and mask of head and neck, thorax and abdomen, at 1 x 1 x 3 mm.

    Expects `synthRAD2025_Task1_Train/Task1/HN/1HNA001/{mr,ct,mask}.mha`, with `cbct` in place of `mr` for task 2, up to
    five folders below root. Centre D comes as an archive of its own (`..._Train_D`): unpack it beside the first. Only
    folders named by an id (task, region, centre, three digits) are cases; `overviews` is passed over.

    A case converted to `.nii.gz` is taken as well. Validation and test archives have no CT: their cases are left out,
    with a warning that counts them. Every case is a subject of its own.

    Args:
        root: folder that holds the archives' folders, a task or a region.
        task: 1, from mr, or 2, from cbct.
        regions: head and neck (HN), thorax (TH), abdomen (AB).
        centres: which centres' cases to take.
    """

    def __init__(
        self,
        *,
        root: Path,
        task: Literal[1, 2],
        regions: Annotated[tuple[Region, ...], Field(min_length=1)] = ("HN", "TH", "AB"),
        centres: Annotated[tuple[Centre2025, ...], Field(min_length=1)] = ("A", "B", "C", "D", "E"),
    ) -> None:
        self._ids = re.compile(rf"{task}(?:{'|'.join(regions)})[{''.join(centres)}]\d{{3}}")
        self._source = "mr" if task == 1 else "cbct"
        example = f"{task}{regions[0]}{centres[0]}001"
        self._expected = f'"Task{task}/{regions[0]}/<id>/{self._source}.mha" with an id like {example}'
        self._root = root

    def cases(self) -> Sequence[Case]:
        """The cases in the order of their ids; looks at names only.

        Raises:
            DataError: there is no such folder, no case with a CT in it, or an image is there twice.
        """
        endings = (".mha", ".nii.gz", ".nii")
        return synthrad_cases(self._root, self._ids, self._expected, self._source, endings)
