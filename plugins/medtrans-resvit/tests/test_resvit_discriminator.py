"""The PatchGAN that ResViT is trained against."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

import medtrans
from medtrans_resvit.patchgan import PatchGAN2D


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("sources", "norm", "count", "kept"),
    [
        (1, "batch", 2_764_609, 1_795),
        (1, "instance", 2_763_713, 0),
        (2, "batch", 2_765_633, 1_795),
        (2, "instance", 2_764_737, 0),
    ],
)
def test_it_has_the_published_number_of_parameters(sources: int, norm: str, count: int, kept: int) -> None:
    with torch.device("meta"):
        network = medtrans.component("discriminator", "resvit:patchgan").factory(sources, 1, norm=norm)
    assert parameters(network) == count
    assert sum(buffer.numel() for buffer in network.buffers()) == kept


@pytest.mark.parametrize(
    ("sources", "targets", "ndf", "layers", "norm"),
    [(1, 2, 16, 3, "batch"), (2, 1, 8, 2, "instance"), (1, 1, 4, 5, "batch")],
)
def test_other_sizes_have_the_number_of_parameters_that_follows(sources, targets, ndf, layers, norm) -> None:
    with torch.device("meta"):
        network = PatchGAN2D(sources, targets, ndf=ndf, layers=layers, norm=norm)
    widths = [ndf * min(2**n, 8) for n in range(layers + 1)]
    each = [16 * a * b + (2 * b if norm == "batch" else b) for a, b in pairwise(widths)]
    assert parameters(network) == 16 * (sources + targets) * ndf + ndf + sum(each) + 16 * widths[-1] + 1


@pytest.mark.parametrize(("norm", "biases"), [("batch", 64), ("instance", 64 + 128 + 1)])
def test_the_one_of_voxels_judges_each_by_its_own_intensities(norm: str, biases: int) -> None:
    """Convolutions 2 to 64 to 128 to 1; batch normalisation takes the place of the last two biases."""
    network = medtrans.component("discriminator", "resvit:pixelgan").factory(1, 1, norm=norm)
    scaled = 2 * 128 if norm == "batch" else 0
    assert parameters(network) == 2 * 64 + 64 * 128 + 128 + biases + scaled
    source, candidate = torch.rand(1, 1, 6, 6, 2), torch.rand(1, 1, 6, 6, 2)
    changed = candidate.clone()
    changed[0, 0, 2, 3, 1] += 0.5
    network.eval()
    if norm == "batch":
        moved = network((candidate,), (source,)).logits[0] - network((changed,), (source,)).logits[0]
        assert moved.shape == candidate.shape
        assert torch.nonzero(moved).tolist() == [[0, 0, 2, 3, 1]]


def test_slices_of_256_get_30_x_30_logits_each() -> None:
    with torch.device("meta"):
        network = PatchGAN2D(2, 1)
        output = network((torch.empty(2, 1, 256, 256, 3),), (torch.empty(2, 2, 256, 256, 3),))
    assert [tuple(logit.shape) for logit in output.logits] == [(2, 1, 30, 30, 3)]
    assert [tuple(feature.shape[1:3]) for feature in output.features[0]] == [
        (64, 128),
        (128, 64),
        (256, 32),
        (512, 31),
    ]


@pytest.mark.parametrize(("norm", "biased"), [("batch", [True, False, False, False]), ("instance", [True] * 4)])
def test_middle_convolutions_have_a_bias_only_where_the_norm_has_none(norm: str, biased: list[bool]) -> None:
    network = PatchGAN2D(1, 1, ndf=2, norm=norm)
    assert [block[0].bias is not None for block in network.blocks] == biased
    assert network.head.bias is not None
    assert [block[0].stride[0] for block in network.blocks] == [2, 2, 2, 1]
    assert [type(layer).__name__ for layer in network.blocks[0]] == ["Conv2d", "LeakyReLU"]
    assert {block[-1].negative_slope for block in network.blocks} == {0.2}


def test_weights_begin_as_pix2pix_does() -> None:
    torch.manual_seed(0)
    network = PatchGAN2D(1, 1, ndf=32)
    for block in network.blocks[1:]:
        assert block[0].weight.std().item() == pytest.approx(0.02, rel=0.05)
        assert block[1].weight.mean().item() == pytest.approx(1.0, abs=0.01)
        assert block[1].weight.std().item() == pytest.approx(0.02, rel=0.4)
        assert not block[1].bias.any()


def test_it_judges_each_slice_beside_its_source_in_the_networks_own_range() -> None:
    torch.manual_seed(0)
    network = PatchGAN2D(1, 1, ndf=2, plane="coronal").eval()
    source, candidate = torch.rand(1, 1, 32, 3, 32), torch.rand(1, 1, 32, 3, 32)
    logits = network((candidate,), (source,)).logits[0]
    assert tuple(logits.shape) == (1, 1, 2, 3, 2)
    alone = torch.cat((source, candidate), dim=1)[..., 1, :] * 2 - 1
    for block in network.blocks:
        alone = block(alone)
    torch.testing.assert_close(logits[..., 1, :], network.head(alone))
    assert not torch.allclose(network((candidate,), (source * 0.5,)).logits[0], logits)


def test_its_gradient_reaches_the_candidate() -> None:
    network = PatchGAN2D(1, 1, ndf=2)
    candidate = torch.rand(1, 1, 32, 32, 2, requires_grad=True)
    network((candidate,), (torch.rand(1, 1, 32, 32, 2),)).logits[0].square().mean().backward()
    assert candidate.grad is not None
    assert candidate.grad.abs().sum() > 0
