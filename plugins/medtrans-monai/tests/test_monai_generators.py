"""MONAI's networks as generators: they are MONAI's own, with its options, and say what sides they take."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from monai.networks import nets
from torch import nn

import medtrans
from medtrans import SetupError
from medtrans.testing import build, options_of

META = torch.device("meta")

SMALL: dict[str, dict[str, Any]] = {
    "unet": {"channels": (2, 4, 8), "strides": (2, 2)},
    "attention_unet": {"channels": (2, 4, 8), "strides": (2, 2)},
    "dynunet": {"kernel_size": (3, 3, 3), "strides": (1, 2, 2), "upsample_kernel_size": (2, 2), "filters": (2, 4, 4)},
    "segresnet": {},
    "swin_unetr": {"feature_size": 12},
    "autoencoder_kl": {
        "channels": (4, 4),
        "attention_levels": (False, False),
        "norm_num_groups": 2,
        "num_res_blocks": 1,
    },
}
MONAI_CLASS = {
    "unet": nets.UNet,
    "attention_unet": nets.AttentionUnet,
    "dynunet": nets.DynUNet,
    "segresnet": nets.SegResNet,
    "swin_unetr": nets.SwinUNETR,
    "autoencoder_kl": nets.AutoencoderKL,
}
NOT_OFFERED = {
    "dynunet": {"deep_supervision", "deep_supr_num"},
    "swin_unetr": {"patch_size", "norm_layer"},
}


def on_meta(name: str, sources: int = 1, targets: int = 1, **options: Any) -> Any:
    """A generator as a run makes it, told the facts that medtrans offers."""
    facts = {"in_channels": sources, "out_channels": targets, "patch_size": (64, 64, 64)}
    component = medtrans.component("generator", f"monai:{name}")
    return build(component, "generator", {**SMALL[name], **options}, facts).to(META)


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("name", SMALL)
def test_every_parameter_of_monais_network_is_an_option_unless_it_is_set_here(name: str) -> None:
    options = options_of(medtrans.component("generator", f"monai:{name}"), "generator")
    theirs = inspect.signature(MONAI_CLASS[name]).parameters
    expected = set(theirs) - {"spatial_dims", "in_channels", "out_channels"} - NOT_OFFERED.get(name, set())
    assert {option.name for option in options} == expected
    assert all(option.default == theirs[option.name].default for option in options)
    assert all(option.doc for option in options)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("channels", [(1, 1), (2, 3)])
def test_a_generator_is_monais_network_of_the_same_size(name: str, channels: tuple[int, int]) -> None:
    in_3d = {} if name == "swin_unetr" else {"spatial_dims": 3}
    theirs = MONAI_CLASS[name](in_channels=channels[0], out_channels=channels[1], **in_3d, **SMALL[name])
    ours = on_meta(name, *channels)
    assert isinstance(ours, MONAI_CLASS[name])
    assert parameters(ours) == parameters(theirs)


@pytest.mark.parametrize(
    ("name", "options", "multiple"),
    [
        ("unet", {}, (4, 4, 4)),
        ("unet", {"channels": (2, 4, 8, 8), "strides": (1, 2, 4)}, (8, 8, 8)),
        ("attention_unet", {}, (4, 4, 4)),
        ("attention_unet", {"channels": (2, 4), "strides": (2,)}, (2, 2, 2)),
        ("dynunet", {}, (4, 4, 4)),
        ("dynunet", {"strides": (1, (2, 2, 1), 2), "upsample_kernel_size": ((2, 2, 1), 2)}, (4, 4, 2)),
        ("segresnet", {}, 8),
        ("segresnet", {"blocks_down": (1, 1), "blocks_up": (1,)}, 2),
        ("swin_unetr", {}, 32),
        ("autoencoder_kl", {}, 2),
        (
            "autoencoder_kl",
            {"channels": (4, 4, 4), "attention_levels": (False, False, False), "num_res_blocks": 1},
            4,
        ),
    ],
)
def test_multiple_is_the_least_that_keeps_the_size(name: str, options: dict[str, Any], multiple: Any) -> None:
    network = on_meta(name, **options)
    assert network.multiple == multiple
    numbers = (multiple,) * 3 if isinstance(multiple, int) else multiple
    sides = tuple(4 * number for number in numbers) if name != "swin_unetr" else (64, 64, 64)
    assert network(torch.empty(1, 1, *sides, device=META)).shape == (1, 1, *sides)
    for axis in range(3):
        short = [side - (numbers[axis] // 2 if along == axis else 0) for along, side in enumerate(sides)]
        if numbers[axis] > 1:
            with pytest.raises((RuntimeError, ValueError, AssertionError)):
                assert network(torch.empty(1, 1, *short, device=META)).shape == (1, 1, *short)


def test_surplus_strides_of_a_unet_do_not_count_as_monai_does_not_use_them() -> None:
    with pytest.warns(UserWarning, match="will not be used"):
        network = on_meta("unet", channels=(2, 4), strides=(2, 2))
    assert network.multiple == (2, 2, 2)


def test_the_fact_patch_size_is_not_taken_for_a_token_of_swin_unetr() -> None:
    assert on_meta("swin_unetr").patch_size == 2


def test_autoencoder_kl_translates_by_the_latent_mean_without_chance() -> None:
    torch.manual_seed(0)
    network = medtrans.component("generator", "monai:autoencoder_kl").factory(1, 1, **SMALL["autoencoder_kl"])
    source = torch.rand(1, 1, 8, 8, 8)
    network.train()
    mean, _ = network.encode(source)
    assert torch.equal(network(source), network.decode(mean))
    frozen = [name for name, parameter in network.named_parameters() if not parameter.requires_grad]
    assert frozen == ["quant_conv_log_sigma.conv.weight", "quant_conv_log_sigma.conv.bias"]


def test_what_monai_refuses_is_told_as_a_fault_of_the_setup() -> None:
    with pytest.raises(SetupError, match=r"unet could not be built: .*strides"):
        on_meta("unet", strides=(2,))
