"""The generators: published sizes, levels and options."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from torch import nn

from medtrans.builtin.blocks import CBAM, RRDB, ResidualDenseBlock, SpatialAttention, depth_to_space, space_to_depth
from medtrans.builtin.generators.mdaunet import MDAUNet
from medtrans.builtin.generators.unet import UNet
from medtrans.types import pyramid


def small(**options) -> MDAUNet:
    torch.manual_seed(0)
    return MDAUNet(1, 1, **{"preset": "tiny", "width": 4, **options})


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def sides(images) -> list[tuple[int, ...]]:
    return [tuple(image.shape[2:]) for image in images]


@pytest.mark.parametrize(
    ("preset", "count", "millions"),
    [
        ("paper", 6_176_846, 6.18),
        ("figure", 2_532_942, 2.53),
        ("figure-wide", 7_342_222, 7.34),
        ("paper-wide", 15_088_878, 15.09),
        ("tiny", 355_278, 0.36),
        ("fast", 651_556, 0.65),
    ],
)
def test_presets_have_the_published_sizes_and_levels(preset, count, millions) -> None:
    with torch.device("meta"):
        network = MDAUNet(1, 1, preset=preset)
        images = network(torch.empty(1, 1, 96, 96, 96))
    assert parameters(network) == count
    assert round(count / 1e6, 2) == millions
    assert sides(images) == [(96,) * 3, (48,) * 3, (24,) * 3, (12,) * 3][: network.levels]
    assert network.multiple == 8


def test_spectral_norm_adds_no_parameters_and_sits_on_entries_and_decoders_only() -> None:
    normed, plain = small(), small(spectral_norm=False)
    assert parameters(normed) == parameters(plain)
    places = {name.split(".")[0] for name, _ in normed.named_buffers()}
    assert places == {"entries", "decoders"}
    assert not list(plain.buffers())


@pytest.mark.parametrize(("levels", "multiple"), [(1, 1), (2, 2), (3, 4), (5, 16)])
def test_levels_cut_or_extend_the_preset(levels, multiple) -> None:
    network = small(levels=levels)
    images = network(torch.rand(1, 1, 16, 16, 16))
    assert network.levels == levels
    assert network.multiple == multiple
    assert sides(images) == [(16 // 2**level,) * 3 for level in range(levels)]


def test_growth_decides_the_levels() -> None:
    assert small(growth=(4, 4)).levels == 2
    with pytest.raises(ValueError, match="a number for each of 3 levels"):
        small(growth=(4, 4), levels=3)
    with pytest.raises(ValueError, match="3 numbers, one for each of 4 levels but the coarsest"):
        small(cbam_reduction=(2, 2))
    with pytest.raises(ValueError, match="'huge' is unknown; there are paper, figure"):
        MDAUNet(1, 1, preset="huge")


def test_without_multires_input_and_output_there_is_one_entry_and_one_tensor() -> None:
    network = small(multires_output=False, multires_input=False)
    assert len(network.entries) == 1
    image = network(torch.rand(1, 1, 16, 16, 16))
    assert isinstance(image, torch.Tensor)
    assert image.shape == (1, 1, 16, 16, 16)
    assert network.levels == 1
    assert network.multiple == 8


def test_every_level_sees_the_source_at_its_own_resolution() -> None:
    """A coarse image depends on voxels of the reduced source that the features from above never carry alone."""
    network = small()
    seen = []
    for entry in network.entries:
        entry.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    source = torch.rand(1, 1, 16, 16, 16)
    network(source)
    for found, wanted in zip(seen, pyramid(source, 4), strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=0)


@pytest.mark.parametrize(("attention", "n_rdb"), [("cbam", 2), ("channel", 1), ("spatial", 0), ("none", 1)])
def test_ablations_run_and_reach_all_parameters(attention, n_rdb) -> None:
    network = small(attention=attention, n_rdb=n_rdb, levels=2)
    sum(image.square().mean() for image in network(torch.rand(1, 1, 8, 8, 8))).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_trilinear_resampling_averages_where_nearest_picks() -> None:
    features = torch.arange(8.0).view(1, 1, 2, 2, 2)
    assert small().downsample(features).item() == 0.0
    assert small(resample="trilinear").downsample(features).item() == 3.5
    assert small().upsample(features)[0, 0, 0, 0].tolist() == [0, 0, 1, 1]
    assert small(resample="trilinear").upsample(features)[0, 0, 0, 0].tolist() == [0, 0.25, 0.75, 1]


def test_output_is_unbounded_in_training_unless_a_sigmoid_is_asked_for() -> None:
    free, bounded = small(), small(output_activation="sigmoid")
    for network in (free, bounded):
        for head in network.heads:
            nn.init.constant_(head.bias, -3.0)
    source = torch.rand(1, 1, 16, 16, 16)
    assert all(image.max() < 0 for image in free(source))
    assert all(image.min() > 0 and image.max() < 1 for image in bounded(source))


def test_the_stem_folds_and_unfolds_exactly() -> None:
    image = torch.rand(2, 3, 4, 6, 8)
    folded = space_to_depth(image, 2)
    assert folded.shape == (2, 24, 2, 3, 4)
    torch.testing.assert_close(depth_to_space(folded, 2), image, rtol=0, atol=0)
    # Each folded channel holds one voxel of every 2^3 block.
    torch.testing.assert_close(folded[:, 1], image[:, 0, ::2, ::2, 1::2], rtol=0, atol=0)


def test_dense_blocks_start_as_small_corrections() -> None:
    torch.manual_seed(0)
    features = torch.randn(1, 8, 8, 8, 8)
    change = ResidualDenseBlock(8, 4)(features) - features
    assert 0 < change.std() < 0.1
    assert ResidualDenseBlock(8, 4, skip=False)(features).std() > 0.1


def test_one_residual_path_goes_around_several_dense_blocks() -> None:
    torch.manual_seed(0)
    block, features = RRDB(4, 2, blocks=2, layers=2, scale=0.5), torch.randn(1, 4, 4, 4, 4)
    torch.testing.assert_close(block(features), features + 0.5 * block.blocks[1](block.blocks[0](features)))
    single = RRDB(4, 2, blocks=1, layers=2)
    torch.testing.assert_close(single(features), single.blocks[0](features))


def test_attention_weighs_channels_then_voxels() -> None:
    """CBAM against its formula, written with other operations."""
    torch.manual_seed(0)
    features, block = torch.randn(2, 6, 5, 4, 3), CBAM(6, 2)
    hidden, out = (conv.weight.flatten(1) for conv in (block[0].weigh[0], block[0].weigh[2]))
    pooled = [features.mean((2, 3, 4)), features.amax((2, 3, 4))]
    by_channel = torch.sigmoid(sum((p @ hidden.T).relu() @ out.T for p in pooled))
    weighed = features * by_channel[:, :, None, None, None]
    maps = torch.stack((weighed.mean(1), weighed.amax(1)), dim=1)
    by_voxel = torch.sigmoid(nn.functional.conv3d(maps, block[1].weigh.weight, padding=3))
    torch.testing.assert_close(block(features), weighed * by_voxel)


def unet(in_channels: int = 1, out_channels: int = 1, **options) -> UNet:
    torch.manual_seed(0)
    return UNet(in_channels, out_channels, **{"width": 4, "levels": 3, **options})


def conv(cin: int, cout: int, side: int) -> int:
    return cin * cout * side**3 + cout


@pytest.mark.parametrize(("cin", "cout", "width"), [(1, 1, 64), (2, 3, 16)])
def test_without_added_convolutions_it_has_the_weights_of_pix2pix_in_3d(cin: int, cout: int, width: int) -> None:
    w = width
    with torch.device("meta"):
        network = UNet(cin, cout, width=w, levels=5, convs=0)
    encoders = conv(cin, w, 4) + conv(w, 2 * w, 4) + conv(2 * w, 4 * w, 4) + conv(4 * w, 8 * w, 4)
    encoders += conv(8 * w, 8 * w, 4)
    decoders = conv(8 * w, 8 * w, 4) + conv(16 * w, 4 * w, 4) + conv(8 * w, 2 * w, 4) + conv(4 * w, w, 4)
    norms = 2 * (2 * w + 4 * w + 8 * w) + 2 * (8 * w + 4 * w + 2 * w + w)
    assert parameters(network) == encoders + decoders + norms + conv(2 * w, cout, 4)


def test_no_convolution_runs_at_full_resolution() -> None:
    network, seen = unet(levels=2), []
    for module in network.modules():
        if isinstance(module, nn.Conv3d) and module.stride == (1, 1, 1):
            module.register_forward_hook(lambda _module, _inputs, output: seen.append(max(output.shape[2:])))
    network(torch.rand(1, 1, 16, 16, 16))
    assert seen
    assert max(seen) == 8


def test_the_absolute_intensity_reaches_the_output() -> None:
    """A norm on every layer would make an image and the same image made brighter indistinguishable."""
    network = unet(norm="instance").eval()
    dark = torch.rand(1, 1, 16, 16, 16)
    with torch.no_grad():
        assert not torch.allclose(network(dark), network(dark + 0.5), atol=1e-3)


def test_residual_begins_as_the_source_and_learns() -> None:
    network = unet(2, 2, residual=True)
    source = torch.rand(1, 2, 8, 8, 8)
    output = network(source)
    torch.testing.assert_close(output, source, rtol=0, atol=0)
    output.square().sum().backward()
    assert float(network.head.weight.grad.abs().max()) > 0


def test_channels_and_sides_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="found 2 sources and 1 targets"):
        unet(2, 1, residual=True)
    with pytest.raises(ValueError, match="must divide by 8"):
        unet()(torch.rand(1, 1, 16, 12, 16))


def test_subclasses_replace_one_part_or_add_a_preset() -> None:
    class Ours(MDAUNet):
        PRESETS: ClassVar = {**MDAUNet.PRESETS, "ours": MDAUNet.PRESETS["tiny"]}

        def make_attention(self, level: int, channels: int) -> nn.Module:
            return nn.Identity()

    network = Ours(1, 1, preset="ours", width=4)
    assert parameters(network) == parameters(small(attention="none"))
    assert not any(isinstance(module, SpatialAttention) for module in network.modules())
