"""Percentiles of a stream are those of the whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from medtrans.inference.slabs import can_be_ordered, percentiles

KINDS = [np.float32, np.uint8, np.int8, np.int16, np.uint16, np.int32, np.uint32]
numbers = st.one_of(
    st.sampled_from(KINDS).flatmap(
        lambda kind: arrays(
            kind,
            array_shapes(max_dims=1, max_side=60),
            elements=st.floats(-(2.0**99), 2.0**99, width=32, allow_subnormal=False) if kind == np.float32 else None,
        )
    )
)


@given(voxels=numbers, percents=st.lists(st.floats(0, 100), min_size=1, max_size=3), part=st.integers(1, 60))
def test_percentiles_of_parts_are_those_of_the_whole(voxels, percents, part) -> None:
    found = percentiles(lambda: (voxels[first : first + part] for first in range(0, len(voxels), part)), percents)
    expected = np.percentile(voxels.astype(np.float64), percents)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12 * float(np.abs(voxels.astype(float)).max()))


def test_they_agree_with_numpy_on_an_image() -> None:
    image = np.random.default_rng(0).normal(300, 80, (40, 30, 20)).astype(np.float32)
    image[:10] = 0
    np.testing.assert_allclose(percentiles(lambda: image, (0.5, 50, 99.5)), np.percentile(image, (0.5, 50, 99.5)))


def test_nothing_has_no_percentiles_and_wide_types_are_told_apart() -> None:
    with pytest.raises(ValueError, match="no voxels"):
        percentiles(list, (50.0,))
    assert [can_be_ordered(np.dtype(kind)) for kind in (np.float32, np.int16, np.int32, np.int64)] == [True] * 3 + [
        False
    ]
