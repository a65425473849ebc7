"""Landmarks on a standard scale: learnt from training cases alone, kept with the weights, undone without loss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import medtrans
from medtrans.builtin.transforms.nyul import Nyul
from medtrans.config.experiment import Experiment
from medtrans.config.loading import load_config
from medtrans.data.datamodule import DataModule, load_cohort
from medtrans.errors import ConfigError, DataError
from medtrans.runs import checkpoint
from medtrans.volume import Volume, write

PERCENTILES = [1, *range(10, 100, 10), 99]
SCALED = {"name": "nyul"}


def learnt(*volumes: np.ndarray) -> Nyul:
    scaling = Nyul()
    scaling.learned = scaling.learn((volume, np.ones(volume.shape, dtype=bool)) for volume in volumes)
    return scaling


def skewed(power: float, gain: float = 1.0, seed: int = 0) -> np.ndarray:
    return gain * np.random.default_rng(seed).uniform(0, 1, (20, 20, 20)) ** power


def test_the_standard_scale_is_the_mean_of_the_training_images_landmarks() -> None:
    one, other = skewed(1), skewed(3, gain=700)
    standard = learnt(one, other).learned["landmarks"]
    moved = []
    for volume in (one, other):
        landmarks = np.percentile(volume, PERCENTILES)
        moved.append(0.1 + 0.8 * (landmarks - landmarks[0]) / (landmarks[-1] - landmarks[0]))
    np.testing.assert_allclose(standard, np.mean(moved, axis=0))
    assert standard[0] == pytest.approx(0.1)
    assert standard[-1] == pytest.approx(0.9)


def test_images_of_one_anatomy_agree_whatever_gain_and_contrast_their_scanner_gave_them() -> None:
    scaling = learnt(skewed(1), skewed(2), skewed(0.5))
    scaled = []
    for power, gain in ((0.7, 1), (2.2, 300), (1.3, 4096)):
        volume = skewed(power, gain)
        scaled.append(scaling.apply(volume, scaling.fit(volume, np.ones(volume.shape, dtype=bool))))
    for percentile in PERCENTILES:
        at = [float(np.percentile(one, percentile)) for one in scaled]
        assert max(at) - min(at) < 2e-3
    assert np.abs(scaled[0] - scaled[1]).mean() < 0.01


@given(seed=st.integers(0, 2**16), levels=st.integers(50, 4000), low=st.integers(-2000, 2000), power=st.floats(0.2, 5))
@settings(max_examples=60, deadline=None)
def test_nothing_is_clipped_and_everything_comes_back(seed: int, levels: int, low: int, power: float) -> None:
    volume = np.rint(skewed(power, levels, seed)).astype(np.int16) + np.int16(low)
    volume[0, 0, :2] = low - 500, low + levels + 3000
    scaling = learnt(skewed(1), skewed(2, seed=1))
    numbers = scaling.fit(volume, None)
    scaled = scaling.apply(volume, numbers)
    assert scaled.dtype == np.float32
    assert (scaled.min(), scaled.max()) == (0, 1)
    assert np.abs(scaling.invert(scaled, numbers) - volume).max() <= 0.5


def test_landmarks_that_coincide_in_training_lose_no_way_back() -> None:
    two_values = np.repeat([10.0, 500.0], 4000).reshape(20, 20, 20)
    scaling = learnt(two_values)
    assert (np.diff(scaling.learned["landmarks"]) > 0).all()
    volume = skewed(1, 1000)
    numbers = scaling.fit(volume, None)
    assert np.abs(scaling.invert(scaling.apply(volume, numbers), numbers) - volume).max() <= 0.5


def test_what_is_not_learnt_cannot_be_applied() -> None:
    scaling = Nyul()
    with pytest.raises(DataError, match="not learnt yet"):
        scaling.apply(skewed(1), scaling.fit(skewed(1), None))
    with pytest.raises(DataError, match="no training image"):
        scaling.learn([])
    with pytest.raises(ConfigError, match="lower < 10"):
        Nyul(lower=20)


@pytest.fixture
def on_disk(tiny: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """Six subjects in files, of which a file says who trains."""
    phantom = medtrans.component("dataset", "phantom").factory(subjects=6, size=(24, 24, 24))
    data = tmp_path / "data"
    data.mkdir()
    for number, case in enumerate(phantom.cases()):
        for modality in ("t1", "t2"):
            write(case.images[modality](), data / f"s{number}_{modality}.nii.gz")
    splits = ["train", "train", "train", "validation", "test", "test"]
    rows = [f"s{number},{split}" for number, split in enumerate(splits)]
    (tmp_path / "split.csv").write_text("\n".join(["subject,split", *rows]))
    images = {modality: "{subject}_" + modality + ".nii.gz" for modality in ("t1", "t2")}
    return tiny | {
        "dataset": {"name": "paired_folders", "options": {"root": str(data), "images": images}},
        "split": {"by": "file", "path": str(tmp_path / "split.csv")},
        "preprocess": {"intensity": {"t1": SCALED, "t2": SCALED}},
    }


def study_of(config: dict[str, Any], folder: Path) -> tuple[Experiment, DataModule]:
    experiment = load_config([config])
    return experiment, DataModule(experiment, load_cohort(experiment)[0], folder)


def test_validation_and_test_images_are_not_opened_while_it_learns(on_disk: dict[str, Any], tmp_path: Path) -> None:
    _, study = study_of(on_disk, tmp_path / "cache")
    for number in (3, 4, 5):
        for path in (tmp_path / "data").glob(f"s{number}_*"):
            path.write_bytes(b"nobody may read this")
    assert set(study.cache and study.preprocessing.learned) == {"t1", "t2"}
    for member in study.cohort.of("train"):
        assert study.cache.prepared(member).source.max() == 1
    with pytest.raises(DataError, match="case_0004"):
        study.cache.prepared(study.cohort.of("validation")[0])


def test_other_training_cases_make_another_scale_and_other_cache_entries(
    on_disk: dict[str, Any], tmp_path: Path
) -> None:
    _, study = study_of(on_disk, tmp_path / "cache")
    test = study.cohort.of("test")[0]
    before = np.array(study.cache.prepared(test).source)
    path = tmp_path / "data" / "s0_t1.nii.gz"
    write(Volume(skewed(4, 900).astype(np.float32), np.diag([3.0, 3.0, 3.0, 1])), path)
    write(Volume(skewed(2, 900).astype(np.float32), np.diag([3.0, 3.0, 3.0, 1])), path.with_name("s0_t2.nii.gz"))
    _, changed = study_of(on_disk, tmp_path / "cache")
    after = np.array(changed.cache.prepared(changed.cohort.of("test")[0]).source)
    assert changed.preprocessing.learned != study.preprocessing.learned
    assert not np.array_equal(before, after)


def test_a_fault_of_a_training_image_names_the_case(on_disk: dict[str, Any], tmp_path: Path) -> None:
    write(Volume(np.full((24, 24, 24), 7, np.int16), np.eye(4)), tmp_path / "data" / "s1_t2.nii.gz")
    write(Volume(skewed(1).astype(np.float32), np.eye(4)), tmp_path / "data" / "s1_t1.nii.gz")
    with pytest.raises(DataError, match=r"case_0002, t2: every voxel is 7"):
        study_of(on_disk, tmp_path / "cache")[1].prepare()


def test_every_checkpoint_carries_the_scale_and_load_takes_it_up(on_disk: dict[str, Any], tmp_path: Path) -> None:
    folder = medtrans.run(on_disk)
    carried = [checkpoint.read(path).state()["learned"] for path in folder.checkpoints.glob("step_*")]
    assert len(carried) == 2
    for path in (tmp_path / "data").glob("s[012]_*"):
        path.unlink()
    translator = medtrans.load(folder.path)
    assert [translator.preprocessing.learned] * 2 == carried
    source = tmp_path / "data" / "s4_t1.nii.gz"
    predicted = folder.predictions / "s4_t2.nii.gz"
    again = translator.translate(source)
    assert isinstance(again, Volume)
    np.testing.assert_allclose(again.data, medtrans.volume.read(predicted).data, rtol=1e-5, atol=1e-3)
    sidecar = yaml.safe_load(predicted.with_name("s4_t2.json").read_text())
    assert set(sidecar["numbers"]) == {"min", "max", *(f"p{percentile}" for percentile in PERCENTILES)}


@pytest.mark.soak
def test_a_run_cut_short_and_resumed_or_evaluated_again_gives_the_same(on_disk: dict[str, Any], tmp_path: Path) -> None:
    from medtrans.pipeline import evaluate

    whole = medtrans.run(on_disk)
    cut = on_disk | {"output_dir": str(tmp_path / "cut")}
    medtrans.run(cut, ["train.steps=2"])
    resumed = medtrans.run(cut, resume=True)
    assert resumed.metrics.read_text() == whole.metrics.read_text()
    assert evaluate(whole.path).metrics.read_text() == resumed.metrics.read_text()
