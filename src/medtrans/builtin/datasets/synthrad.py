"""The layouts of the SynthRAD challenges of 2023 and 2025."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal, TypeAlias

from pydantic import Field

from medtrans import Case, DataError
from medtrans.builtin.datasets.folders import FolderDataset, capped, case_folders, image_files
from medtrans.volume import NIFTI_ENDINGS

__all__ = ["SynthRAD2023", "SynthRAD2025"]

_DEPTH = 5  # archive/archive/Task1/pelvis/1PA001, where an archive was unpacked into a folder of its own name

Centre: TypeAlias = Literal["A", "B", "C"]
Region: TypeAlias = Literal["HN", "TH", "AB"]
Centre2025: TypeAlias = Literal["A", "B", "C", "D", "E"]


class _SynthRAD(FolderDataset):
    """What the two challenges share: folders named by ids, the images in them, and cases without a CT.

    The images of one id may lie in several archives, as a later one may bring the CTs of a validation set.
    """

    endings: ClassVar[tuple[str, ...]] = NIFTI_ENDINGS
    optional = ("mask",)
    advice = "take the training archive, or correct root, task or region"

    def _locate(self, root: Path, task: Literal[1, 2], ids: str, place: str, example: str) -> None:
        """Take folders named by the task and a fitting id; a place and an example of an id are for messages."""
        self.root, self._ids = root, re.compile(f"{task}{ids}")
        source = "mr" if task == 1 else "cbct"
        self.required = (source, "ct")
        image = f"Task{task}/{place}/<id>/{source}{self.endings[0]}"
        self.expected = f'"{image}" with an id like {task}{example}'

    def found(self, root: Path) -> Sequence[Case]:
        found: dict[str, dict[str, Path]] = {}
        twice = []
        stems = {modality: (modality,) for modality in (*self.required, "mask")}
        for folder in case_folders(root, self._ids, _DEPTH):
            images = found.setdefault(folder.name, {})
            for modality, path in image_files(folder, stems, self.endings).items():
                first = images.setdefault(modality, path)
                if first != path:
                    twice.append(f'root: "{first}" and "{path}" are both {modality} of {folder.name}; remove one')
        if twice:
            raise DataError(*capped(twice))
        return [Case(name, name, images) for name, images in sorted(found.items()) if images]


class SynthRAD2023(_SynthRAD):
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
        example = f"{'B' if region == 'brain' else 'P'}{centres[0] if centres else 'A'}001"
        self._locate(root, task, rf"{initial}[{''.join(centres or 'ABC')}]\d{{3}}", region or "pelvis", example)


class SynthRAD2025(_SynthRAD):
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

    endings = (".mha", *NIFTI_ENDINGS)

    def __init__(
        self,
        *,
        root: Path,
        task: Literal[1, 2],
        regions: Annotated[tuple[Region, ...], Field(min_length=1)] = ("HN", "TH", "AB"),
        centres: Annotated[tuple[Centre2025, ...], Field(min_length=1)] = ("A", "B", "C", "D", "E"),
    ) -> None:
        ids = rf"(?:{'|'.join(regions)})[{''.join(centres)}]\d{{3}}"
        self._locate(root, task, ids, regions[0], f"{regions[0]}{centres[0]}001")
