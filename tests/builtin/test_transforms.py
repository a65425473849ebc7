"""Intensity scalings: to [0, 1] and back, and the standard scale that Nyul's learns from training cases alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import medtrans
from medtrans.builtin.transforms import MinMax, Nyul, Percentile, Window, ZScore
from medtrans.config.experiment import Experiment
from medtrans.config.loading import load_config
from medtrans.data.checks.cohort import clipping_warnings
from medtrans.data.datamodule import DataModule, load_cohort
from medtrans.data.preprocessing import Prepared, Preprocessing
from medtrans.errors import ConfigError, DataError
from medtrans.plugins.interfaces import Preprocess
from medtrans.runs import checkpoint
from medtrans.volume import Volume, read, write

LINEAR = [MinMax(), Percentile(), Window(), Window(range=(-160, 240))]
RAMP = np.arange(-1024, 3072, dtype=np.int16).reshape(16, 16, 16)


def learnt(*volumes: np.ndarray) -> Nyul:
    scaling = Nyul()
    scaling.learned = scaling.learn((volume, np.ones(volume.shape, dtype=bool)) for volume in volumes)
    return scaling


ALL = [*LINEAR, ZScore(), ZScore(clip_sd=1.5), learnt(RAMP, RAMP.astype(np.float32) ** 2)]


@given(low=st.integers(-2000, 2000), width=st.integers(1, 5000), seed=st.integers(0, 2**16))
@settings(max_examples=60, deadline=None)
def test_any_window_round_trips(low: int, width: int, seed: int) -> None:
    scaling = Window(range=(low, low + width))
    volume = np.random.default_rng(seed).uniform(low, low + width, (4, 4, 4)).astype(np.float32)
    numbers = scaling.fit(volume, None)
    assert np.abs(scaling.invert(scaling.apply(volume, numbers), numbers) - volume).max() <= 0.01


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int8])
def test_small_integers_do_not_wrap(dtype) -> None:
    info = np.iinfo(dtype)
    volume = np.array([[[info.min, info.max]]], dtype=dtype)
    scaling = Window(range=(-1024, 3000))
    back = scaling.invert(scaling.apply(volume, scaling.fit(volume, None)), scaling.fit(volume, None))
    np.testing.assert_allclose(back.ravel(), np.clip([info.min, info.max], -1024, 3000), atol=0.01)


def test_fits_look_inside_the_mask_else_at_everything() -> None:
    volume = np.arange(1001, dtype=np.float32).reshape(7, 11, 13)
    mask = (volume >= 200) & (volume <= 400)
    assert MinMax().fit(volume, None) == {"low": 0, "high": 1000}
    assert MinMax().fit(volume, mask) == {"low": 200, "high": 400}
    assert Percentile(lower=10, upper=90).fit(volume, None) == pytest.approx({"low": 100, "high": 900})
    assert Percentile(lower=10, upper=90).fit(volume, mask) == pytest.approx({"low": 220, "high": 380})
    assert Percentile().fit(volume, None) == pytest.approx({"low": 5, "high": 995})
    assert Window(range=(1, 2)).fit(volume, mask) == {"low": 1, "high": 2}


@pytest.mark.parametrize("scaling", [MinMax(), Percentile(), ZScore(), Nyul()])
def test_nothing_to_normalise_is_refused(scaling) -> None:
    with pytest.raises(DataError, match=r"every voxel is 3: nothing to normalise; exclude the case"):
        scaling.fit(np.full((4, 4, 4), 3), None)
    with pytest.raises(DataError, match=r"every voxel is -1024: nothing to normalise"):
        scaling.fit(RAMP, RAMP == -1024)
    with pytest.raises(DataError, match="mask holds no voxel"):
        scaling.fit(RAMP, np.zeros(RAMP.shape, dtype=bool))


def test_equal_percentiles_of_a_volume_that_is_not_constant_say_what_to_do() -> None:
    volume = np.zeros((16, 16, 16))
    volume[0, 0, 0] = 5
    with pytest.raises(DataError, match=r"between 0 and 0, although values go from 0 to 5; take wider percentiles"):
        Percentile().fit(volume, None)


def test_impossible_options_are_refused() -> None:
    with pytest.raises(ConfigError, match="lower 60, upper 40"):
        Percentile(lower=60, upper=40)
    for bad in ((3, 3), (5, -5), (0, float("inf")), (float("nan"), 1)):
        with pytest.raises(ConfigError, match="low < high"):
            Window(range=bad)


def test_zscore_puts_the_mean_at_one_half_and_clips_so_many_standard_deviations_away() -> None:
    volume = np.random.default_rng(0).normal(500, 50, (20, 20, 20))
    scaling = ZScore(clip_sd=2)
    numbers = scaling.fit(volume, np.ones(volume.shape, dtype=bool))
    assert numbers["low"] == pytest.approx(volume.mean() - 2 * volume.std())
    assert numbers["high"] == pytest.approx(volume.mean() + 2 * volume.std())
    scaled = scaling.apply(volume, numbers)
    assert float(scaled.mean()) == pytest.approx(0.5, abs=1e-3)
    assert np.mean((scaled == 0) | (scaled == 1)) == pytest.approx(0.0455, abs=0.01)
    assert ZScore().clip_sd == 4


@pytest.mark.parametrize("scaling", [ZScore(), Nyul()])
def test_background_does_not_count_where_there_is_no_mask(scaling: Preprocess) -> None:
    tissue = np.random.default_rng(0).uniform(400, 900, (12, 12, 12))
    little, much = np.zeros((14, 14, 14)), np.zeros((24, 24, 24))
    for volume in (little, much):
        volume[1:13, 1:13, 1:13] = tissue
    assert scaling.fit(little, None) == scaling.fit(much, None)
    assert scaling.fit(much, much > 0) == scaling.fit(much, None)
    assert scaling.fit(np.where(much > 0, much, 200), much > 600) != scaling.fit(much, None)


DTYPES: list[Any] = [np.int16, np.uint16, np.float32]


@pytest.mark.parametrize("scaled_on_disk", [None, (0.5, -1024.0)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scaling", [Window(range=(-1100, 3100)), *ALL], ids=lambda one: type(one).__name__)
def test_a_ramp_of_hu_comes_back_within_half_an_hu_or_is_counted_as_clipped(
    scaling: Preprocess, dtype: Any, scaled_on_disk: tuple[float, float] | None, tmp_path: Path
) -> None:
    """From a file, through all of preprocessing and back: whatever the file's type and its own slope and intercept."""
    stored = (RAMP.astype(np.int32) + (1024 if dtype is np.uint16 else 0)).astype(dtype)
    image = nibabel.Nifti1Image(stored, np.diag([1.0, 1.2, 0.9, 1.0]))
    image.set_sform(image.affine, 1)
    image.set_qform(image.affine, 1)
    image.header.set_slope_inter(*(scaled_on_disk or (1, 0)))
    path = tmp_path / "ct.nii.gz"
    nibabel.save(image, path)
    _state_scaling(path, *(scaled_on_disk or (1.0, 0.0)))
    slope, intercept = scaled_on_disk or (1.0, 0.0)
    physical = stored.astype(np.float64) * slope + intercept

    volume = read(path)
    np.testing.assert_allclose(volume.data, physical, atol=1e-3)
    preprocessing = Preprocessing(["ct"], ["ct"], {"ct": scaling}, crop="none")
    prepared = preprocessing.prepare({"ct": volume})
    assert prepared.target is not None
    back = scaling.invert(preprocessing.to_native(prepared.target, prepared)[0], prepared.numbers["ct"])
    low, high = scaling.invert(np.array([0.0, 1.0]), prepared.numbers["ct"])
    assert np.abs(back - np.clip(physical, low, high)).max() <= 0.5
    beyond = np.maximum(low - physical, physical - high) > 1e-4 * (high - low)
    assert prepared.clipped["ct"] == pytest.approx(beyond.mean())


