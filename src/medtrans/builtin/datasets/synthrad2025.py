"""Owns the layout of the SynthRAD2025 challenge."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from medtrans import Case, Dataset
from medtrans.builtin.datasets.synthrad import synthrad_cases

__all__ = ["SynthRAD2025"]

Region: TypeAlias = Literal["HN", "TH", "AB"]
Centre: TypeAlias = Literal["A", "B", "C", "D", "E"]


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
        centres: Annotated[tuple[Centre, ...], Field(min_length=1)] = ("A", "B", "C", "D", "E"),
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
