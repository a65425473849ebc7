"""A volume of any size, translated window by window, is the volume translated."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from medtrans.data.sampling import PatchSampler, cut
from medtrans.errors import ConfigError, SetupError
from medtrans.inference.sliding_window import choose_overlap, choose_window, receptive_field, sliding_window

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
    seen, told = [], []

    def translate(windows: Tensor) -> Tensor:
        seen.append(windows.shape)
        return windows.bfloat16()  # which is blended in float32

    source = torch.rand(1, 2, *sides, generator=torch.Generator().manual_seed(sum(sides))).bfloat16().float()
    asked = {"window": window, "overlap": overlap, "blend": blend, "batch": batch, "multiple": multiple}
    result = sliding_window(translate, source, **asked, advance=lambda *done: told.append(done))
    assert (result.shape, result.dtype) == (source.shape, torch.float32)
    assert (result - source).abs().max() <= 1e-5
    count = sum(shape[0] for shape in seen)
    assert told == [(min(done, count), count) for done in range(batch, count + batch, batch)]
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


def test_a_volume_smaller_than_the_window_stands_amid_its_background_as_in_training() -> None:
    seen = []

    def translate(windows: Tensor) -> Tensor:
        seen.append(windows.clone())
        return windows + 1

    volume = torch.arange(160.0).view(1, 1, 4, 8, 5) + 3
    result = sliding_window(translate, volume, **SETTINGS)
    assert (seen[0][:, :, 2:6, :, 2:7] == volume).all()
    assert (seen[0] == 3).sum() == 8**3 - volume.numel() + 1
    corner = PatchSampler(1, (8, 8, 8), 1, 0.0, 0).corner(0, np.ones((4, 8, 5), bool))
    assert torch.equal(seen[0][0], torch.from_numpy(cut(volume[0].numpy(), corner, (8, 8, 8), [3])))
    torch.testing.assert_close(result, volume + 1)
    assert result.is_contiguous()


def test_a_network_may_give_other_channels_and_no_graph_is_kept_nor_the_source_changed() -> None:
    factor = torch.nn.Parameter(torch.tensor(2.0))
    source = torch.rand(1, 2, 11, 9, 8)
    before = source.clone()
    result = sliding_window(lambda windows: windows.mul_(1).sum(1, keepdim=True) * factor, source, **SETTINGS)
    torch.testing.assert_close(result, 2 * before.sum(1, keepdim=True))
    assert not result.requires_grad
    assert torch.equal(source, before)


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


class Asks(nn.Module):
    """A network that folds slices into the batch."""

    multiple = (4, 4, 1)
    window = (None, None, 1)


@pytest.mark.parametrize(
    ("given", "network", "window", "multiple"),
    [
        (None, nn.Identity(), (32, 32, 16), (1, 1, 1)),
        (None, Asks(), (44, 60, 1), (4, 4, 1)),
        ((24, 24, 24), Asks(), (24, 24, 24), (4, 4, 1)),
    ],
)
def test_the_window_is_the_configs_else_the_networks_else_the_patch(given, network, window, multiple) -> None:
    assert choose_window(given, (32, 32, 16), [network], (41, 60, 50)) == (window, multiple)


@pytest.mark.parametrize("radii", [(0, 0, 0), (1, 1, 1), (0, 3, 4)])
def test_reach_is_the_radius_of_a_convolution_along_each_axis_past_what_is_spread_thinly(radii) -> None:
    def mean(windows: Tensor) -> Tensor:
        blurred = nn.functional.avg_pool3d(windows, [2 * radius + 1 for radius in radii], stride=1, padding=radii)
        return blurred + 1e-6 * windows.mean()

    assert receptive_field(mean, 2, (16, 16, 24), (2, 2, 2)) == radii


@pytest.mark.parametrize("broken", [torch.zeros_like, lambda windows: windows * torch.nan])
def test_a_network_that_answers_nothing_has_no_reach(broken) -> None:
    assert receptive_field(broken, 1, (8, 8, 8), (1, 1, 1)) is None


@pytest.mark.parametrize(
    ("reached", "shape", "overlap"),
    [
        ((0, 0, 0), (99, 99, 99), 0.25),
        ((4, 6, 2), (99, 99, 99), 12 / 32),
        ((4, 6, 2), (99, 32, 99), 0.25),
        ((15, 15, 15), (99, 99, 99), 0.625),
        (None, (99, 99, 99), 0.5),
    ],
)
def test_the_overlap_is_what_the_network_reaches_within_bounds(reached, shape, overlap) -> None:
    assert choose_overlap(reached, (32, 32, 32), shape) == pytest.approx(overlap)
