"""The published networks: sizes, shapes, what is shared, where norms and dropout stand, and what they compute."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import medtrans
from medtrans_resvit.art import TransformerARTBlock
from medtrans_resvit.blocks import SliceNorm
from medtrans_resvit.networks import ResViTNetwork
from medtrans_resvit.res_cnn import ResCNN
from medtrans_resvit.resvit import ResViT

SMALL = {"ngf": 4, "blocks": 3, "transformers": (1, 3), "dim": 8, "depth": 2, "heads": 2, "embed_channels": 12}
PLANE = (32, 32, 1)


def small(**options) -> ResViT:
    torch.manual_seed(0)
    return ResViT(1, 1, **{"patch_size": PLANE, **SMALL, **options})


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def buffers(network: nn.Module) -> int:
    return sum(buffer.numel() for buffer in network.buffers())


def norm(channels: int) -> int:
    return 2 * channels


def residual(c: int) -> int:
    return 2 * (9 * c * c + norm(c))


def encoder_and_decoder(sources: int, targets: int, g: int) -> int:
    into = 49 * sources * g + norm(g) + 9 * g * 2 * g + norm(2 * g) + 9 * 2 * g * 4 * g + norm(4 * g)
    return into + 9 * 4 * g * 2 * g + norm(2 * g) + 9 * 2 * g * g + norm(g) + 49 * g * targets + targets


def transformer(d: int, depth: int, hidden: int) -> int:
    return depth * (4 * (d * d + d) + 2 * d * hidden + hidden + d + 2 * norm(d)) + norm(d)


def around_transformer(c: int, d: int, e: int, tokens: int) -> int:
    down = 9 * c * 2 * c + norm(2 * c) + 9 * 2 * c * e + norm(e)
    up = 9 * d * 2 * c + norm(2 * c) + 9 * 2 * c * c + norm(c)
    compression = 9 * 2 * c * c + norm(c) + 9 * c * c + norm(c) + 2 * c * c + norm(c)
    return down + e * d + d + tokens * d + up + compression


@pytest.mark.parametrize(("sources", "count"), [(1, 123_441_537), (2, 123_444_673)])
def test_resvit_has_the_published_number_of_parameters(sources: int, count: int) -> None:
    with torch.device("meta"):
        network = medtrans.component("generator", "resvit:resvit").factory(sources, 1)
    assert parameters(network) == count
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert buffers(network) == 22_821


@pytest.mark.parametrize(("sources", "count"), [(1, 11_370_881), (2, 11_374_017)])
def test_res_cnn_has_the_published_number_of_parameters(sources: int, count: int) -> None:
    with torch.device("meta"):
        network = medtrans.component("generator", "resvit:res_cnn").factory(sources, 1)
    assert parameters(network) == count
    assert buffers(network) == 10_519
    assert len(network.state_dict()) == 140


def test_each_part_has_its_published_size() -> None:
    with torch.device("meta"):
        network = ResViT(1, 1).network
    assert parameters(network.encoder) == 85_056_000
    assert [parameters(part) for part in network.encode] == [3_264, 73_984, 295_424]
    assert [parameters(part) for part in network.decode] == [295_168, 73_856, 3_137]
    assert parameters(network.art[1]) == 1_180_672
    with_transformer = network.art[0]
    assert parameters(with_transformer) == 14_688_000
    assert parameters(with_transformer.down) == 5_901_312
    assert parameters(with_transformer.embed) + with_transformer.position.numel() == 983_808
    assert parameters(with_transformer.up) == 4_720_128
    assert parameters(with_transformer.compress) == 1_902_080
    assert parameters(with_transformer.residual) == 1_180_672


@pytest.mark.parametrize(
    ("sources", "targets", "options", "sides"),
    [
        (1, 1, {"ngf": 16, "dim": 96, "depth": 2, "heads": 4}, (64, 64)),
        (3, 2, {"ngf": 8, "blocks": 4, "transformers": (2, 3, 4), "dim": 24, "depth": 1, "heads": 3}, (48, 80)),
        (2, 1, {"ngf": 32, "embed_channels": 100, "mlp_dim": 50, "dim": 30, "heads": 5, "depth": 3}, (288, 288)),
        (1, 1, {}, (512, 320)),
    ],
)
def test_other_sizes_have_the_number_of_parameters_that_follows(
    sources: int, targets: int, options: dict, sides: tuple[int, int]
) -> None:
    with torch.device("meta"):
        network = ResViT(sources, targets, (*sides, 1), **options)
        plain = ResCNN(
            sources, targets, (*sides, 1), **{key: options[key] for key in ("ngf", "blocks") if key in options}
        )
    g, blocks = options.get("ngf", 64), options.get("blocks", 9)
    d, e, holders = options.get("dim", 768), options.get("embed_channels", 1024), options.get("transformers", (1, 6))
    convolutional = encoder_and_decoder(sources, targets, g) + blocks * residual(4 * g)
    assert parameters(plain) == convolutional
    assert parameters(network) == (
        convolutional
        + transformer(d, options.get("depth", 12), options.get("mlp_dim", 4 * d))
        + len(holders) * around_transformer(4 * g, d, e, sides[0] * sides[1] // 256)
    )


def test_blocks_1_and_6_alone_hold_the_transformer_and_it_is_the_same_one() -> None:
    with torch.device("meta"):
        network = ResViT(1, 1).network
    assert [place for place, block in enumerate(network.art, 1) if isinstance(block, TransformerARTBlock)] == [1, 6]
    assert network.art[0].encoder is network.art[5].encoder is network.encoder
    for part in ("down", "embed", "position", "up", "compress"):
        assert getattr(network.art[0], part) is not getattr(network.art[5], part)


def test_a_change_of_the_shared_transformer_changes_both_blocks() -> None:
    network = small().network.eval()
    features = torch.rand(1, 16, 8, 8)
    before = [block(features) for block in network.transformer_blocks()]
    with torch.no_grad():
        network.encoder.layers[0].mlp.narrow.bias.add_(1)
    after = [block(features) for block in network.transformer_blocks()]
    assert all(not torch.equal(old, new) for old, new in zip(before, after, strict=True))


def test_the_shared_transformer_stands_once_in_the_state() -> None:
    network = small()
    state = network.state_dict()
    storages = [tensor.data_ptr() for tensor in state.values()]
    assert len(set(storages)) == len(storages)
    assert sum(tensor.numel() for tensor in state.values()) == parameters(network) + buffers(network)
    assert not any(name.startswith("network.art") and ".layers." in name for name in state)


def test_a_copy_shares_its_own_transformer_and_not_the_originals() -> None:
    network = small()
    twin = copy.deepcopy(network)
    first, last = twin.network.transformer_blocks()
    assert first.encoder is last.encoder is twin.network.encoder
    assert first.encoder is not network.network.encoder


def test_a_network_moved_elsewhere_still_uses_the_weights_it_shows() -> None:
    network = small().double().eval()
    assert network.network.art[0].encoder.layers[0].mlp.widen.weight.dtype == torch.float64
    assert network(torch.rand(1, 1, 32, 32, 1, dtype=torch.float64)).dtype == torch.float64


def test_shapes_of_bottleneck_tokens_and_output_at_256() -> None:
    with torch.device("meta"):
        network = ResViT(1, 1).network.eval()
        slices = torch.empty(1, 1, 256, 256)
        features = network.encode(slices)
        block = network.art[0]
        tokens = block.attend(block.down(features))
        assert tuple(features.shape) == (1, 256, 64, 64)
        assert tuple(tokens.shape) == (1, 768, 16, 16)
        assert network(slices).shape == slices.shape
    for block in network.transformer_blocks():
        assert tuple(block.position.shape) == (1, 256, 768)


def test_position_tables_begin_at_zero_and_are_two() -> None:
    first, last = small().network.transformer_blocks()
    assert first.position is not last.position
    assert not first.position.any()
    assert not last.position.any()


def test_layer_norms_are_two_a_layer_and_one_with_the_originals_epsilon() -> None:
    with torch.device("meta"):
        network = ResViT(1, 1)
    norms = [module for module in network.modules() if isinstance(module, nn.LayerNorm)]
    assert len(norms) == 25
    assert {norm.eps for norm in norms} == {1e-6}


def test_images_are_normalised_by_batch_alone() -> None:
    with torch.device("meta"):
        network = ResViT(1, 1)
    kinds = {type(module) for module in network.modules() if "Norm" in type(module).__name__}
    assert kinds == {SliceNorm, nn.LayerNorm}
    assert issubclass(SliceNorm, nn.BatchNorm2d)
    assert {(n.eps, n.momentum, n.affine) for n in network.modules() if isinstance(n, SliceNorm)} == {(1e-5, 0.1, True)}


@pytest.mark.parametrize(
    ("make", "biased"),
    [
        (ResViT, {"network.decode.2.1", "network.art.0.embed", "network.art.5.embed"}),
        (ResCNN, {"network.decode.2.1"}),
    ],
)
def test_only_the_last_convolution_and_the_embeddings_have_a_bias(make: type[nn.Module], biased: set[str]) -> None:
    with torch.device("meta"):
        network = make(1, 1)
    convolutions = (nn.Conv2d, nn.ConvTranspose2d)
    found = {
        name for name, module in network.named_modules() if isinstance(module, convolutions) and module.bias is not None
    }
    assert found == biased


def test_dropout_follows_the_embedding_and_both_linear_maps_and_nothing_else() -> None:
    with torch.device("meta"):
        network = ResViT(1, 1).network
    places = {name for name, module in network.named_modules() if isinstance(module, nn.Dropout)}
    assert places == {"art.0.dropout", "art.5.dropout"} | {f"encoder.layers.{n}.mlp.dropout" for n in range(12)}
    assert {module.p for module in network.modules() if isinstance(module, nn.Dropout)} == {0.1}


def test_dropout_acts_in_training_alone() -> None:
    network, source = small(dropout=0.5), torch.rand(1, 1, *PLANE)
    assert torch.equal(network.eval()(source), network(source))
    network.train()
    assert not torch.equal(network(source), network(source))


def test_the_small_networks_of_the_transformer_begin_as_vit_does() -> None:
    torch.manual_seed(0)
    layer = ResViT(1, 1, PLANE, **{**SMALL, "dim": 96}).network.encoder.layers[0]
    bound = (6 / (96 + 384)) ** 0.5
    assert 0.98 * bound < layer.mlp.widen.weight.abs().max() <= bound
    assert 0 < layer.mlp.widen.bias.abs().max() < 1e-5
    assert layer.attention.query.bias.abs().max() > 1e-2


def test_tokens_are_laid_out_row_by_row() -> None:
    block = small(patch_size=(32, 64, 1)).network.art[0]
    assert tuple(block.position.shape) == (1, 2 * 4, 8)
    with torch.no_grad():
        block.position.copy_(torch.arange(8.0)[None, :, None].expand(1, 8, 8))
    assert block.positions((2, 4))[0, :, 0].tolist() == list(range(8))
    # Twice as many rows: the first column of the table, which is 0 and 4, is interpolated down the rows alone.
    assert block.positions((4, 4))[0, ::4, 0].tolist() == [0, 1, 3, 4]


def test_every_tensor_of_res_cnn_is_in_resvit_under_its_name() -> None:
    with torch.device("meta"):
        taken = ResCNN(1, 1).state_dict()
        into = ResViT(1, 1).state_dict()
    assert all(into[name].shape == tensor.shape for name, tensor in taken.items())
    trained = [name for name in taken if "running" not in name and "tracked" not in name]
    assert sum(taken[name].numel() for name in trained) == 11_370_881


def test_every_weight_learns() -> None:
    network = small().train()
    with torch.no_grad():
        for block in network.network.transformer_blocks():
            block.position.normal_()
    network(torch.rand(2, 1, *PLANE)).square().mean().backward()
    silent = {name for name, one in network.named_parameters() if one.grad is None or not one.grad.any()}
    # A constant added to all keys changes no softmax, so that nothing but rounding may reach it.
    assert all(name.endswith("key.bias") for name in silent)


def fraction(count: int) -> Tensor:
    """A fixed sequence in [-0.5, 0.5), float64."""
    values = torch.sin(12.9898 * torch.arange(1, count + 1, dtype=torch.float64)) * 43758.5453
    return values - values.floor() - 0.5


def fill(network: nn.Module) -> None:
    """Weights that depend on nothing but their own shape."""
    with torch.no_grad():
        for module in network.modules():
            for name, parameter in module.named_parameters(recurse=False):
                values = fraction(parameter.numel()).view_as(parameter)
                if isinstance(module, nn.BatchNorm2d | nn.LayerNorm):
                    parameter.fill_(1.0 if name == "weight" else 0.0)
                elif parameter.ndim in (1, 3):
                    parameter.copy_(0.1 * values)
                else:
                    parameter.copy_(values * (12 * len(parameter) / parameter.numel()) ** 0.5)


def test_res_cnn_computes_what_the_original_computes() -> None:
    network = ResCNN(1, 1).network.eval()
    fill(network)
    slices = (2 * fraction(128 * 160)).float().view(1, 1, 128, 160)
    with torch.no_grad():
        output = network(slices)
    assert output.mean().item() == pytest.approx(-0.095156, abs=1e-3)
    assert output.std().item() == pytest.approx(0.801279, abs=1e-3)
    found = output.flatten()[[0, 6826, 10240, 20479]].tolist()
    assert found == pytest.approx([-0.298256, 0.956762, -0.181325, 0.639451], abs=1e-3)


def test_attention_is_softmax_of_scaled_products_in_each_head() -> None:
    attention = small().network.encoder.layers[0].attention
    tokens = torch.rand(2, 5, 8)
    query, key, value = (
        part(tokens).view(2, 5, 2, 4).permute(0, 2, 1, 3) for part in (attention.query, attention.key, attention.value)
    )
    mixed = torch.softmax(query @ key.transpose(2, 3) / 4**0.5, dim=-1) @ value
    expected = attention.out(mixed.permute(0, 2, 1, 3).reshape(2, 5, 8))
    torch.testing.assert_close(attention(tokens), expected)


def test_the_transformers_output_stands_before_what_came_in() -> None:
    block = small().eval().network.art[0]
    features = torch.rand(1, 16, 8, 8)
    with torch.no_grad():
        block.compress.main[0].weight[:, 16:] = 0
        block.compress.skip[0].weight[:, 16:] = 0
        attended = block.up(block.attend(block.down(features)))
        joined = torch.cat((attended, torch.zeros_like(features)), dim=1)
        torch.testing.assert_close(block(features), block.residual(block.compress(joined)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"transformers": (1, 4)}, "from 1 to 3"),
        ({"transformers": (1, 1)}, "different numbers"),
        ({"transformers": ()}, "different numbers"),
        ({"heads": 3}, "does not divide by 3 heads"),
    ],
)
def test_options_that_do_not_fit_each_other_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**options)


def test_the_network_on_slices_is_at_hand_without_volumes() -> None:
    network = small().network
    assert isinstance(network, ResViTNetwork)
    assert network(torch.rand(2, 1, 48, 32)).shape == (2, 1, 48, 32)
