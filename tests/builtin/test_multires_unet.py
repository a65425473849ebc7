"""The multi-resolution discriminator: published sizes, one logit a voxel at every level, and what it is shown."""

from __future__ import annotations

import pytest
import torch

from medtrans.builtin.discriminators import MultiResUNet
from medtrans.types import pyramid


def small(**options) -> MultiResUNet:
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
    network = small(spectral_norm=True)
    normed = [name for name, _ in network.named_modules() if name.endswith("parametrizations.weight")]
    convs = [name for name, module in network.named_modules() if isinstance(module, torch.nn.Conv3d)]
    assert len(normed) == len(convs) - network.levels
    assert not any(name.startswith("heads") for name in normed)
    assert not list(small(spectral_norm=False).buffers())


def test_each_level_of_the_candidate_is_judged_itself() -> None:
    network, levels = small(), pyramid(torch.rand(1, 1, 16, 16, 16), 4)
    before = network(levels, ()).logits
    for changed in range(4):
        other = tuple(level + 1 if n == changed else level for n, level in enumerate(levels))
        assert not torch.equal(network(other, ()).logits[changed], before[changed])


def test_the_source_counts_only_when_conditional() -> None:
    candidate = pyramid(torch.rand(1, 1, 16, 16, 16), 4)
    sources = [torch.rand(1, 2, 16, 16, 16) for _ in range(2)]
    for conditional in (False, True):
        torch.manual_seed(0)
        network = MultiResUNet(2, 1, width=4, convs=1, conditional=conditional).eval()
        first, second = (network(candidate, pyramid(source, 1)).logits for source in sources)
        assert [torch.equal(a, b) for a, b in zip(first, second, strict=True)] == [not conditional] * 4
