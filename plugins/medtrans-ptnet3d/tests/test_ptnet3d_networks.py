"""The published network: sizes, shapes, what its layers compute, and what the whole computes."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import medtrans
from medtrans_ptnet3d.performer import Performer
from medtrans_ptnet3d.ptnet3d import PTNet3D
from medtrans_ptnet3d.tokens import PositionTable, from_tokens, sinusoid, to_tokens, unfold
from medtrans_ptnet3d.transformer import Attention, TransformerBlock

SMALL = {"width": 4, "depth": 1, "heads": 2, "global_depth": 1}


def small(**options) -> PTNet3D:
    torch.manual_seed(0)
    return PTNet3D(1, 1, **{"patch_size": (16, 16, 16), **SMALL, **options})


def trained(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def frozen(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters() if not parameter.requires_grad)


def test_it_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        network = medtrans.component("generator", "ptnet3d:ptnet3d").factory(1, 1)
    assert (trained(network), frozen(network)) == (7_598_025, 415_232)
    assert trained(network) + frozen(network) == 8_013_257
    assert not list(network.buffers())


def test_without_the_layer_that_is_never_called_only_what_learns_is_left() -> None:
    with torch.device("meta"):
        network = PTNet3D(1, 1, legacy_unused_layer=False)
    assert trained(network) == 5_987_721


def test_each_part_has_its_published_size() -> None:
    with torch.device("meta"):
        network = PTNet3D(1, 1)
    assert (trained(network.global_branch), frozen(network.global_branch)) == (303_392, 262_144)
    assert trained(network.global_branch.blocks) == 299_520
    assert trained(network.global_branch.widen) == 1_792
    assert trained(network.global_branch.narrow) == 2_080
    assert [(trained(layer), frozen(layer)) for layer in network.down] == [
        (2_246, 128),
        (45_664, 512),
        (180_416, 2_048),
    ]
    assert (trained(network.unused), frozen(network.unused)) == (1_610_304, 18_432)
    assert trained(network.bottleneck.blocks) == 4_737_024
    assert [trained(block) for block in network.bottleneck.blocks] == [526_336] * 9
    assert trained(network.bottleneck.widen) == 663_808
    assert trained(network.bottleneck.narrow) == 24_672
    assert frozen(network.bottleneck) == 131_072
    assert [trained(layer) + frozen(layer) for layer in network.up] == [22_656, 4_224, 2_624, 1_874]
    assert [trained(layer) for layer in network.up] == [22_144, 4_096, 2_496, 1_746]
    assert trained(network.head) == 17


def performer(before: int, after: int) -> int:
    return 2 * before + 3 * (before * after + after) + 3 * (after * after + after) + 2 * after


def stage(before: int, dim: int, after: int, depth: int) -> int:
    block = 4 * dim + 3 * dim * dim + dim * dim + dim + 4 * dim * dim + 3 * dim
    return before * dim + dim + depth * block + dim * after + after


@pytest.mark.parametrize(
    ("sources", "targets", "sides", "options"),
    [
        (1, 1, (96, 96, 96), {}),
        (2, 1, (64, 64, 64), {"depth": 5}),
        (3, 2, (128, 64, 32), {"width": 8, "heads": 2, "global_depth": 3, "legacy_unused_layer": False}),
        (1, 1, (40, 24, 20), {"width": 10, "depth": 2, "global_heads": 4}),
    ],
)
def test_other_sizes_have_the_number_of_parameters_that_follows(sources, targets, sides, options) -> None:
    with torch.device("meta"):
        network = PTNet3D(sources, targets, sides, **options)
    w, depth, around = options.get("width", 16), options.get("depth", 9), options.get("global_depth", 9)
    unused = options.get("legacy_unused_layer", True)
    down = [(27 * sources, w), (27 * w, 2 * w), (54 * w, 4 * w)] + ([(162 * w, 12 * w)] if unused else [])
    up = [(12 * w, 2 * w), (4 * w, w), (2 * w, w), (w + sources, w)]
    assert trained(network) == (
        sum(performer(*layer) for layer in down + up)
        + stage(27 * sources, 4 * w, 2 * w, around)
        + stage(162 * w, 16 * w, 6 * w, depth)
        + w * targets
        + targets
    )
    eighths = [-(-side // 8) for side in sides]
    tokens = eighths[0] * eighths[1] * eighths[2]
    tables = 8 * tokens * 4 * w + tokens * 16 * w
    assert frozen(network) == tables + sum((after // 2) * after for _, after in down + up)


def test_there_is_no_convolution_and_no_dropout() -> None:
    with torch.device("meta"):
        network = PTNet3D(1, 1)
    assert not any("Conv" in type(module).__name__ or "Drop" in type(module).__name__ for module in network.modules())


def test_attention_stands_in_nine_blocks_of_either_kind() -> None:
    with torch.device("meta"):
        network = PTNet3D(1, 1)
    blocks = [module for module in network.modules() if isinstance(module, TransformerBlock)]
    assert len(blocks) == 18
    assert [(b.attention.project.in_features, b.attention.heads) for b in network.global_branch.blocks] == [(64, 2)] * 9
    assert [(b.attention.project.in_features, b.attention.heads) for b in network.bottleneck.blocks] == [(256, 4)] * 9
    for block in blocks:
        assert block.attention.qkv.bias is None
        assert block.attention.project.bias is not None
        assert block.mlp[0].out_features == 2 * block.mlp[0].in_features
        assert type(block.mlp[1]) is nn.GELU
        assert block.mlp[1].approximate == "none"
        assert {block.attention_norm.eps, block.mlp_norm.eps} == {1e-5}


def test_random_features_are_half_the_channels_orthogonal_and_never_trained() -> None:
    torch.manual_seed(0)
    network = PTNet3D(1, 1, (16, 16, 16), depth=1, global_depth=1)
    layers = [*network.down, *network.up]
    assert [tuple(layer.directions.shape) for layer in layers] == [
        (8, 16), (16, 32), (32, 64), (16, 32), (8, 16), (8, 16), (8, 16)
    ]  # fmt: skip
    for layer in layers:
        features = len(layer.directions)
        torch.testing.assert_close(layer.directions @ layer.directions.T, features * torch.eye(features))
        assert not layer.directions.requires_grad


def test_attention_of_a_performer_is_a_weighted_mean_of_the_values() -> None:
    layer = small().up[0].double()
    query, key = 0.1 * torch.randn(2, 1, 9, 8, dtype=torch.float64)
    same = torch.linspace(-1, 1, 8, dtype=torch.float64).expand(1, 9, 8)
    torch.testing.assert_close(layer.attend(query, key, same), same, atol=1e-8, rtol=0)
    values = torch.randn(1, 9, 8, dtype=torch.float64)
    weights = layer.features(query) @ layer.features(key).transpose(1, 2)
    expected = (weights / weights.sum(dim=2, keepdim=True)) @ values
    torch.testing.assert_close(layer.attend(query, key, values), expected, atol=1e-6, rtol=1e-6)


def test_a_performer_splits_key_query_value_and_leads_the_values_around() -> None:
    torch.manual_seed(0)
    layer = Performer(6, 4)
    tokens = torch.randn(2, 5, 6)
    key, query, value = layer.kqv(layer.norm_in(tokens)).split(4, dim=-1)
    mixed = value + layer.project(layer.attend(query, key, value))
    torch.testing.assert_close(layer(tokens), mixed + layer.mlp(layer.norm_out(mixed)))


def test_random_features_are_positive_and_scaled_as_published() -> None:
    layer = Performer(6, 4)
    token = torch.randn(1, 1, 4)
    expected = [torch.exp(row @ token[0, 0] - token.square().sum() / 2) / 2**0.5 for row in layer.directions]
    torch.testing.assert_close(layer.features(token)[0, 0], torch.stack(expected))


def test_a_performer_computes_in_float32_under_autocast() -> None:
    torch.manual_seed(0)
    layer = Performer(27, 16)
    tokens = torch.rand(1, 50, 27)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = layer(tokens)
    assert output.dtype == torch.float32
    assert torch.equal(output, layer(tokens))


def test_softmax_attention_is_scaled_by_the_channels_of_a_head() -> None:
    torch.manual_seed(0)
    attention = Attention(8, 2)
    tokens = torch.randn(2, 5, 8)
    query, key, value = (part.view(2, 5, 2, 4).transpose(1, 2) for part in attention.qkv(tokens).split(8, dim=-1))
    mixed = torch.softmax(query @ key.transpose(2, 3) / 4**0.5, dim=-1) @ value
    torch.testing.assert_close(attention(tokens), attention.project(mixed.transpose(1, 2).reshape(2, 5, 8)))


def test_the_position_table_is_the_published_sinusoid() -> None:
    with torch.device("meta"):
        network = PTNet3D(1, 1)
    assert tuple(network.bottleneck.position.table.shape) == (1, 512, 256)
    assert tuple(network.global_branch.position.table.shape) == (1, 4096, 64)
    assert not network.bottleneck.position.table.requires_grad
    table = sinusoid(3, 256)
    assert table[0, 0].tolist() == [0, 1] * 128
    assert table[0, 1, :4].tolist() == pytest.approx([0.841471, 0.540302, 0.801962, 0.597375], abs=1e-6)


def test_any_number_of_tokens_gets_its_table() -> None:
    position = PositionTable(10, 6)
    for count in (4, 10, 25, 7, 25):
        torch.testing.assert_close(position(torch.zeros(1, count, 6)), sinusoid(count, 6))
    assert list(position.state_dict()) == ["table"]


def test_tokens_are_neighbourhoods_channel_by_channel_with_zeros_beyond_the_border() -> None:
    volume = torch.arange(2 * 4 * 4 * 6.0).view(1, 2, 4, 4, 6)
    tokens = unfold(volume, stride=1)
    assert tuple(tokens.shape) == (1, 96, 54)
    middle = tokens[0, (1 * 4 + 2) * 6 + 3]
    assert torch.equal(middle, volume[0, :, 0:3, 1:4, 2:5].reshape(-1))
    corner = tokens[0, 0].view(2, 3, 3, 3)
    assert not corner[:, 0].any()
    assert not corner[:, :, 0].any()
    assert torch.equal(corner[:, 1:, 1:, 1:], volume[0, :, :2, :2, :2])
    every_second = unfold(volume, stride=2)
    assert torch.equal(every_second, from_tokens(tokens, (4, 4, 6))[:, :, ::2, ::2, ::2].flatten(2).transpose(1, 2))
    assert torch.equal(from_tokens(to_tokens(volume), (4, 4, 6)), volume)


def test_the_global_branch_reaches_the_last_channels_of_the_coarsest_skip_alone() -> None:
    network = small(width=16).eval()
    source = torch.rand(1, 1, 16, 16, 16) * 2 - 1
    before = network.encode(source)
    with torch.no_grad():
        network.global_branch.narrow.weight.zero_()
        network.global_branch.narrow.bias.zero_()
    after = network.encode(source)
    assert all(torch.equal(one, other) for one, other in zip(before[:2], after[:2], strict=True))
    changed = (before[2] != after[2]).flatten(2).any(dim=2)[0]
    assert changed.nonzero().flatten().tolist() == list(range(64, 96))
    assert not after[2][:, 64:].any()


def test_the_global_branch_sees_the_source_reduced_with_corners_on_corners() -> None:
    network = small()
    network.global_branch = nn.Identity()
    source = torch.rand(1, 1, 16, 16, 16)
    neighbourhoods = network.look_around(source)
    assert tuple(neighbourhoods.shape) == (1, 27, 4, 4, 4)
    assert torch.equal(neighbourhoods[0, 13, ::3, ::3, ::3], source[0, 0, ::15, ::15, ::15])


def test_shapes_on_the_way_at_64() -> None:
    with torch.device("meta"):
        network = PTNet3D(1, 1)
        source = torch.empty(1, 1, 64, 64, 64)
        skips = network.encode(source)
        assert [tuple(skip.shape[1:3]) for skip in skips] == [(16, 64), (32, 32), (96, 16)]
        assert tuple(network.bottom(skips[-1]).shape) == (1, 96, 8, 8, 8)
        assert network(source).shape == source.shape


def test_the_layer_that_is_never_called_changes_nothing_and_gets_no_gradient() -> None:
    network = small()
    source = torch.rand(1, 1, 16, 16, 16)
    before = network(source)
    with torch.no_grad():
        for parameter in network.unused.parameters():
            parameter.add_(1)
    assert torch.equal(network(source), before)
    network(source).mean().backward()
    silent = {name for name, one in network.named_parameters() if one.requires_grad and one.grad is None}
    assert silent == {f"unused.{name}" for name, one in network.unused.named_parameters() if one.requires_grad}


def test_without_that_layer_every_weight_learns() -> None:
    network = small(legacy_unused_layer=False)
    network(torch.rand(1, 1, 16, 16, 16)).square().mean().backward()
    assert all(one.grad is not None and one.grad.any() for one in network.parameters() if one.requires_grad)


def fraction(count: int) -> Tensor:
    """A fixed sequence in [-0.5, 0.5), float64."""
    values = torch.sin(12.9898 * torch.arange(1, count + 1, dtype=torch.float64)) * 43758.5453
    return values - values.floor() - 0.5


def test_it_computes_what_the_original_computes() -> None:
    network = PTNet3D(1, 1, legacy_unused_layer=False).eval()
    with torch.no_grad():
        for module in network.modules():
            for name, parameter in module.named_parameters(recurse=False):
                values = fraction(parameter.numel()).view_as(parameter)
                if isinstance(module, nn.LayerNorm):
                    parameter.fill_(1.0 if name == "weight" else 0.0)
                elif parameter.ndim == 1:
                    parameter.copy_(0.1 * values)
                elif not isinstance(module, PositionTable):
                    parameter.copy_(values * (12 * len(parameter) / parameter.numel()) ** 0.5)
        source = (2 * fraction(64**3)).float().view(1, 1, 64, 64, 64)
        output = 2 * network((source + 1) / 2) - 1
    assert output.mean().item() == pytest.approx(-0.938216, abs=1e-3)
    assert output.std().item() == pytest.approx(0.032594, abs=1e-3)
    assert output.abs().max().item() == pytest.approx(0.993987, abs=1e-3)
    found = output.flatten()[[0, 87381, 131072, 262143]].tolist()
    assert found == pytest.approx([-0.90485, -0.96551, -0.954572, -0.961883], abs=1e-3)


@pytest.mark.parametrize("sides", [(8, 8, 8), (24, 16, 32), (16, 16, 16), (8, 40, 16)])
def test_any_sides_that_divide_by_8_give_an_image_of_that_size(sides: tuple[int, int, int]) -> None:
    network = small().eval()
    output = network(torch.rand(2, 1, *sides))
    assert tuple(output.shape) == (2, 1, *sides)
    assert 0 <= output.min() < output.max() <= 1


def test_other_sides_are_refused_with_what_they_should_be() -> None:
    with pytest.raises(ValueError, match=r"must divide by 8, found \(16, 12, 16\)"):
        small()(torch.rand(1, 1, 16, 12, 16))


def test_a_network_made_for_one_size_computes_at_another_as_one_made_for_it() -> None:
    one, other = small(), small(patch_size=(24, 24, 24))
    state = {name: value for name, value in one.state_dict().items() if "table" not in name}
    other.load_state_dict(state, strict=False)
    source = torch.rand(1, 1, 24, 24, 24)
    torch.testing.assert_close(one(source), other(source))


def test_a_copy_keeps_nothing_of_the_original() -> None:
    network = small()
    source = torch.rand(1, 1, 24, 24, 24)
    before = network(source)
    twin = copy.deepcopy(network)
    with torch.no_grad():
        twin.head.weight.add_(1)
    assert torch.equal(network(source), before)


def test_the_transformer_at_an_eighth_has_sizes_of_its_own() -> None:
    network = small(embed_dim=24, mlp_ratio=3.0, qkv_bias=True)
    (block,) = network.bottleneck.blocks
    assert block.attention.qkv.in_features == 24
    assert block.attention.qkv.bias is not None
    assert block.mlp[0].out_features == 72
    assert network.global_branch.blocks[0].attention.qkv.bias is None
    assert network(torch.rand(1, 1, 16, 16, 16)).shape == (1, 1, 16, 16, 16)


def test_heads_that_do_not_divide_the_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="64 channels do not divide by 5 heads"):
        small(heads=5)