def _state_scaling(path: Path, slope: float, intercept: float) -> None:
    """nibabel folds a scaling into the voxels it writes: state it in the header of the file that is there."""
    image = nibabel.load(path)
    voxels = np.asarray(image.dataobj.get_unscaled())
    header = image.header.copy()
    header.set_data_dtype(voxels.dtype)
    raw = nibabel.Nifti1Image(voxels, image.affine, header)
    with nibabel.openers.Opener(str(path), "wb") as file:
        header["scl_slope"], header["scl_inter"], header["vox_offset"] = slope, intercept, 352
        file.write(header.binaryblock + bytes(4))
        file.write(raw.dataobj.tobytes(order="F"))


def prepared_with(clipped: dict[str, float], scalings: dict[str, Preprocess]) -> Prepared:
    image = Volume(RAMP, np.eye(4))
    whole = Preprocessing(list(scalings), [], scalings, crop="none").prepare(dict.fromkeys(scalings, image))
    return Prepared(**{**vars(whole), "clipped": clipped})


def test_clipped_intensities_are_reported_by_case_the_worst_first() -> None:
    scalings: dict[str, Preprocess] = {"ct": Window(range=(-1000, 2000))}
    shares = {"case_0001": 0.0005, "case_0002": 0.002, "case_0003": 0.004, "case_0004": 0.3, "case_0005": 0.0011}
    warnings = clipping_warnings(
        [(label, prepared_with({"ct": share}, scalings)) for label, share in shares.items()], scalings
    )
    assert [warning.partition(":")[0] for warning in warnings] == [
        "case_0004, ct", "case_0003, ct", "case_0002, ct", "ct",
    ]  # fmt: skip
    assert warnings[1].startswith("case_0003, ct: 0.4 % of voxels lie outside the window -1000 to 2000 HU")
    assert "preprocess.intensity.ct" in warnings[1]
    assert warnings[3] == "ct: the same in 1 more cases"


