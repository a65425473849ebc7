"""Published ways of scoring: their metrics in a config, and their scores evaluated step by step."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skimage.metrics import structural_similarity

import medtrans
from medtrans.config.experiment import Experiment
from medtrans.config.loading import load_config
from medtrans.data.cohort import Cohort, Member, load_images
from medtrans.data.datamodule import DataModule, load_cohort
from medtrans.data.preprocessing import Prepared, make_preprocessing
from medtrans.errors import ConfigError, DataError
from medtrans.evaluation.scorer import Scorer, make_metrics
from medtrans.evaluation.scores import read_metrics_csv
from medtrans.volume import read

pytest_plugins = ["tests.helpers.trained_runs"]


@pytest.fixture
def to_ct(tiny: dict[str, Any]) -> dict[str, Any]:
    tiny["target"] = ["ct"]
    tiny["preprocess"]["intensity"] = {
        "t1": {"name": "percentile"},
        "ct": {"name": "window", "options": {"range": [-1024.0, 3000.0]}},
    }
    return tiny


def judged(config: dict[str, Any]) -> tuple[Experiment, Scorer, Member, Prepared]:
    """A judge by the config's protocol, and a prepared test case."""
    experiment = load_config([config])
    preprocessing = make_preprocessing(experiment)
    metrics = make_metrics(experiment, preprocessing)
    settings = experiment.config
    scorer = Scorer(preprocessing, metrics, settings.target, protocol=settings.protocol)
    member = load_cohort(experiment)[0].of("test")[0]
    return experiment, scorer, member, preprocessing.prepare(load_images(member.case, ["t1", *settings.target, "mask"]))


def guess(prepared: Prepared) -> np.ndarray:
    assert prepared.target is not None
    rng = np.random.default_rng(0)
    return np.clip(prepared.target + 0.03 * rng.standard_normal(prepared.target.shape), 0, 1).astype(np.float32)


@pytest.mark.parametrize(
    ("protocol", "keys", "limit"),
    [("synthrad2023", ["mae", "psnr", "ssim"], "3000]"), ("synthrad2025", ["mae", "psnr", "ms_ssim"], "3071]")],
)
def test_a_protocol_brings_its_metrics_and_says_their_range_and_its_saved_config_loads_again(
    to_ct: dict[str, Any], tmp_path: Path, protocol: str, keys: list[str], limit: str
) -> None:
    experiment, scorer, _, _ = judged(to_ct | {"protocol": protocol})
    assert list(scorer.columns) == keys
    assert all(f"[-1024, {limit}" in scorer.columns[key].definition for key in keys[1:])
    assert scorer.columns["mae"].unit == "HU"
    (tmp_path / "saved.yaml").write_text(experiment.saved_text())
    assert load_config([tmp_path / "saved.yaml"]).saved() == experiment.saved()


def test_other_metrics_may_stand_beside_those_of_a_protocol_but_not_in_their_place(to_ct: dict[str, Any]) -> None:
    to_ct["protocol"] = "synthrad2023"
    beside = load_config([to_ct | {"metrics": {"nmse": {}, "ssim": {}, "own": {"name": "ssim"}}}])
    assert list(beside.config.metrics) == ["mae", "psnr", "ssim", "nmse", "own"]
    assert beside.config.metrics["ssim"].name == "ssim_synthrad2023"
    changed = {"psnr": {"options": {"range": [0.0, 1.0]}}, "mae": {"name": "nmse"}}
    with pytest.raises(ConfigError) as refused:
        load_config([to_ct | {"metrics": changed}])
    assert sorted(fault.split(": ")[1] for fault in refused.value.faults) == ["metrics.mae", "metrics.psnr"]
    assert "protocol synthrad2023 says what psnr is" in "\n".join(refused.value.faults)


def test_hounsfield_protocols_need_hounsfield_targets_and_masks(to_ct: dict[str, Any]) -> None:
    to_ct["protocol"] = "synthrad2023"
    scaled = {"intensity": {"t1": {"name": "minmax"}, "t2": {"name": "minmax"}}}
    with pytest.raises(ConfigError, match="protocol: synthrad2023 scores Hounsfield units, and t2 is not"):
        load_config([to_ct | {"target": ["t2"], "preprocess": scaled}])
    with pytest.raises(ConfigError, match=r"protocol.*'synthrad2023' or 'synthrad2025'"):
        load_config([to_ct | {"protocol": "synthrad2024"}])
    _, scorer, member, prepared = judged(to_ct)
    images = {name: image for name, image in member.case.images.items() if name != "mask"}
    bare = replace(member, case=medtrans.Case("bare", "bare", images))
    with pytest.raises(DataError, match=r"case_000\d: protocol synthrad2023 scores inside a mask"):
        scorer.reference(bare, prepared)


