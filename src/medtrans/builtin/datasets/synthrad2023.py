"""Owns the layout of the SynthRAD2023 challenge."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from medtrans import Case, Dataset
from medtrans.builtin.datasets.synthrad import synthrad_cases

__all__ = ["SynthRAD2023"]

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
