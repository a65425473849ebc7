"""What all datasets of files share: how a wrong root is told, options from a config, and links to nowhere."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from medtrans.builtin.datasets.bids import BIDS
from medtrans.builtin.datasets.brats import BraTS
from medtrans.builtin.datasets.hcp import DHCP, HCP
from medtrans.builtin.datasets.ixi import IXI
from medtrans.builtin.datasets.paired_folders import PairedFolders
from medtrans.builtin.datasets.synthrad import SynthRAD2023, SynthRAD2025
from medtrans.config.schema import FractionsSplit
from medtrans.data.cohort import build_cohort
from medtrans.errors import DataError
from medtrans.plugins.interfaces import Dataset
from tests.builtin.trees import configured, fault_of, touch


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
by_layout = pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.dataset.__name__)
told = pytest.mark.parametrize("layout", LAYOUTS[1:], ids=lambda layout: layout.dataset.__name__)


def listing(layout: Layout, root: Path) -> Dataset:
    return configured(layout.dataset, {"root": str(root), **layout.options})


@by_layout
def test_options_come_from_a_config_and_a_case_has_what_lies_there(layout: Layout, tmp_path: Path) -> None:
    touch(tmp_path, *layout.files)
    (case,) = listing(layout, tmp_path).cases()
    images = dict(zip(layout.modalities, layout.files, strict=True))
    assert case.images == {modality: tmp_path / file for modality, file in images.items()}


@by_layout
def test_a_link_to_nowhere_is_a_missing_file_and_not_a_missing_case(
    layout: Layout, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    touch(tmp_path, *layout.files)
    (tmp_path / layout.files[1]).unlink()
    (tmp_path / layout.files[1]).symlink_to(tmp_path / "annex/object")
    source, target = layout.modalities
    everyone = FractionsSplit(train=1.0, validation=0.0, test=0.0)
    with caplog.at_level(logging.ERROR), pytest.raises(DataError, match=f"{target}: no such file"):
        build_cohort(listing(layout, tmp_path), everyone, source=[source], target=[target], seed=0)


@by_layout
def test_a_case_that_lacks_an_image_is_named_by_the_run_or_left_out(layout: Layout, tmp_path: Path) -> None:
    touch(tmp_path, *layout.files)
    (tmp_path / layout.files[1]).unlink()
    source, target = layout.modalities
    with pytest.raises(DataError):
        build_cohort(listing(layout, tmp_path), FractionsSplit(), source=[source], target=[target], seed=0)


@by_layout
def test_a_root_that_is_not_there_is_told(layout: Layout, tmp_path: Path) -> None:
    touch(tmp_path, "Data/readme")
    message = fault_of(listing(layout, tmp_path / "data2"))
    assert f'root: no such folder "{tmp_path / "data2"}"' in message
    if layout.dataset is not PairedFolders:
        assert f'"{tmp_path}" holds "Data"' in message
        assert layout.expected in message
        assert "there is no" in fault_of(listing(layout, tmp_path / "gone/too"))


@told
def test_a_root_where_nothing_fits_is_told_with_what_is_there(layout: Layout, tmp_path: Path) -> None:
    touch(tmp_path, "archive.tar", *(f".hidden/{file}" for file in layout.files))
    message = fault_of(listing(layout, tmp_path))
    assert f'in "{tmp_path}" fits' in message
    assert layout.expected in message
    assert 'found "archive.tar"' in message
