"""Folders of empty files with the names of real collections: datasets look at names only."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest

from medtrans.builtin.datasets.bids import BIDS
from medtrans.builtin.datasets.brats import BraTS
from medtrans.builtin.datasets.hcp import DHCP, HCP
from medtrans.builtin.datasets.ixi import IXI
from medtrans.builtin.datasets.paired_folders import PairedFolders
from medtrans.builtin.datasets.synthrad import SynthRAD2023, SynthRAD2025
from medtrans.errors import DataError
from medtrans.plugins.interfaces import Case, Dataset


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def names_of(case: Case) -> dict[str, str]:
    """The file names of a case by modality."""
    return {modality: Path(image).name for modality, image in case.images.items()}


def fault_of(dataset: Dataset) -> str:
    """What listing the cases is refused with."""
    with pytest.raises(DataError) as caught:
        dataset.cases()
    return str(caught.value)


class Layout(NamedTuple):
    """A dataset of files, with one complete case of it."""

    dataset: type[Dataset]
    options: dict[str, Any]
    expected: str
    files: tuple[str, str]
    modalities: tuple[str, str]


PATTERNS = {"t1": "{subject}/{subject}_T1w.nii.gz", "t2": "{subject}/{subject}_T2w.nii.gz"}
SESSION = "sub-1/ses-1/anat/sub-1_ses-1"
LAYOUTS = [
    Layout(PairedFolders, {"images": PATTERNS}, "", ("a/a_T1w.nii.gz", "a/a_T2w.nii.gz"), ("t1", "t2")),
    Layout(BIDS, {"images": {"t1": "T1w", "t2": "run-1_T2w"}, "entities": {"acq": "x"}, "incomplete": "list"},
           '"sub-01/anat/sub-01_T1w.nii.gz"', (f"{SESSION}_T1w.nii.gz", f"{SESSION}_run-1_T2w.nii.gz"), ("t1", "t2")),
    Layout(BraTS, {}, '"BraTS2021_00000/BraTS2021_00000_t1.nii.gz"',
           tuple(f"BraTS2021_00000/BraTS2021_00000_{name}.nii.gz" for name in ("t1", "t2")), ("t1", "t2")),
    Layout(IXI, {"modalities": ["t1", "t2"]}, '"IXI-T1/IXI002-Guys-0828-T1.nii.gz"',
           tuple(f"IXI-{name}/IXI002-Guys-0828-{name}.nii.gz" for name in ("T1", "T2")), ("t1", "t2")),
    Layout(HCP, {"space": "native", "restored": True}, '"<six digits>/T1w/T1w_acpc_dc_restore.nii.gz"',
           tuple(f"100307/T1w/{name}_acpc_dc_restore.nii.gz" for name in ("T1w", "T2w")), ("t1", "t2")),
    Layout(DHCP, {"restored": False}, '"sub-<id>/ses-<n>/anat/sub-<id>_ses-<n>_T2w.nii.gz"',
           (f"{SESSION}_T1w.nii.gz", f"{SESSION}_T2w.nii.gz"), ("t1", "t2")),
    Layout(SynthRAD2023, {"task": 2, "region": "pelvis", "centres": ["C"]},
           '"Task2/pelvis/<id>/cbct.nii.gz" with an id like 2PC001',
           ("Task2/pelvis/2PC001/cbct.nii.gz", "Task2/pelvis/2PC001/ct.nii.gz"), ("cbct", "ct")),
    Layout(SynthRAD2025, {"task": 1, "regions": ["HN"], "centres": ["D"]},
           '"Task1/HN/<id>/mr.mha" with an id like 1HND001', ("Task1/HN/1HND001/mr.mha", "Task1/HN/1HND001/ct.mha"),
           ("mr", "ct")),
]  # fmt: skip
