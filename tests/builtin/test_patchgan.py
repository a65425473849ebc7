"""The patch discriminator: published size and cube, what it is shown, and its features."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medtrans.builtin.discriminators import PatchGAN
from medtrans.types import pyramid


def small(source: int = 1, target: int = 1, **options) -> PatchGAN:
    torch.manual_seed(0)
    return PatchGAN(source, target, **{"width": 4, "layers": 2, "norm": "none", **options}).eval()


def conv(cin: int, cout: int) -> int:
    return cin * cout * 4**3 + cout


@pytest.mark.parametrize(("source", "target", "width"), [(1, 1, 64), (3, 2, 8)])
def test_it_has_the_weights_of_pix2pix_in_3d(source: int, target: int, width: int) -> None:
    with torch.device("meta"):
        network = PatchGAN(source, target, width=width)
    w = width
    convs = conv(source + target, w) + conv(w, 2 * w) + conv(2 * w, 4 * w) + conv(4 * w, 8 * w) + conv(8 * w, 1)
    norms = 2 * (2 * w + 4 * w + 8 * w)
    assert sum(parameter.numel() for parameter in network.parameters()) == convs + norms


@pytest.mark.parametrize(("layers", "cube"), [(1, 16), (2, 34), (3, 70)])
def test_a_logit_sees_a_cube_of_the_published_size(layers: int, cube: int) -> None:
    network = small(layers=layers, width=1, conditional=False)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(0.1)  # so that no activation stops a gradient
    image = torch.ones(1, 1, 2 * cube, 2 * cube, 2 * cube, requires_grad=True)
    logits = network((image,), ()).logits[0]
    middle = logits.shape[2] // 2
    (gradient,) = torch.autograd.grad(logits[0, 0, middle, middle, middle], image)
    assert [len(gradient[0, 0].sum(dim=axes).nonzero()) for axes in ((1, 2), (0, 2), (0, 1))] == [cube] * 3


def test_the_source_counts_only_when_conditional() -> None:
    candidate = (torch.rand(1, 1, 16, 16, 16),)
    sources = [torch.rand(1, 2, 16, 16, 16) for _ in range(2)]
    for conditional in (False, True):
        network = small(2, conditional=conditional)
        first, second = (network(candidate, (source,)).logits[0] for source in sources)
        assert torch.equal(first, second) == (not conditional)


def test_without_source_channels_it_judges_candidates_alone() -> None:
    image = torch.rand(2, 3, 16, 16, 16)
    output = small(0, 3)((image,), (torch.empty(2, 0, 16, 16, 16),))
    torch.testing.assert_close(output.logits[0], small(0, 3, conditional=False)((image,), ()).logits[0])


def test_features_are_all_activations_and_only_level_0_is_looked_at() -> None:
    image, other = torch.rand(1, 1, 16, 16, 16), torch.rand(1, 1, 8, 8, 8)
    network = small(conditional=False)
    output = network((image, other), ())
    assert [tuple(one.shape) for one in output.features[0]] == [(1, 4, 8, 8, 8), (1, 8, 4, 4, 4), (1, 16, 3, 3, 3)]
    assert [tuple(one.shape) for one in output.logits] == [(1, 1, 2, 2, 2)]
    torch.testing.assert_close(output.logits[0], network(pyramid(image, 1), ()).logits[0])
    # Nothing later may have written over a feature that a loss compares.
    torch.testing.assert_close(network.blocks[1](output.features[0][0]), output.features[0][1])
    torch.testing.assert_close(network.head(output.features[0][-1]), output.logits[0])


def test_it_takes_the_smallest_side_it_names_and_refuses_a_smaller_one() -> None:
    for norm in ("instance", "batch"):
        network = small(norm=norm, layers=3, conditional=False).train()
        assert network((torch.rand(1, 1, 24, 25, 31),), ()).logits[0].shape == (1, 1, 1, 1, 1)
    with pytest.raises(ValueError, match=r"at least 24 voxels, found \(23, 32, 32\)"):
        network((torch.rand(1, 1, 23, 32, 32),), ())


@pytest.mark.parametrize(("norm", "kind"), [("instance", nn.InstanceNorm3d), ("batch", nn.BatchNorm3d)])
def test_all_blocks_but_the_first_are_normed(norm: str, kind: type[nn.Module]) -> None:
    normed = [any(isinstance(part, kind) for part in block) for block in small(norm=norm, layers=3).blocks]
    assert normed == [False, True, True, True]
