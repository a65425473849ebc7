"""The SynthRAD challenges: ids, archives as they unpack, centres, and cases without a CT."""

from __future__ import annotations

from pathlib import Path

import pytest

from medtrans.builtin.datasets.synthrad import SynthRAD2023, SynthRAD2025

from .trees import configured, fault_of, touch


def cases_2023(root: Path, *ids: str, folder: str = "Task1/pelvis", images: str = "mr ct mask") -> None:
    touch(root, f"{folder}/overview/1_pelvis_train.xlsx", f"{folder}/overview/{ids[0]}_train.png")
    touch(root, *(f"{folder}/{name}/{image}.nii.gz" for name in ids for image in images.split()))


def cases_2025(root: Path, *ids: str, folder: str, images: str = "mr ct mask") -> None:
    touch(root, f"{folder}/overviews/1_AB_train_parameters.xlsx")
    touch(root, *(f"{folder}/{name}/{image}.mha" for name in ids for image in images.split()))


def ids(dataset: SynthRAD2023 | SynthRAD2025) -> list[str]:
    return [case.case for case in dataset.cases()]


@pytest.mark.parametrize("root", ["", "Task1", "Task1/pelvis"])
def test_root_may_be_the_challenge_the_task_or_the_region(tmp_path, root):
    cases_2023(tmp_path, "1PC004", "1PA001")
    cases = SynthRAD2023(root=tmp_path / root, task=1, region="pelvis").cases()
    assert [(case.case, case.subject, case.split) for case in cases] == [
        ("1PA001", "1PA001", None), ("1PC004", "1PC004", None)
    ]  # fmt: skip
    assert cases[0].images == {name: tmp_path / f"Task1/pelvis/1PA001/{name}.nii.gz" for name in ("mr", "ct", "mask")}


def test_task_two_has_cone_beam_ct(tmp_path):
    cases_2023(tmp_path, "2BA001", folder="Task2/brain", images="cbct ct mask")
    (case,) = SynthRAD2023(root=tmp_path, task=2).cases()
    assert set(case.images) == {"cbct", "ct", "mask"}


def test_task_region_and_centres_choose_by_the_id(tmp_path):
    cases_2023(tmp_path, "1PA001", "1PC001")
    cases_2023(tmp_path, "1BA001", "1BB002", folder="Task1/brain")
    cases_2023(tmp_path, "2PA001", folder="Task2/pelvis", images="cbct ct mask")
    assert ids(SynthRAD2023(root=tmp_path, task=1)) == ["1BA001", "1BB002", "1PA001", "1PC001"]
    assert ids(SynthRAD2023(root=tmp_path, task=1, region="brain")) == ["1BA001", "1BB002"]
    assert ids(SynthRAD2023(root=tmp_path, task=1, centres=("A", "B"))) == ["1BA001", "1BB002", "1PA001"]


def test_only_ids_are_cases(tmp_path, caplog):
    cases_2023(tmp_path, "1PA001")
    cases_2023(tmp_path, "1PD001", "1PA01", "1PA001_old", "overview/1PA002", "2PA001")
    cases_2023(tmp_path, "1PA003", folder=".snapshot/Task1/pelvis")
    touch(tmp_path, "__MACOSX/Task1/pelvis/1PA004/._ct.nii.gz", "Task1/pelvis/1PA005/notes.txt", "Task1/1PA006")
    assert ids(SynthRAD2023(root=tmp_path, task=1)) == ["1PA001"]
    assert caplog.text == ""


def test_validation_inputs_are_left_out_with_a_count(tmp_path, caplog):
    cases_2023(tmp_path, "1PA001")
    cases_2023(tmp_path, "1PA003", "1PA007", folder="Task1_val/pelvis", images="mr mask")
    assert ids(SynthRAD2023(root=tmp_path, task=1)) == ["1PA001"]
    assert "2 of 3 cases have no ct and are left out" in caplog.text
    assert "1PA003" not in caplog.text


def test_a_validation_archive_alone_is_told_apart_from_a_wrong_root(tmp_path):
    cases_2023(tmp_path, "1PA003", images="mr mask")
    assert "take the training archive, for 1 cases are there without" in fault_of(SynthRAD2023(root=tmp_path, task=1))


