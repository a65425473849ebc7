"""What the config leaves open is chosen by what the network asks for and how far it looks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from medtrans.inference.sliding_window import chosen_overlap, chosen_window, receptive_field


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
    assert chosen_window(given, (32, 32, 16), [network], (41, 60, 50)) == (window, multiple)


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
    assert chosen_overlap(reached, (32, 32, 32), shape) == pytest.approx(overlap)