def test_synthrad_scores_hounsfield_units_as_stored_inside_the_mask(to_ct: dict[str, Any]) -> None:
    # A window narrower than the CT: it limits the prediction, and the target only where the protocol clips.
    to_ct["preprocess"]["intensity"]["ct"]["options"]["range"] = [-500.0, 600.0]
    _, scorer, member, prepared = judged(to_ct | {"protocol": "synthrad2023"})
    found = scorer.scores(guess(prepared), prepared, scorer.reference(member, prepared), member).values
    images = load_images(member.case, ["ct", "mask"])
    ct, mask = images["ct"].data.astype(np.float64), images["mask"].data > 0
    native = make_preprocessing(load_config([to_ct])).to_native(guess(prepared), prepared)[0]
    predicted = native.astype(np.float64) * 1100 - 500
    assert ct.max() > 600
    assert found["mae"] == pytest.approx(np.abs(predicted - ct)[mask].mean(), rel=1e-5)
    low, high = np.clip(predicted, -1024, 3000), np.clip(ct, -1024, 3000)
    assert found["psnr"] == pytest.approx(10 * np.log10(4024**2 / ((low - high) ** 2)[mask].mean()), rel=1e-5)
    x, y = (np.where(mask, one, -1024) + 1024 for one in (high, low))
    _, similarity = structural_similarity(x, y, data_range=4024, full=True)
    inner = (slice(3, -3),) * 3
    assert found["ssim"] == pytest.approx(similarity[inner][mask[inner]].mean(), abs=1e-5)


