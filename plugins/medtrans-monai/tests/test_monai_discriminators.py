"""MONAI's discriminators: what they see, and that their answers are MONAI's own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from monai.networks import nets

import medtrans
from medtrans import ConfigError, SetupError
from medtrans.testing import build, options_of
from medtrans.types import DiscriminatorOutput, LossInputs

PATCH = {"channels": 2, "num_layers_d": 2}
SCALES = {"channels": 2, "num_layers_d": 1, "num_d": 3}


def make(name: str, sources: int = 1, targets: int = 1, side: int = 16, **options: Any) -> Any:
    facts = {"source_channels": sources, "target_channels": targets, "patch_size": (side, 2 * side, side)}
    torch.manual_seed(0)
    return build(medtrans.component("discriminator", f"monai:{name}"), "discriminator", options, facts)


def images(sources: int = 1, targets: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    return torch.rand(1, targets, 16, 16, 16, generator=draw), torch.rand(1, sources, 16, 16, 16, generator=draw)


@pytest.mark.parametrize("name", ["patch", "multi_scale_patch"])
def test_channels_and_dimensions_are_facts_and_all_else_of_monai_is_an_option(name: str) -> None:
    options = {
        option.name for option in options_of(medtrans.component("discriminator", f"monai:{name}"), "discriminator")
    }
    assert {"conditional", "channels", "num_layers_d", "kernel_size", "norm", "activation"} <= options
    assert not options & {"spatial_dims", "in_channels", "out_channels", "minimum_size_im", "source_channels"}


def test_the_last_of_monais_maps_are_the_logits_and_the_others_the_features() -> None:
    network, (image, source) = make("patch", **PATCH).eval(), images()
    output = network((image,), (source,))
    theirs = nets.PatchDiscriminator.forward(network, torch.cat((source, image), dim=1))
    assert isinstance(output, DiscriminatorOutput)
    assert torch.equal(output.logits[0], theirs[-1])
    assert len(output.features) == 1
    assert [feature.shape for feature in output.features[0]] == [one.shape for one in theirs[:-1]]


def test_every_scale_has_logits_and_features_finest_first() -> None:
    network, (image, source) = make("multi_scale_patch", **SCALES).eval(), images()
    output = network((image,), (source,))
    sides = [logits.shape[-1] for logits in output.logits]
    assert len(sides) == len(output.features) == 3
    assert sides == sorted(sides, reverse=True)
    assert [len(scale) for scale in output.features] == [2, 3, 4]


@pytest.mark.parametrize(("name", "options"), [("patch", PATCH), ("multi_scale_patch", SCALES)])
def test_the_source_is_seen_unless_the_discriminator_is_unconditional(name: str, options: dict[str, Any]) -> None:
    image, source = images(sources=2, targets=3)
    for conditional in (True, False):
        network = make(name, 2, 3, conditional=conditional, **options).eval()
        answers = [network((image,), (one,)).logits[0] for one in (source, source.flip(2))]
        assert torch.equal(*answers) != conditional


def test_a_patch_too_small_for_so_many_scales_is_an_error_that_says_so() -> None:
    with pytest.raises(SetupError, match="image size is too small"):
        make("multi_scale_patch", side=4, channels=2, num_layers_d=2, num_d=2)


def test_the_smallest_side_of_the_patch_decides_how_many_scales_there_may_be() -> None:
    make("multi_scale_patch", side=8, channels=2, num_layers_d=1, num_d=3)
    with pytest.raises(SetupError, match="image size is too small"):
        make("multi_scale_patch", side=8, channels=2, num_layers_d=1, num_d=4)


def test_least_squares_of_monai_are_those_of_medtrans_on_logits_above_zero() -> None:
    loss = build(medtrans.component("loss", "monai:patch_adversarial"), "loss", {}, {"levels": 1})
    real, fake = (DiscriminatorOutput((torch.full((2, 1, 2, 2, 2), value),)) for value in (0.8, 0.3))
    inputs = LossInputs((), (), (), None, real, fake, step=0, phase="generator")
    assert loss(inputs).item() == pytest.approx((0.3 - 1) ** 2)
    assert loss.discriminator_loss(inputs).item() == pytest.approx((0.3**2 + 0.2**2) / 2)
    nobody = LossInputs((), (), (), None, None, None, step=0, phase="generator")
    with pytest.raises(ConfigError, match="needs a discriminator"):
        loss(nobody)
