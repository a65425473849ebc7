"""The SynthRAD challenges: ids, archives as they unpack, centres, and cases without a CT."""

from __future__ import annotations

from pathlib import Path

import pytest

from medtrans.builtin.datasets.synthrad import SynthRAD2023, SynthRAD2025
from tests.builtin.trees import fault_of, touch


def collection(root: Path, *ids: str, folder: str = "Task1/pelvis", images: str = "mr ct mask") -> None:
    """Cases as an archive of 2023 has them, or of 2025 where ids have three letters."""
    ending = "mha" if ids[0][1:4].isalpha() else "nii.gz"
    touch(root, f"{folder}/overview/1_pelvis_train.xlsx", f"{folder}/overviews/{ids[0]}_train.png")
    touch(root, *(f"{folder}/{name}/{image}.{ending}" for name in ids for image in images.split()))


def ids(dataset: SynthRAD2023 | SynthRAD2025) -> list[str]:
    return [case.case for case in dataset.cases()]


@pytest.mark.parametrize("root", ["", "Task1", "Task1/pelvis"])
def test_root_may_be_the_challenge_the_task_or_the_region(tmp_path, root):
    collection(tmp_path, "1PC004", "1PA001")
    cases = SynthRAD2023(root=tmp_path / root, task=1, region="pelvis").cases()
    assert [(case.case, case.subject, case.split) for case in cases] == [
        ("1PA001", "1PA001", None), ("1PC004", "1PC004", None)
    ]  # fmt: skip
    assert cases[0].images == {name: tmp_path / f"Task1/pelvis/1PA001/{name}.nii.gz" for name in ("mr", "ct", "mask")}


def test_task_region_and_centres_choose_by_the_id(tmp_path):
    collection(tmp_path, "1PA001", "1PC001")
    collection(tmp_path, "1BA001", "1BB002", folder="Task1/brain")
    collection(tmp_path, "2PA001", folder="Task2/pelvis", images="cbct ct mask")
    assert ids(SynthRAD2023(root=tmp_path, task=1)) == ["1BA001", "1BB002", "1PA001", "1PC001"]
    assert ids(SynthRAD2023(root=tmp_path, task=1, region="brain")) == ["1BA001", "1BB002"]
    assert ids(SynthRAD2023(root=tmp_path, task=1, centres=("A", "B"))) == ["1BA001", "1BB002", "1PA001"]
    assert ids(SynthRAD2023(root=tmp_path, task=2)) == ["2PA001"]


def test_only_ids_are_cases(tmp_path, caplog):
    collection(tmp_path, "1PA001", "1PD001", "1PA01", "1PA001_old", "overview/1PA002", "2PA001")
    collection(tmp_path, "1PA003", folder=".snapshot/Task1/pelvis")
    touch(tmp_path, "__MACOSX/Task1/pelvis/1PA004/._ct.nii.gz", "Task1/pelvis/1PA005/notes.txt", "Task1/1PA006")
    assert ids(SynthRAD2023(root=tmp_path, task=1)) == ["1PA001"]
    assert caplog.text == ""


def test_validation_inputs_and_missing_masks_are_counted_and_not_named(tmp_path, caplog):
    collection(tmp_path, "1PA001", "1PA002")
    (tmp_path / "Task1/pelvis/1PA002/mask.nii.gz").unlink()
    collection(tmp_path, "1PA003", "1PA007", folder="Task1_val/pelvis", images="mr mask")
    assert ids(SynthRAD2023(root=tmp_path, task=1)) == ["1PA001", "1PA002"]
    assert "2 of 4 cases have no ct and are left out" in caplog.text
    assert "1 of 2 cases have no mask" in caplog.text
    assert "1PA003" not in caplog.text


def test_a_validation_archive_alone_is_told_apart_from_a_wrong_root(tmp_path):
    collection(tmp_path, "1PA003", images="mr mask")
    assert "1 cases are there, none with all of mr, ct" in fault_of(SynthRAD2023(root=tmp_path, task=1))


def test_images_of_a_case_may_come_in_two_archives_and_twice_is_reported(tmp_path):
    collection(tmp_path, "1ABA005", folder="synthRAD2025_Task1_Val_Input/Task1/AB", images="mr mask")
    collection(tmp_path, "1ABA005", folder="synthRAD2025_Task1_Val_GT/Task1/AB", images="ct")
    (case,) = SynthRAD2025(root=tmp_path, task=1).cases()
    assert set(case.images) == {"mr", "ct", "mask"}
    collection(tmp_path, "1ABA005", folder="copy/Task1/AB", images="ct")
    assert "are both ct of 1ABA005" in fault_of(SynthRAD2025(root=tmp_path, task=1))


def test_2025_centre_d_comes_as_an_archive_beside_the_others(tmp_path):
    collection(tmp_path, "1HNA001", "1HNC014", folder="synthRAD2025_Task1_Train/synthRAD2025_Task1_Train/Task1/HN")
    collection(tmp_path, "1HND001", folder="synthRAD2025_Task1_Train_D/Task1/HN")
    touch(tmp_path, *(f"synthRAD2025_Task1_Train/Task1/TH/1THB011/{name}.nii.gz" for name in ("mr", "ct", "mask")))
    collection(tmp_path, "2HNE001", folder="synthRAD2025_Task2_Train/Task2/HN", images="cbct ct mask")
    assert ids(SynthRAD2025(root=tmp_path, task=1)) == ["1HNA001", "1HNC014", "1HND001", "1THB011"]
    assert ids(SynthRAD2025(root=tmp_path, task=1, regions=("HN",), centres=("A", "D"))) == ["1HNA001", "1HND001"]
    (case,) = SynthRAD2025(root=tmp_path, task=2).cases()
    assert case.images["cbct"].name == "cbct.mha"