def box(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first and the last voxel, along each axis, of what is set."""
    places = np.argwhere(mask)
    return places.min(axis=0), places.max(axis=0)


def test_the_paper_scores_whole_volumes_with_zeros_outside_the_box_of_both_images(to_ct: dict[str, Any]) -> None:
    _, scorer, member, prepared = judged(to_ct | {"protocol": "mdaunet"})
    found = scorer.scores(guess(prepared), prepared, scorer.reference(member, prepared), member).values
    assert list(found) == ["psnr", "ssim", "nmse"]
    images = load_images(member.case, ["t1", "ct"])
    t1, ct = images["t1"].data, images["ct"].data.astype(np.float64)
    counted = np.zeros(ct.shape, bool)
    first, last = box(t1 > 0)
    inner_first, inner_last = box(ct[first[0] : last[0] + 1, first[1] : last[1] + 1, first[2] : last[2] + 1] > 0)
    counted[tuple(map(slice, first + inner_first, first + inner_last + 1))] = True
    assert 0 < counted.mean() < 1
    true = np.where(counted, np.clip((ct + 1024) / 4024, 0, 1), 0)
    native = make_preprocessing(load_config([to_ct])).to_native(guess(prepared), prepared)[0].astype(np.float64)
    predicted = np.where(counted, native, 0)
    error = ((predicted - true) ** 2).mean()
    assert found["psnr"] == pytest.approx(10 * np.log10(1 / error), rel=1e-5)
    assert found["nmse"] == pytest.approx(error / true.var(), rel=1e-4)
    assert found["ssim"] == pytest.approx(structural_similarity(true, predicted, data_range=1.0), abs=1e-5)


def test_the_paper_stretches_both_mr_images_to_their_own_extremes(tiny: dict[str, Any]) -> None:
    tiny["preprocess"]["intensity"] = {"t1": {"name": "minmax"}, "t2": {"name": "minmax"}}
    _, scorer, member, prepared = judged(tiny | {"protocol": "mdaunet"})
    reference = scorer.reference(member, prepared)
    assert prepared.target is not None
    dim = (0.1 + 0.5 * guess(prepared)).astype(np.float32)
    found = scorer.scores(dim, prepared, reference, member).values
    t2 = load_images(member.case, ["t2"])["t2"].data.astype(np.float64)
    native = make_preprocessing(load_config([tiny])).to_native(dim, prepared)[0].astype(np.float64)
    assert reference.counted is not None
    low, high = prepared.numbers["t2"]["low"], prepared.numbers["t2"]["high"]
    scaled = np.clip((t2 - low) / (high - low), 0, 1)
    true, predicted = (np.where(reference.counted, one, 0) for one in (scaled, native))
    true, predicted = ((one - one.min()) / np.ptp(one) for one in (true, predicted))
    assert native.max() < 0.7
    assert (float(reference.target.min()), float(reference.target.max())) == (0, 1)
    assert found["nmse"] == pytest.approx(((true - predicted) ** 2).mean() / true.var(), rel=1e-3)


def test_a_run_scores_by_its_protocol_and_by_metrics_that_look_around(to_ct: dict[str, Any]) -> None:
    labels = {"bone": [4, 5], "nothing": 99}
    to_ct["protocol"] = "synthrad2023"
    to_ct["metrics"] = {"seam": {}, "slice_consistency": {}, "mae_by_label": {"options": {"labels": labels}}}
    folder = medtrans.run(to_ct, ["train.steps=1"])
    summary = json.loads(folder.summary.read_text())
    assert summary["protocol"]["name"] == "synthrad2023"
    assert summary["scored_in"] == {"ct": "[-1024, 3000] HU, clipped where a metric says so"}
    (row,) = read_metrics_csv(folder.metrics)
    assert set(summary["metrics"]) == set(row.values)
    assert row.values["seam"] > 0
    assert row.values["slice_consistency"] >= row.values["slice_consistency_i"] > 0
    assert np.isnan(row.values["mae_by_label_nothing"])
    assert summary["metrics"]["mae_by_label_nothing"]["n"] == 0
    # A baseline has no windows to move.
    assert summary["baselines"]["source_linear"]["seam"]["n"] == 0
    assert "seam" not in summary["comparison"]
    (file,) = folder.predictions.glob("*.nii.gz")
    (member,) = load_cohort(load_config([folder.config]))[0].of("test")
    images = load_images(member.case, ["ct", "mask", "labels"])
    error = np.abs(read(file).data.astype(np.float64) - images["ct"].data)
    inside = images["mask"].data > 0
    assert row.values["mae"] == pytest.approx(error[inside].mean(), rel=1e-4)
    bone = np.isin(images["labels"].data, (4, 5)) & inside
    assert row.values["mae_by_label_bone"] == pytest.approx(error[bone].mean(), rel=1e-4)


def test_images_that_metrics_look_at_are_missed_before_training(to_ct: dict[str, Any], tmp_path: Path) -> None:
    to_ct["metrics"] = {"psnr": {}, "dose_dvh": {"options": {"prescribed_gy": 2.0, "ptv": 1}}}
    with pytest.raises(DataError, match="metrics: one looks at structures, which no case to be scored has"):
        medtrans.run(to_ct)
    assert not list(Path(to_ct["output_dir"]).glob("checkpoints/step_*"))
    to_ct["metrics"] = {"psnr": {}, "mae_by_label": {"options": {"labels": {"bone": 4}}}}
    experiment = load_config([to_ct])
    cohort = load_cohort(experiment)[0]
    moved = replace(cohort.of("test")[0], case=medtrans.Case("c", "s", {"labels": tmp_path / "gone.nii.gz"}))
    others = [member for member in cohort.members if member.split != "test"]
    with pytest.raises(DataError, match=r"one looks at labels, whose file is not there for case_000\d; restore it"):
        Scorer.of(DataModule(experiment, Cohort((*others, moved)), tmp_path / "cache"))


def test_windows_move_only_where_there_are_several(done: medtrans.RunFolder) -> None:
    translator = medtrans.load(done.path)
    (member,) = load_cohort(load_config([done.config]))[0].of("test")
    prepared = translator.preprocessing.prepare(load_images(member.case, ["t1"]))
    here, moved = translator.predict(prepared), translator.predict(prepared, shift=0.25)
    assert moved.shape == here.shape
    assert 0 < np.abs(here - moved).mean() < 0.1
    translator.experiment = load_config([done.config], ["inference.window=[32, 32, 32]"])
    np.testing.assert_array_equal(translator.predict(prepared), translator.predict(prepared, shift=0.25))
