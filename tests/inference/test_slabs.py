"""A volume translated as it goes by, slab by slab, is the volume translated whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from torch import Tensor

from medtrans.errors import SetupError
from medtrans.inference.slabs import can_be_ordered, percentiles, translated_slabs
from medtrans.inference.sliding_window import sliding_window

SETTINGS = {"window": (8, 6, 4), "overlap": 0.5, "blend": "gaussian", "batch": 3, "multiple": (1, 1, 1)}


def uneven(windows: Tensor) -> Tensor:
    """Depends on where in its window a voxel lies, along each axis in another way; two channels of one."""
    i, j, k = (torch.arange(side, dtype=torch.float32) for side in windows.shape[2:])
    ramp = 1 + i[:, None, None] + 0.3 * j[:, None] + 0.07 * k
    return torch.cat([windows.sum(1, keepdim=True) * ramp, windows[:, :1] + ramp], 1)


def _slabs(volume: np.ndarray, axis: int, descending: bool, thickness: int) -> list[np.ndarray]:
    whole = np.flip(volume, axis + 1) if descending else volume
    return np.split(whole, range(thickness, volume.shape[axis + 1], thickness), axis + 1)


@given(
    sides=st.tuples(*[st.integers(2, 19)] * 3),
    window=st.tuples(*[st.integers(3, 12)] * 3),
    multiple=st.tuples(*[st.sampled_from([1, 2, 4])] * 3),
    overlap=st.sampled_from([0.0, 0.25, 0.5, 0.7]),
    blend=st.sampled_from(["gaussian", "constant"]),
    axis=st.integers(0, 2),
    descending=st.booleans(),
    thickness=st.integers(1, 9),
    batch=st.integers(1, 4),
)
def test_slabs_give_what_the_whole_gives(sides, window, multiple, overlap, blend, axis, descending, thickness, batch):
    volume = np.random.default_rng(sum(sides)).random((2, *sides), dtype=np.float32)
    asked = {"window": window, "overlap": overlap, "blend": blend, "batch": batch, "multiple": multiple}
    whole = sliding_window(uneven, torch.from_numpy(volume)[None], **asked)[0].numpy()
    slabs = _slabs(volume, axis, descending, thickness)
    found = [slab.copy() for slab in translated_slabs(uneven, slabs, sides, axis=axis, descending=descending, **asked)]
    together = np.concatenate(found, axis + 1)
    np.testing.assert_allclose(np.flip(together, axis + 1) if descending else together, whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_small_volume_stands_amid_the_same_background(axis: int, descending: bool) -> None:
    volume = 3 + np.random.default_rng(0).random((1, 3, 5, 4), dtype=np.float32)
    asked = {**SETTINGS, "window": (4, 8, 7)}

    def mixing(windows: Tensor) -> Tensor:
        return windows + windows.mean((2, 3, 4), keepdim=True)

    whole = sliding_window(mixing, torch.from_numpy(volume)[None], **asked)[0].numpy()
    lowest = float(volume.min())
    slabs = _slabs(volume, axis, descending, 2)
    given = {"axis": axis, "descending": descending, "background": lowest}
    found = [slab.copy() for slab in translated_slabs(mixing, slabs, (3, 5, 4), **given, **asked)]
    together = np.concatenate(found, axis + 1)
    np.testing.assert_allclose(np.flip(together, axis + 1) if descending else together, whole, atol=1e-5)
    assert float(whole.min()) > 2 * lowest  # nothing around it is darker than itself


def test_what_is_finished_leaves_before_what_follows_has_come() -> None:
    volume = np.random.default_rng(0).random((1, 12, 9, 40), dtype=np.float32)
    taken = 0

    def slabs():
        nonlocal taken
        for k in range(40):
            taken = k + 1
            yield volume[..., k : k + 1]

    given_back = 0
    told: list[tuple[int, int]] = []
    asked = {**SETTINGS, "advance": lambda *done: told.append(done)}
    for slab in translated_slabs(lambda windows: windows, slabs(), (12, 9, 40), axis=2, **asked):
        np.testing.assert_allclose(slab, volume[..., given_back : given_back + slab.shape[3]], atol=1e-6)
        given_back += slab.shape[3]
        assert taken <= given_back + SETTINGS["window"][2], "no more planes are held than a window has"
    assert given_back == 40
    assert told[-1] == (2 * 2 * 19, 2 * 2 * 19)


@pytest.mark.parametrize(
    ("planes", "kept", "error", "found"),
    [
        (7, 4, ValueError, "after 7 planes"),
        (9, 4, ValueError, "more than 8 planes"),
        (8, 2, SetupError, "keeps the sides"),
    ],
    ids=["too few planes", "too many planes", "a network that changes the size"],
)
def test_what_does_not_fit_is_refused(planes, kept, error, found) -> None:
    slabs = [np.ones((1, 8, 6, planes), np.float32)]
    with pytest.raises(error, match=found):
        list(translated_slabs(lambda windows: windows[..., :kept], slabs, (8, 6, 8), axis=2, **SETTINGS))


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


def test_nothing_has_no_percentiles_and_wide_types_are_told_apart() -> None:
    with pytest.raises(ValueError, match="no voxels"):
        percentiles(list, (50.0,))
    assert [can_be_ordered(np.dtype(kind)) for kind in (np.float32, np.int16, np.int32, np.int64)] == [True] * 3 + [
        False
    ]
