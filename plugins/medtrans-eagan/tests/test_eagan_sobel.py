"""The edge layer: its kernels, its published values, and that flat regions do no harm."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from eagan_probes import fraction
from torch import Tensor

from medtrans_eagan.sobel import edges, sobel

SMOOTH = [[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]]


def kernels() -> Tensor:
    """What the filter does to a single voxel, turned round: `(axis, 3, 3, 3)`."""
    lone = torch.zeros(1, 1, 7, 7, 7)
    lone[..., 3, 3, 3] = 1.0
    around = slice(2, 5)
    return torch.stack([response[0, 0, around, around, around].flip(0, 1, 2) for response in sobel(lone)])


def test_the_kernel_of_the_first_axis_is_a_slope_along_it_and_smooth_across() -> None:
    first = kernels()[0]
    assert first[0].tolist() == SMOOTH
    assert first[1].abs().max() == 0
    assert first[2].tolist() == (-torch.tensor(SMOOTH)).tolist()


def test_the_other_kernels_are_the_first_with_its_axes_changed() -> None:
    first, second, third = kernels()
    assert torch.equal(second, first.transpose(0, 1))
    assert torch.equal(third, first.transpose(0, 2))
    for kernel in (first, second, third):
        assert kernel.sum() == 0
        assert kernel.abs().sum() == 32


def test_flat_background_is_exactly_no_edge() -> None:
    assert (edges(torch.full((1, 1, 6, 5, 4), -1.0)) == -1).all()


def test_another_flat_value_draws_a_shell_on_the_border_only() -> None:
    given = edges(torch.zeros(1, 1, 5, 5, 5))[0, 0]
    assert (given[1:4, 1:4, 1:4] == -1).all()
    assert given[0, 2, 2].item() == pytest.approx(0.998657, abs=1e-5)
    assert given[0, 0, 2].item() == pytest.approx(0.999174, abs=1e-5)
    assert given[0, 0, 0].item() == pytest.approx(0.998352, abs=1e-5)


@pytest.mark.parametrize("axis", [2, 3, 4])
def test_a_ramp_is_equally_strong_along_every_axis(axis: int) -> None:
    ramp = torch.arange(9.0).mul(0.1).reshape([-1 if one == axis else 1 for one in range(5)]).expand(1, 1, 9, 9, 9)
    inner = edges(ramp)[..., 1:-1, 1:-1, 1:-1]
    assert inner.flatten().tolist() == pytest.approx([2 * math.tanh(0.8) - 1] * inner.numel(), abs=1e-5)
    assert 2 * math.tanh(0.8) - 1 == pytest.approx(0.328074, abs=1e-6)


def test_a_lone_voxel_is_an_edge_around_itself() -> None:
    image = torch.full((1, 1, 7, 7, 7), -1.0)
    image[..., 3, 3, 3] = 1.0
    given = edges(image)[0, 0]
    by_distance = {0: -1.0, 1: 0.928055, 2: 0.776771, 3: 0.398698}
    for offset in itertools.product((-1, 0, 1), repeat=3):
        i, j, k = (3 + step for step in offset)
        assert given[i, j, k].item() == pytest.approx(by_distance[sum(map(abs, offset))], abs=1e-5)


def test_it_gives_the_values_of_the_published_layer() -> None:
    given = edges(2 * fraction(1, 1, 8, 8, 8).float())
    assert given.mean().item() == pytest.approx(0.914463, abs=1e-3)
    assert given.std().item() == pytest.approx(0.177541, abs=1e-3)
    assert given.flatten()[[0, 170, 256, 511]].tolist() == pytest.approx(
        [0.988922, 0.984795, 0.999552, 0.997565], abs=1e-3
    )


@pytest.mark.parametrize("value", [-1.0, 0.0])
def test_the_gradient_of_a_flat_region_is_zero_and_finite_everywhere(value: float) -> None:
    image = torch.full((1, 1, 9, 9, 9), value, requires_grad=True)
    edges(image).sum().backward()
    assert image.grad is not None
    assert image.grad.isfinite().all()
    assert (image.grad[..., 2:-2, 2:-2, 2:-2] == 0).all()


def test_channels_do_not_see_each_other() -> None:
    draw = torch.Generator().manual_seed(0)
    image = torch.rand(2, 3, 6, 6, 6, generator=draw) * 2 - 1
    together = edges(image)
    for channel in range(3):
        torch.testing.assert_close(together[:, channel : channel + 1], edges(image[:, channel : channel + 1]))


def test_autocast_does_not_blur_it() -> None:
    image = torch.rand(1, 1, 6, 6, 6, generator=torch.Generator().manual_seed(0)) * 2 - 1
    expected = edges(image)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(edges(image), expected)
