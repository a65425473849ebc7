"""Intensity scalings: to [0, 1] and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medtrans.builtin.transforms.minmax import MinMax
from medtrans.builtin.transforms.percentile import Percentile
from medtrans.builtin.transforms.window import Window
from medtrans.errors import ConfigError, DataError

ALL = [MinMax(), Percentile(), Window(), Window(range=(-160, 240))]
RAMP = np.arange(-1024, 3072, dtype=np.int16).reshape(16, 16, 16)


@pytest.mark.parametrize("scaling", ALL)
@pytest.mark.parametrize("dtype", [np.int16, np.float32, np.float64, ">i2"])
def test_hu_come_back_exactly_within_the_range(scaling, dtype) -> None:
    volume = RAMP.astype(dtype)
    numbers = scaling.fit(volume, None)
    scaled = scaling.apply(volume, numbers)
    assert scaled.dtype == np.float32
    assert scaled.min() == 0
    assert scaled.max() == 1
    back = scaling.invert(scaled, numbers)
    assert back.dtype == np.float32
    expected = np.clip(RAMP.astype(np.float64), numbers["low"], numbers["high"])
    assert np.abs(back - expected).max() <= 0.01


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


@pytest.mark.parametrize("scaling", ALL)
def test_numbers_are_plain_floats(scaling) -> None:
    numbers = scaling.fit(RAMP, None)
    assert set(numbers) == {"low", "high"}
    assert all(type(number) is float for number in numbers.values())


@pytest.mark.parametrize("scaling", ALL)
def test_the_volume_itself_is_left_alone(scaling) -> None:
    volume = RAMP.astype(np.float64)
    scaled = scaling.apply(volume, scaling.fit(volume, None))
    np.testing.assert_array_equal(volume, RAMP)
    kept = scaled.copy()
    scaling.invert(scaled, scaling.fit(volume, None))
    np.testing.assert_array_equal(scaled, kept)


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


def test_percentiles_withstand_one_bright_voxel() -> None:
    volume = np.random.default_rng(0).uniform(0, 100, (16, 16, 16)).astype(np.float32)
    volume[0, 0, 0] = 1e6
    assert Percentile().fit(volume, None)["high"] < 101


@pytest.mark.parametrize("scaling", [MinMax(), Percentile()])
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
