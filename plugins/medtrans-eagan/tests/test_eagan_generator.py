"""Ea-GAN's generator: the published counts, values, places of norms and dropouts, at its size and at others."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from eagan_probes import fill, fraction, parameters, state_beside_parameters
from torch import nn

from medtrans_eagan.generator import EaGANGenerator

META = torch.device("meta")


def on_meta(*channels: int, **options: object) -> EaGANGenerator:
    with META:
        return EaGANGenerator(*channels, **options)


@pytest.mark.parametrize(
    ("levels", "learnt", "kept"), [(7, 167_272_449, 7_819), (6, 116_937_729, 5_769), (5, 66_603_009, 3_719)]
)
def test_it_has_as_many_parameters_as_the_published_code(levels: int, learnt: int, kept: int) -> None:
    network = on_meta(1, 1, levels=levels)
    assert parameters(network) == learnt
    assert state_beside_parameters(network) == kept


def expected_parameters(sources: int, targets: int, levels: int, width: int) -> int:
    """Counted from the published table: 64 weights a pair of channels, a bias each, two numbers a normed channel."""
    widths = [width, 2 * width, 4 * width] + [8 * width] * (levels - 3)
    down = 64 * sources * width + width
    up = 64 * 2 * width * targets + targets
    for level, (before, after) in enumerate(pairwise(widths), start=1):
        innermost = level == levels - 1
        down += 64 * before * after + after + (0 if innermost else 2 * after)
        up += 64 * after * (1 if innermost else 2) * before + before + 2 * before
    return down + up


@pytest.mark.parametrize("levels", [5, 6, 7])
@pytest.mark.parametrize(("sources", "targets", "width"), [(1, 1, 64), (1, 1, 16), (3, 2, 10), (2, 1, 1)])
def test_counts_hold_at_other_channels_and_widths(sources: int, targets: int, levels: int, width: int) -> None:
    network = on_meta(sources, targets, levels=levels, width=width)
    assert parameters(network) == expected_parameters(sources, targets, levels, width)


def test_a_block_of_128_voxels_keeps_its_size() -> None:
    assert on_meta(1, 1)(torch.empty(1, 1, 128, 128, 128, device=META)).shape == (1, 1, 128, 128, 128)


@pytest.mark.parametrize("levels", [5, 6])
def test_unequal_sides_that_divide_keep_their_size(levels: int) -> None:
    step = 2**levels
    source = torch.empty(2, 3, step, 3 * step, 2 * step, device=META)
    network = on_meta(3, 2, levels=levels, width=4)
    assert network.multiple == step
    assert network(source).shape == (2, 2, *source.shape[2:])


def test_a_side_that_does_not_divide_is_an_error_that_says_by_what() -> None:
    with pytest.raises(ValueError, match=r"divide by 128, found \(128, 96, 128\)"):
        on_meta(1, 1)(torch.empty(1, 1, 128, 96, 128, device=META))


def test_it_gives_the_values_of_the_published_network() -> None:
    torch.manual_seed(0)
    network = EaGANGenerator(1, 1, width=16).eval()
    assert parameters(network) == 10_459_137
    fill(network)
    with torch.no_grad():
        image = 2 * fraction(1, 1, 128, 128, 128).float()
        given = 2 * network((image + 1) / 2) - 1
    assert given.mean().item() == pytest.approx(0.060266, abs=1e-3)
    assert given.std().item() == pytest.approx(0.424595, abs=1e-3)
    assert given.abs().max().item() == pytest.approx(0.989996, abs=1e-3)
    probed = given.flatten()[[0, 699_050, 1_048_576, 2_097_151]]
    assert probed.tolist() == pytest.approx([-0.037556, 0.77067, -0.289941, -0.10967], abs=1e-3)


def test_outputs_stay_between_zero_and_one() -> None:
    torch.manual_seed(0)
    network = EaGANGenerator(1, 1, levels=5, width=2)
    fill(network)
    given = network(torch.rand(1, 1, 32, 32, 32))
    assert 0 < given.min() < given.max() < 1


def test_eleven_batch_norms_two_dropouts_and_fourteen_convolutions_with_a_bias() -> None:
    modules = list(on_meta(1, 1).modules())
    convolutions = [one for one in modules if isinstance(one, nn.Conv3d | nn.ConvTranspose3d)]
    assert sum(isinstance(one, nn.BatchNorm3d) for one in modules) == 11
    assert [one.p for one in modules if isinstance(one, nn.Dropout)] == [0.5, 0.5]
    assert len(convolutions) == 14
    assert all(one.bias is not None and one.kernel_size == (4, 4, 4) for one in convolutions)


@pytest.mark.parametrize(("levels", "drops"), [(7, [4, 5]), (6, [4]), (5, [])])
def test_dropout_stands_between_the_fourth_and_the_innermost_level(levels: int, drops: list[int]) -> None:
    def dropping(network: EaGANGenerator) -> list[int]:
        return [
            level
            for level, block in enumerate(network.up)
            if any(isinstance(module, nn.Dropout) for module in block.modules())
        ]

    assert dropping(on_meta(1, 1, levels=levels)) == drops
    assert dropping(on_meta(1, 1, levels=levels, dropout=False)) == []


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_the_innermost_level_goes_down_without_a_norm_and_up_with_batch_norm(norm: str) -> None:
    network = on_meta(1, 1, norm=norm)
    kinds = (nn.BatchNorm3d, nn.InstanceNorm3d)
    down = [[type(one) for one in block.modules() if isinstance(one, kinds)] for block in network.down]
    up = [[type(one) for one in block.modules() if isinstance(one, kinds)] for block in network.up]
    chosen = nn.BatchNorm3d if norm == "batch" else nn.InstanceNorm3d
    assert down == [[], *[[chosen]] * 5, []]
    assert up == [[], *[[chosen]] * 5, [nn.BatchNorm3d]]


def test_instance_norm_has_weights_and_statistics_of_its_own() -> None:
    norm = next(one for one in on_meta(1, 1, norm="instance").modules() if isinstance(one, nn.InstanceNorm3d))
    assert norm.affine
    assert norm.track_running_stats


def test_it_starts_as_pix2pix_does() -> None:
    torch.manual_seed(0)
    network = EaGANGenerator(1, 1, levels=5, width=8)
    weights = torch.cat([block.weight.flatten() for block in network.modules() if hasattr(block, "stride")])
    norms = torch.cat([one.weight for one in network.modules() if isinstance(one, nn.BatchNorm3d)])
    assert weights.mean().item() == pytest.approx(0.0, abs=1e-3)
    assert weights.std().item() == pytest.approx(0.02, rel=0.02)
    assert norms.mean().item() == pytest.approx(1.0, abs=0.01)
    assert norms.std().item() == pytest.approx(0.02, rel=0.3)
    assert all((one.bias == 0).all() for one in network.modules() if isinstance(one, nn.BatchNorm3d))
    assert network.down[0].bias.std() > 0.02


def test_a_batch_of_one_trains_although_the_innermost_level_is_a_single_voxel() -> None:
    torch.manual_seed(0)
    network = EaGANGenerator(1, 1, levels=5, width=2)
    network(torch.rand(1, 1, 32, 32, 32)).mean().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in network.parameters())
