"""Scores of folders of images: pairing, grids, masks, ranges, protocols, and all faults at once."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from medtrans.errors import ConfigError, DataError
from medtrans.evaluation.folders import Scoring, evaluate_folders
from medtrans.evaluation.scores import read_metrics_csv, target_sha
from medtrans.volume import Volume, write

AFFINE = np.diag([1.0, 1.0, 3.0, 1.0])
CT = Scoring(limits=(-1024.0, 3000.0), unit="HU")


def fill(folder: Path, images: dict[str, np.ndarray], affine: np.ndarray = AFFINE) -> Path:
    folder.mkdir(exist_ok=True)
    for name, data in images.items():
        write(Volume(data.astype(np.float32), affine), folder / f"{name}.nii.gz")
    return folder


@pytest.fixture
def truth() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {name: 800 * rng.random((13, 11, 12)) - 300 for name in ("anna", "bela", "carl")}


@pytest.fixture
def folders(tmp_path: Path, truth: dict[str, np.ndarray]) -> tuple[Path, Path, Path]:
    predictions = {name: data + 10 * number for number, (name, data) in enumerate(truth.items(), 1)}
    masks = {name: data > 0 for name, data in truth.items()}
    both = fill(tmp_path / "prediction", predictions), fill(tmp_path / "target", truth)
    return *both, fill(tmp_path / "mask", masks)


def test_constant_offsets_give_closed_forms_in_the_unit_that_is_told(
    folders: tuple[Path, Path, Path], truth: dict[str, np.ndarray], tmp_path: Path
) -> None:
    output = tmp_path / "deep" / "scores"
    scored = evaluate_folders(*folders[:2], mask=folders[2], scoring=CT, output=output)
    assert [row.case for row in scored.rows] == list(truth)
    assert [row.values["mae"] for row in scored.rows] == pytest.approx([10, 20, 30], abs=1e-3)
    psnr = [20 * math.log10(4024 / offset) for offset in (10, 20, 30)]
    assert [row.values["psnr"] for row in scored.rows] == pytest.approx(psnr, abs=1e-4)
    rows = read_metrics_csv(output / "metrics.csv")
    assert [row.values for row in rows] == [row.values for row in scored.rows]
    assert rows[0].target_sha == target_sha(Volume(truth["anna"].astype(np.float32), AFFINE))
    summary = json.loads((output / "summary.json").read_text())
    assert summary["metrics"]["mae"]["mean"] == pytest.approx(20, abs=1e-3)
    assert (summary["metrics"]["mae"]["unit"], summary["metrics"]["mae"]["worst"]) == ("HU", "case_0003")
    assert summary["scored_in"] == {"target": "[-1024, 3000] HU, clipped"}
    assert summary["baselines"] == {}


def test_only_the_mask_counts_and_both_images_are_clipped_to_the_range(tmp_path: Path) -> None:
    target, prediction, mask = np.zeros((3, 8, 8, 8))
    prediction[:4], prediction[4:], mask[:4] = 5000, 99, 2
    places = [fill(tmp_path / name, {"one": data}) for name, data in (("p", prediction), ("t", target), ("m", mask))]
    scored = evaluate_folders(places[0], places[1], mask=places[2], scoring=Scoring(("mae",), limits=(-1024, 3000)))
    assert scored.rows[0].values == {"mae": 3000.0}
    unclipped = evaluate_folders(places[0], places[1], mask=places[2], scoring=Scoring(("mae",)))
    assert unclipped.rows[0].values == {"mae": 5000.0}
    assert unclipped.summary["scored_in"] == {"target": "intensities as stored"}


def test_files_are_paired_by_name_whatever_their_format(tmp_path: Path) -> None:
    data = np.random.default_rng(0).random((8, 8, 8))
    target, prediction = fill(tmp_path / "t", {"one.of.two": data}), fill(tmp_path / "p", {})
    write(Volume(data.astype(np.float32) + 1, AFFINE), prediction / "one.of.two.nii")
    (prediction / "notes.txt").write_text("not an image")
    scored = evaluate_folders(prediction, target, scoring=Scoring(("mae",)))
    assert [(row.case, row.values["mae"]) for row in scored.rows] == [("one.of.two", pytest.approx(1.0))]


def test_all_that_is_missing_is_named_at_once(folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    (folders[0] / "anna.nii.gz").unlink()
    (folders[1] / "carl.nii.gz").unlink()
    (folders[2] / "bela.nii.gz").unlink()
    output = tmp_path / "scores"
    with pytest.raises(DataError) as refused:
        evaluate_folders(*folders[:2], mask=folders[2], scoring=CT, output=output)
    for fault, words in zip(
        refused.value.faults, ("(prediction): anna", "(target): carl", "(mask): bela"), strict=True
    ):
        assert fault.endswith(f"1 of 3 images are missing {words}")
    assert not output.exists()


def shifted(mm: float) -> np.ndarray:
    affine = AFFINE.copy()
    affine[0, 3] = mm
    return affine


def test_every_grid_that_differs_is_named_and_nothing_is_resampled(
    folders: tuple[Path, Path, Path], truth: dict[str, np.ndarray], tmp_path: Path
) -> None:
    fill(folders[0], {"anna": truth["anna"]}, shifted(2))
    fill(folders[0], {"bela": truth["bela"][1:]})
    (folders[2] / "carl.nii.gz").write_bytes(b"broken")
    with pytest.raises(DataError) as refused:
        evaluate_folders(*folders[:2], mask=folders[2], scoring=CT, output=tmp_path / "scores")
    text = "\n".join(refused.value.faults)
    assert "anna: the prediction lies up to 2 mm away" in text
    assert "bela: the prediction has 12×11×12 voxels" in text
    assert "carl.nii.gz" in text
    assert not (tmp_path / "scores").exists()


def test_a_shift_below_a_tenth_of_a_voxel_is_rounding(
    folders: tuple[Path, Path, Path], truth: dict[str, np.ndarray]
) -> None:
    fill(folders[0], truth, shifted(0.01))
    assert evaluate_folders(*folders[:2], scoring=Scoring(("mae",))).rows[0].values["mae"] < 1e-3


def test_what_cannot_be_scored_is_told_of_every_case(folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    fill(folders[2], {name: np.zeros((13, 11, 12)) for name in ("anna", "carl")})
    with pytest.raises(DataError) as refused:
        evaluate_folders(*folders[:2], mask=folders[2], scoring=Scoring(("mae",)), output=tmp_path / "scores")
    assert [fault.partition(":")[0] for fault in refused.value.faults] == ["anna", "carl"]
    assert "mask is empty" in refused.value.faults[0]
    assert not (tmp_path / "scores").exists()


@pytest.mark.parametrize(
    ("scoring", "fault"),
    [
        (Scoring(), "ssim: needs the range"),
        (Scoring(("psnrr", "mae")), "did you mean 'psnr'"),
        (Scoring(("ssim",), {"ssim": {"windw": 5}}, limits=(0, 1)), "option ssim.windw: unknown key"),
        (Scoring(("mae",), {"ssim": {"window": 5}}), "option ssim: no such metric is scored"),
        (Scoring(("mae_by_label",), {"mae_by_label": {"labels": {"bone": 4}}}), "looks at labels"),
        (Scoring(protocol="synthrad2023"), "give a folder of masks"),
        (Scoring(protocol="mdaunet"), "looks at source images too"),
        (Scoring(limits=(3000, -1024)), "range 3000 -1024"),
    ],
)
def test_what_does_not_fit_is_refused_before_any_image_is_read(
    folders: tuple[Path, Path, Path], scoring: Scoring, fault: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        evaluate_folders(*folders[:2], scoring=scoring)
    assert fault in "\n".join(refused.value.faults)


def test_folders_and_outputs_are_checked(folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        evaluate_folders(tmp_path / "a", tmp_path / "b")
    assert len(refused.value.faults) == 2
    output = tmp_path / "scores"
    evaluate_folders(*folders[:2], scoring=Scoring(("mae",)), output=output)
    with pytest.raises(ConfigError, match=r"metrics\.csv: is there already"):
        evaluate_folders(*folders[:2], scoring=Scoring(("mae",)), output=output)
    evaluate_folders(*folders[:2], scoring=Scoring(("mse",)), output=output, overwrite=True)
    assert "mse" in (output / "metrics.csv").read_text()
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match="holds no image"):
        evaluate_folders(empty, empty, scoring=Scoring(("mae",)))


def test_further_images_reach_the_metrics_that_ask_for_them(
    folders: tuple[Path, Path, Path], truth: dict[str, np.ndarray], tmp_path: Path
) -> None:
    labels = fill(tmp_path / "labels", {name: np.where(data > 0, 4, 0) for name, data in truth.items()})
    options = Scoring.options_from(["mae_by_label.labels={bone: 4, lesion: 17}"])
    scoring = Scoring(("mae_by_label", "mae_by_hu"), options, limits=(-1024, 3000), unit="HU")
    scored = evaluate_folders(*folders[:2], images={"labels": labels}, scoring=scoring)
    assert scored.rows[1].values["mae_by_label_bone"] == pytest.approx(20, abs=1e-3)
    assert math.isnan(scored.rows[1].values["mae_by_label_lesion"])
    assert scored.summary["metrics"]["mae_by_hu_bone"]["unit"] == "HU"


def test_two_doses_are_scored_like_images(tmp_path: Path) -> None:
    places = [fill(tmp_path / str(gray), {"plan": np.full((8, 8, 8), gray)}) for gray in (2.1, 2.0)]
    scoring = Scoring(("dose_mae",), Scoring.options_from(["dose_mae.prescribed_gy=2.0"]), unit="Gy")
    assert evaluate_folders(*places, scoring=scoring).rows[0].values == {"dose_mae": pytest.approx(0.05, abs=1e-6)}


@pytest.mark.parametrize("text", ["ssim", "ssim.window", "window=5", "ssim.=5", "ssim.window={"])
def test_options_are_written_as_metric_dot_option(text: str) -> None:
    with pytest.raises(ConfigError, match="option"):
        Scoring.options_from([text])
