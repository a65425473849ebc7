"""Ea-GAN's discriminators: the published counts and sizes, and what each of the two is shown."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from eagan_probes import parameters, state_beside_parameters
from torch import nn

from medtrans_eagan.discriminator import EaGANDiscriminator
from medtrans_eagan.generator import EaGANGenerator
from medtrans_eagan.sobel import edges

META = torch.device("meta")


def on_meta(*channels: int, **options: object) -> EaGANDiscriminator:
    with META:
        return EaGANDiscriminator(*channels, **options)


@pytest.mark.parametrize(
    ("edge", "layers", "learnt", "kept"),
    [
        (False, 3, 11_053_761, 1_795),
        (True, 3, 11_057_857, 1_795),
        (False, 2, 2_647_233, 770),
        (True, 2, 2_651_329, 770),
    ],
)
def test_they_have_as_many_parameters_as_the_published_code(edge: bool, layers: int, learnt: int, kept: int) -> None:
    network = on_meta(1, 1, edge_in_discriminator=edge, layers=layers)
    assert parameters(network) == learnt
    assert state_beside_parameters(network) == kept


def test_the_whole_systems_have_the_published_size() -> None:
    with META:
        generator = parameters(EaGANGenerator(1, 1))
    assert generator + parameters(on_meta(1, 1)) == 178_326_210
    assert generator + parameters(on_meta(1, 1, edge_in_discriminator=True)) == 178_330_306


@pytest.mark.parametrize("edge", [False, True])
@pytest.mark.parametrize(("sources", "targets", "layers", "width"), [(1, 1, 3, 64), (2, 3, 1, 5), (3, 1, 4, 6)])
def test_counts_hold_at_other_channels_depths_and_widths(
    edge: bool, sources: int, targets: int, layers: int, width: int
) -> None:
    network = on_meta(sources, targets, edge_in_discriminator=edge, layers=layers, width=width)
    widths = [sources + targets * (2 if edge else 1)] + [width * min(2**layer, 8) for layer in range(layers + 1)] + [1]
    expected = sum(64 * before * after + after for before, after in pairwise(widths))
    assert parameters(network) == expected + 2 * sum(widths[2:-1])


def test_a_block_of_128_voxels_gives_a_map_of_19() -> None:
    image = (torch.empty(1, 1, 128, 128, 128, device=META),)
    output = on_meta(1, 1, edge_in_discriminator=True)(image, image)
    assert [logits.shape for logits in output.logits] == [(1, 1, 19, 19, 19)]
    assert [feature.shape[1] for feature in output.features[0]] == [64, 128, 256, 512]


def test_the_first_and_last_layer_have_no_norm_and_all_convolutions_have_a_bias() -> None:
    network = on_meta(1, 1)
    normed = [any(isinstance(one, nn.BatchNorm3d) for one in layer.modules()) for layer in network.body]
    assert normed == [False, True, True, True]
    convolutions = [one for one in network.modules() if isinstance(one, nn.Conv3d)]
    assert [one.stride[0] for one in convolutions] == [2, 2, 2, 1, 1]
    assert all(one.bias is not None and one.padding == (2, 2, 2) for one in convolutions)


def test_gea_sees_the_source_and_the_image_and_dea_the_images_edges_too() -> None:
    draw = torch.Generator().manual_seed(0)
    source, image = torch.rand(1, 2, 6, 6, 6, generator=draw), torch.rand(1, 1, 6, 6, 6, generator=draw)
    plain = EaGANDiscriminator(2, 1, width=2).seen(image, source)
    assert torch.equal(plain, torch.cat((2 * source - 1, 2 * image - 1), dim=1))
    with_edges = EaGANDiscriminator(2, 1, width=2, edge_in_discriminator=True).seen(image, source)
    assert torch.equal(with_edges, torch.cat((plain, edges(2 * image - 1)), dim=1))


def test_what_is_seen_is_what_the_first_layer_gets() -> None:
    network = EaGANDiscriminator(1, 1, width=2, edge_in_discriminator=True)
    got: list[torch.Tensor] = []
    network.body[0].register_forward_pre_hook(lambda _module, given: got.append(given[0]))
    image, source = torch.rand(1, 1, 16, 16, 16), torch.rand(1, 1, 16, 16, 16)
    network((image,), (source,))
    assert torch.equal(got[0], network.seen(image, source))


def test_only_the_finest_level_counts() -> None:
    network = EaGANDiscriminator(1, 1, width=2).eval()
    image, other = torch.rand(1, 1, 16, 16, 16), torch.rand(1, 1, 8, 8, 8)
    assert torch.equal(network((image, other), (image, other)).logits[0], network((image,), (image,)).logits[0])
