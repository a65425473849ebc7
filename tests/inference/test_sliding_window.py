"""A volume of any size, translated window by window, is the volume translated."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from medtrans.errors import ConfigError, SetupError
from medtrans.inference.sliding_window import sliding_window

SETTINGS = {"window": (8, 8, 8), "overlap": 0.5, "blend": "gaussian", "batch": 3, "multiple": (1, 1, 1)}


def identity(windows: Tensor) -> Tensor:
    return windows


@given(
    sides=st.tuples(*[st.integers(1, 21)] * 3),
    window=st.tuples(*[st.integers(1, 14)] * 3),
    multiple=st.tuples(*[st.sampled_from([1, 2, 4])] * 3),
    overlap=st.sampled_from([0.0, 0.25, 0.5, 0.625, 0.7]),
    blend=st.sampled_from(["gaussian", "constant"]),
    batch=st.integers(1, 5),
)
def test_an_identity_predictor_reproduces_the_volume(sides, window, multiple, overlap, blend, batch) -> None:
    seen = []

    def translate(windows: Tensor) -> Tensor:
        seen.append(windows.shape)
        return windows

    source = torch.rand(1, 2, *sides, generator=torch.Generator().manual_seed(sum(sides)))
    asked = {"window": window, "overlap": overlap, "blend": blend, "batch": batch, "multiple": multiple}
    result = sliding_window(translate, source, **asked)
    assert (result.shape, result.dtype) == (source.shape, torch.float32)
    assert (result - source).abs().max() <= 1e-5
    # Every window has the sides the network asked for, and only the last batch is smaller.
    expected = tuple(-(-side // step) * step for side, step in zip(window, multiple, strict=True))
    assert {tuple(shape[2:]) for shape in seen} == {expected}
    assert all(shape[0] == batch for shape in seen[:-1])
    assert seen[-1][0] <= batch


def _coordinates(sides: tuple[int, int, int]) -> Tensor:
    axes = torch.meshgrid(*(torch.arange(side, dtype=torch.float32) for side in sides), indexing="ij")
    return torch.stack(axes)[None]


@pytest.mark.parametrize("blend", ["gaussian", "constant"])
def test_overlapping_windows_are_averaged_by_their_importance(blend: str) -> None:
    sides, window = (14, 9, 40), (8, 6, 24)
    generator = torch.Generator().manual_seed(0)
    opinions: list[tuple[list[int], Tensor]] = []

    def translate(windows: Tensor) -> Tensor:
        outputs = torch.rand(len(windows), 1, *window, generator=generator)
        for place, output in zip(windows, outputs, strict=True):
            opinions.append(([int(start) for start in place[:, 0, 0, 0]], output[0]))
        return outputs

    result = sliding_window(
        translate, _coordinates(sides), window=window, overlap=0.5, blend=blend, batch=4, multiple=(1, 1, 1)
    )
    weight = torch.ones(window, dtype=torch.float64)
    if blend == "gaussian":
        for axis, side in enumerate(window):
            position = torch.arange(side, dtype=torch.float64) - (side - 1) / 2
            profile = torch.exp(-0.5 * (position / (0.125 * side)) ** 2).clamp_min(1e-3)
            weight = weight * profile.reshape([-1 if other == axis else 1 for other in range(3)])
    total, weights = torch.zeros(sides, dtype=torch.float64), torch.zeros(sides, dtype=torch.float64)
    for start, output in opinions:
        box = tuple(slice(first, first + side) for first, side in zip(start, window, strict=True))
        total[box] += weight * output
        weights[box] += weight
    assert (weights > 0).all()
    torch.testing.assert_close(result[0, 0].double(), total / weights, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("side", "window", "overlap", "expected"),
    [
        (20, 8, 0.5, [0, 4, 8, 12]),
        (21, 8, 0.5, [0, 3, 6, 10, 13]),  # spread evenly
        (8, 8, 0.5, [0]),
        (20, 10, 0.8, [0, 2, 4, 6, 8, 10]),  # 10 * 0.2 is no whole number to a computer
        (5, 3, 0.9, [0, 1, 2]),  # at least a voxel on
    ],
)
def test_windows_are_as_few_as_the_overlap_allows_and_reach_both_ends(side, window, overlap, expected) -> None:
    starts = []

    def translate(windows: Tensor) -> Tensor:
        starts.extend(int(place[0, 0, 0, 0]) for place in windows)
        return windows

    asked = {"window": (window, 8, 8), "overlap": overlap}
    sliding_window(translate, _coordinates((side, 8, 8)), **SETTINGS | asked)
    assert max(abs(found - wanted) for found, wanted in zip(starts, expected, strict=True)) <= 1
    assert (starts[0], starts[-1]) == (0, side - window)
    step = max(1, round(window * (1 - overlap), 6))
    assert all(after - before <= step for before, after in pairwise(starts))


def test_a_volume_smaller_than_the_window_stands_amid_background() -> None:
    seen = []

    def translate(windows: Tensor) -> Tensor:
        seen.append(windows.clone())
        return windows + 1

    result = sliding_window(translate, torch.ones(1, 1, 4, 8, 5), **SETTINGS)
    assert seen[0].sum() == 4 * 8 * 5
    assert (seen[0][:, :, 2:6, :, 1:6] == 1).all()
    torch.testing.assert_close(result, torch.full((1, 1, 4, 8, 5), 2.0))
    assert result.is_contiguous()


def test_a_network_may_give_other_channels_than_it_got() -> None:
    source = torch.rand(1, 2, 11, 9, 8)
    result = sliding_window(lambda windows: torch.cat([windows, windows.sum(1, keepdim=True)], 1), source, **SETTINGS)
    torch.testing.assert_close(result, torch.cat([source, source.sum(1, keepdim=True)], 1))


def test_results_in_bfloat16_are_blended_in_float32() -> None:
    source = torch.rand(1, 1, 20, 20, 20).bfloat16().float()
    result = sliding_window(lambda windows: windows.bfloat16(), source, **SETTINGS | {"overlap": 0.625})
    assert result.dtype == torch.float32
    assert (result - source).abs().max() <= 1e-5


def test_translating_keeps_no_graph_and_leaves_the_source_alone() -> None:
    factor = torch.nn.Parameter(torch.tensor(2.0))
    source = torch.rand(1, 1, 12, 12, 12)
    before = source.clone()
    result = sliding_window(lambda windows: windows.mul_(1) * factor, source, **SETTINGS)
    assert not result.requires_grad
    torch.testing.assert_close(source, before)


def test_progress_counts_windows() -> None:
    told: list[tuple[int, int]] = []
    sliding_window(identity, torch.rand(1, 1, 20, 8, 8), **SETTINGS, advance=lambda *done: told.append(done))
    assert told == [(3, 4), (4, 4)]


def test_a_network_that_changes_the_size_is_named() -> None:
    with pytest.raises(SetupError, match=r"\(3, 1, 4, 4, 4\).*8, 8, 8\)"):
        sliding_window(lambda windows: windows[..., ::2, ::2, ::2], torch.rand(1, 1, 20, 8, 8), **SETTINGS)


def test_settings_out_of_range_are_all_named() -> None:
    wrong = SETTINGS | {"overlap": 1.0, "blend": "hann", "batch": 0}
    with pytest.raises(ConfigError, match=r"(?s)overlap.*found 1.*blend.*'hann'.*batch.*found 0"):
        sliding_window(identity, torch.rand(1, 1, 8, 8, 8), **wrong)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_windows_may_be_translated_on_another_device() -> None:
    source = torch.rand(1, 1, 20, 13, 9)
    for place, translate in ((source, lambda windows: windows.cuda()), (source.cuda(), identity)):
        result = sliding_window(translate, place, **SETTINGS)
        assert result.device.type == "cpu"
        assert (result - source).abs().max() <= 1e-5
