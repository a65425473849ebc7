"""A volume translated as it goes by, slab by slab, is the volume translated whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from medtrans.errors import SetupError
from medtrans.inference.slabs import translated_slabs
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


def test_what_is_finished_leaves_before_what_follows_has_come() -> None:
    volume = np.random.default_rng(0).random((1, 12, 9, 40), dtype=np.float32)
    taken = 0

    def slabs():
        nonlocal taken
        for k in range(40):
            taken = k + 1
            yield volume[..., k : k + 1]

    given_back = 0
    for slab in translated_slabs(lambda windows: windows, slabs(), (12, 9, 40), axis=2, **SETTINGS):
        np.testing.assert_allclose(slab, volume[..., given_back : given_back + slab.shape[3]], atol=1e-6)
        given_back += slab.shape[3]
        assert taken <= given_back + SETTINGS["window"][2], "no more planes are held than a window has"
    assert given_back == 40


def test_progress_counts_windows() -> None:
    told: list[tuple[int, int]] = []
    source = [np.ones((1, 8, 6, 8), np.float32)]
    parts = translated_slabs(
        lambda windows: windows, source, (8, 6, 8), axis=2, **SETTINGS, advance=lambda *done: told.append(done)
    )
    assert sum(part.shape[3] for part in parts) == 8
    assert told == [(1, 3), (2, 3), (3, 3)]


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
