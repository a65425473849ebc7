"""Intensity scalings: to [0, 1] and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medtrans.builtin.transforms import MinMax, Nyul, Percentile, Window, ZScore
from medtrans.config.loading import load_config
from medtrans.data.checks.cohort import clipping_warnings
from medtrans.data.preprocessing import Prepared, Preprocessing
from medtrans.errors import ConfigError, DataError
from medtrans.plugins.interfaces import Preprocess
from medtrans.volume import Volume, read

LINEAR = [MinMax(), Percentile(), Window(), Window(range=(-160, 240))]
RAMP = np.arange(-1024, 3072, dtype=np.int16).reshape(16, 16, 16)


def learnt(*volumes: np.ndarray) -> Nyul:
    scaling = Nyul()
    scaling.learned = scaling.learn((volume, None) for volume in volumes)
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


def test_what_is_fitted_and_what_is_fixed() -> None:
    assert MinMax.fitted
    assert Percentile.fitted
    assert not Window.fitted
    window = Window(range=(-100, 300), unit="1/cm")
    assert (window.data_range, window.unit) == (400.0, "1/cm")
    assert (Window().data_range, Window().unit) == (4024.0, "HU")
    assert (MinMax().data_range, MinMax().unit) == (1.0, "")


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
