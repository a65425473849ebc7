"""The discriminators: published sizes, what a logit sees and is shown, and the features of a patch discriminator."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medtrans.builtin.discriminators import MultiResUNet, PatchGAN
from medtrans.types import pyramid


def multires(**options) -> MultiResUNet:
    torch.manual_seed(0)
    return MultiResUNet(1, 1, **{"width": 4, "convs": 1, **options}).eval()


def test_every_level_gets_a_logit_for_each_voxel_at_96() -> None:
    with torch.device("meta"):
        output = MultiResUNet(1, 1)(pyramid(torch.empty(1, 1, 96, 96, 96), 4), ())
    assert [tuple(logit.shape) for logit in output.logits] == [(1, 1, side, side, side) for side in (96, 48, 24, 12)]


@pytest.mark.parametrize(
    ("options", "count", "millions"),
    [({}, 578_364, 0.58), ({"convs": 2}, 395_020, 0.40), ({"convs": 2, "width": 16}, 1_571_092, 1.57)],
)
def test_published_sizes(options, count, millions) -> None:
    with torch.device("meta"):
        network = MultiResUNet(1, 1, **options)
    assert sum(parameter.numel() for parameter in network.parameters()) == count
    assert round(count / 1e6, 2) == millions


def test_spectral_norm_is_on_all_but_the_last_layer() -> None:
    network = multires(spectral_norm=True)
    normed = [name for name, _ in network.named_modules() if name.endswith("parametrizations.weight")]
    convs = [name for name, module in network.named_modules() if isinstance(module, torch.nn.Conv3d)]
    assert len(normed) == len(convs) - network.levels
    assert not any(name.startswith("heads") for name in normed)
    assert not list(multires(spectral_norm=False).buffers())


def test_each_level_of_the_candidate_is_judged_itself() -> None:
    network, levels = multires(), pyramid(torch.rand(1, 1, 16, 16, 16), 4)
    before = network(levels, ()).logits
    for changed in range(4):
        other = tuple(level + 1 if n == changed else level for n, level in enumerate(levels))
        assert not torch.equal(network(other, ()).logits[changed], before[changed])


def test_the_source_counts_only_when_conditional() -> None:
    candidate, sources = pyramid(torch.rand(1, 1, 16, 16, 16), 4), torch.rand(2, 1, 2, 16, 16, 16)
    for conditional in (False, True):
        networks = MultiResUNet(2, 1, width=4, convs=1, conditional=conditional), patchgan(2, conditional=conditional)
        for network in networks:
            first, second = (network.eval()(candidate, pyramid(source, 1)).logits for source in sources)
            assert {torch.equal(a, b) for a, b in zip(first, second, strict=True)} == {not conditional}


def patchgan(source: int = 1, target: int = 1, **options) -> PatchGAN:
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
    network = patchgan(layers=layers, width=1, conditional=False)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(0.1)  # so that no activation stops a gradient
    image = torch.ones(1, 1, 2 * cube, 2 * cube, 2 * cube, requires_grad=True)
    logits = network((image,), ()).logits[0]
    middle = logits.shape[2] // 2
    (gradient,) = torch.autograd.grad(logits[0, 0, middle, middle, middle], image)
    assert [len(gradient[0, 0].sum(dim=axes).nonzero()) for axes in ((1, 2), (0, 2), (0, 1))] == [cube] * 3


def test_without_source_channels_it_judges_candidates_alone() -> None:
    image = torch.rand(2, 3, 16, 16, 16)
    output = patchgan(0, 3)((image,), (torch.empty(2, 0, 16, 16, 16),))
    torch.testing.assert_close(output.logits[0], patchgan(0, 3, conditional=False)((image,), ()).logits[0])


def test_features_are_all_activations_and_only_level_0_is_looked_at() -> None:
    image, other = torch.rand(1, 1, 16, 16, 16), torch.rand(1, 1, 8, 8, 8)
    network = patchgan(conditional=False)
    output = network((image, other), ())
    assert [tuple(one.shape) for one in output.features[0]] == [(1, 4, 8, 8, 8), (1, 8, 4, 4, 4), (1, 16, 3, 3, 3)]
    assert [tuple(one.shape) for one in output.logits] == [(1, 1, 2, 2, 2)]
    torch.testing.assert_close(output.logits[0], network(pyramid(image, 1), ()).logits[0])
    # Nothing later may have written over a feature that a loss compares.
    torch.testing.assert_close(network.blocks[1](output.features[0][0]), output.features[0][1])
    torch.testing.assert_close(network.head(output.features[0][-1]), output.logits[0])


def test_it_takes_the_smallest_side_it_names_and_refuses_a_smaller_one() -> None:
    for norm in ("instance", "batch"):
        network = patchgan(norm=norm, layers=3, conditional=False).train()
        assert network((torch.rand(1, 1, 24, 25, 31),), ()).logits[0].shape == (1, 1, 1, 1, 1)
    with pytest.raises(ValueError, match=r"at least 24 voxels, found \(23, 32, 32\)"):
        network((torch.rand(1, 1, 23, 32, 32),), ())


@pytest.mark.parametrize(("norm", "kind"), [("instance", nn.InstanceNorm3d), ("batch", nn.BatchNorm3d)])
def test_all_blocks_but_the_first_are_normed(norm: str, kind: type[nn.Module]) -> None:
    normed = [any(isinstance(part, kind) for part in block) for block in patchgan(norm=norm, layers=3).blocks]
    assert normed == [False, True, True, True]