def test_percentiles_clip_on_purpose_and_only_more_than_that_is_reported() -> None:
    scalings: dict[str, Preprocess] = {"t1": Percentile(lower=1, upper=98)}
    assert scalings["t1"].clips == pytest.approx(0.03)
    usual, odd = prepared_with({"t1": 0.03}, scalings), prepared_with({"t1": 0.2}, scalings)
    (warning,) = clipping_warnings([("case_0001", usual), ("case_0002", odd)], scalings)
    assert warning.startswith("case_0002, t1: 20 % of voxels lie outside its own limits")


def test_inside_a_mask_only_what_is_inside_counts_as_clipped() -> None:
    data = np.full((10, 10, 10), 50.0, dtype=np.float32)
    data[0] = 5000  # a tenth, all of it outside the mask
    data[1, :5] = 5000
    mask = np.zeros_like(data)
    mask[1:6] = 1
    images = {"ct": Volume(data, np.eye(4)), "mask": Volume(mask, np.eye(4))}
    scaling = Window(range=(0, 100))
    assert Preprocessing(["ct"], [], {"ct": scaling}, crop="none").prepare(images).clipped["ct"] == pytest.approx(0.1)


@pytest.mark.parametrize("name", ["percentile", "minmax", "zscore", "nyul"])
@pytest.mark.parametrize("target", ["ct", "CBCT"])
def test_a_ct_target_scaled_image_by_image_is_refused_with_what_to_write_instead(
    tiny: dict[str, Any], name: str, target: str
) -> None:
    tiny |= {"target": [target], "preprocess": {"intensity": {"t1": {"name": "percentile"}, target: {"name": name}}}}
    with pytest.raises(ConfigError) as error:
        load_config([tiny])
    (fault,) = error.value.faults
    assert f"preprocess.intensity.{target}: '{name}'" in fault
    assert "Hounsfield" in fault
    assert f"{target}: {{name: window, options: {{range: [-1024.0, 3000.0]}}}}" in fault


def test_a_ct_source_may_be_scaled_as_one_likes_and_a_window_is_right_for_a_target(tiny: dict[str, Any]) -> None:
    intensity = {"cbct": {"name": "percentile"}, "ct": {"name": "window"}}
    tiny |= {"source": ["cbct"], "target": ["ct"], "preprocess": {"intensity": intensity}}
    assert load_config([tiny]).config.target == ("ct",)


PERCENTILES = [1, *range(10, 100, 10), 99]
SCALED = {"name": "nyul"}


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
