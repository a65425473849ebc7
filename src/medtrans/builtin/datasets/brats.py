"""The layouts of the BraTS challenges from 2021 on."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from medtrans import Case
from medtrans.builtin.datasets.folders import FolderDataset, case_folders, image_files

__all__ = ["BraTS"]

_CASE = re.compile(r"BraTS2021_(?P<number>\d{5})|BraTS-(?P<cohort>[A-Z]+)-(?P<patient>\d{5})-\d{3}")
_DEPTH = 3  # archives put cases one folder down, and unpacking one into a folder of its own adds another
_ENDINGS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {  # modality: its name in 2021, and from 2023 on
        "t1": ("_t1", "-t1n"),
        "t1ce": ("_t1ce", "-t1c"),
        "t2": ("_t2", "-t2w"),
        "flair": ("_flair", "-t2f"),
        "labels": ("_seg", "-seg"),
    }
)


class BraTS(FolderDataset):
    """BraTS 2021 and 2023 onwards: t1, t1ce, t2, flair and labels of brain tumours, skull-stripped, at 1 mm.

    Expects `BraTS2021_00000/BraTS2021_00000_{t1,t1ce,t2,flair,seg}.nii.gz` or, from 2023 on,
    `BraTS-GLI-00000-000/BraTS-GLI-00000-000-{t1n,t1c,t2w,t2f,seg}.nii.gz`, up to three folders below root. Both
    naming schemes give the same modalities.

    The subject of `BraTS-GLI-00000-000` and of `BraTS2021_00000` is `00000`, so that all time points of a patient, and
    a patient in both editions, stay in one split. Other cohorts number their own patients: `BraTS-MEN-00004-000` is
    `MEN-00004`. A case is listed with the images it has; validation cases have no labels.

    Labels: 1 necrotic core, 2 oedema, and enhancing tumour, which is 4 in 2021 and 3 from 2023 on. In the
    post-treatment gliomas of 2024, 4 is the resection cavity. The numbers are handed on as they are: do not train on
    labels of several editions at once.

    Args:
        root: folder that holds the case folders.
    """

    expected = '"BraTS2021_00000/BraTS2021_00000_t1.nii.gz" or "BraTS-GLI-00000-000/BraTS-GLI-00000-000-t1n.nii.gz"'
    optional = ("labels",)
    advice = "unpack the archive there, or correct root"

    def __init__(self, *, root: Path) -> None:
        self.root = root

    def found(self, root: Path) -> Sequence[Case]:
        cases = (_case(folder) for folder in case_folders(root, _CASE, _DEPTH))
        return sorted((case for case in cases if case.images), key=lambda case: case.case)


def _case(folder: Path) -> Case:
    stems = {modality: [f"{folder.name}{ending}" for ending in endings] for modality, endings in _ENDINGS.items()}
    return Case(folder.name, _subject(folder.name), image_files(folder, stems))


def _subject(name: str) -> str:
    fields = _CASE.fullmatch(name)
    if fields is None or fields["number"]:
        return name.removeprefix("BraTS2021_")
    return fields["patient"] if fields["cohort"] == "GLI" else f"{fields['cohort']}-{fields['patient']}"