def test_cts_that_come_later_in_an_archive_of_their_own_are_joined(tmp_path):
    cases_2025(tmp_path, "1ABA005", folder="synthRAD2025_Task1_Val_Input/Task1/AB", images="mr mask")
    cases_2025(tmp_path, "1ABA005", folder="synthRAD2025_Task1_Val_GT/Task1/AB", images="ct")
    (case,) = SynthRAD2025(root=tmp_path, task=1).cases()
    assert set(case.images) == {"mr", "ct", "mask"}


def test_an_archive_unpacked_twice_is_reported(tmp_path):
    cases_2023(tmp_path, "1PA001")
    cases_2023(tmp_path, "1PA001", folder="copy/Task1/pelvis")
    assert "are both ct of 1PA001; remove one" in fault_of(SynthRAD2023(root=tmp_path, task=1))


def test_a_case_without_a_mask_is_mentioned(tmp_path, caplog):
    cases_2023(tmp_path, "1PA001", "1PA002")
    (tmp_path / "Task1/pelvis/1PA002/mask.nii.gz").unlink()
    assert ids(SynthRAD2023(root=tmp_path, task=1)) == ["1PA001", "1PA002"]
    assert "1 of 2 cases have no mask" in caplog.text


def test_2025_centre_d_comes_as_an_archive_beside_the_others(tmp_path):
    cases_2025(tmp_path, "1HNA001", "1HNC014", folder="synthRAD2025_Task1_Train/synthRAD2025_Task1_Train/Task1/HN")
    cases_2025(tmp_path, "1HND001", folder="synthRAD2025_Task1_Train_D/Task1/HN")
    cases_2025(tmp_path, "1THB011", folder="synthRAD2025_Task1_Train/Task1/TH")
    cases_2025(tmp_path, "2HNE001", folder="synthRAD2025_Task2_Train/Task2/HN", images="cbct ct mask")
    assert ids(SynthRAD2025(root=tmp_path, task=1)) == ["1HNA001", "1HNC014", "1HND001", "1THB011"]
    assert ids(SynthRAD2025(root=tmp_path, task=1, regions=("HN",), centres=("A", "D"))) == ["1HNA001", "1HND001"]
    (case,) = SynthRAD2025(root=tmp_path, task=2).cases()
    assert case.images["cbct"].name == "cbct.mha"


def test_2025_cases_converted_to_nifti_are_taken(tmp_path):
    touch(tmp_path, *(f"Task1/AB/1ABA001/{name}.nii.gz" for name in ("mr", "ct", "mask")))
    (case,) = SynthRAD2025(root=tmp_path, task=1).cases()
    assert case.images["ct"].name == "ct.nii.gz"


def test_a_root_that_does_not_fit_is_told_with_pattern_and_what_is_there(tmp_path):
    touch(tmp_path, "Task1.zip", "Task2.zip")
    message = fault_of(SynthRAD2023(root=tmp_path, task=1, region="pelvis"))
    assert f'nothing in "{tmp_path}" fits' in message
    assert 'expected "Task1/pelvis/<id>/mr.nii.gz" with an id like 1PA001, found "Task1.zip", "Task2.zip"' in message
    gone = fault_of(SynthRAD2025(root=tmp_path / "gone", task=2))
    assert f'root: no such folder "{tmp_path / "gone"}"; "{tmp_path}" holds "Task1.zip", "Task2.zip"' in gone
    assert '"Task2/HN/<id>/cbct.mha" with an id like 2HNA001' in gone
    assert "there is no" in fault_of(SynthRAD2023(root=tmp_path / "gone/too", task=1))


def test_options_come_from_a_config(tmp_path):
    cases_2023(tmp_path, "1PA001", "1PC001")
    cases_2025(tmp_path, "1HNA001", "1HND001", folder="Task1/HN")
    options = {"root": str(tmp_path), "task": 1, "region": "pelvis", "centres": ["C"]}
    assert [case.case for case in configured(SynthRAD2023, options).cases()] == ["1PC001"]
    options = {"root": str(tmp_path), "task": 1, "regions": ["HN"], "centres": ["D"]}
    assert [case.case for case in configured(SynthRAD2025, options).cases()] == ["1HND001"]
