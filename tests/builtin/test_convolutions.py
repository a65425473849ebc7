"""Quick ways through convolutions: the same function, whatever way is taken."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from medtrans import MDAUNet, MultiResUNet, UNet
from medtrans.builtin import blocks
from medtrans.builtin.blocks import Conv3, conv_in_halves
from medtrans.training.build import in_channels_last

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}


def close(found: Tensor, wanted: Tensor) -> bool:
    return bool((found - wanted).norm() <= TOLERANCE[wanted.dtype] * wanted.norm())


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("sides", "bias"), [((2, 3, 4), True), ((6, 5, 4), False), ((8, 1, 3), True)])
def test_halves_give_value_and_gradients_of_the_whole(
    dtype: torch.dtype, sides: tuple[int, int, int], *, bias: bool
) -> None:
    torch.manual_seed(0)
    image = torch.randn(1, 3, *sides, dtype=dtype, requires_grad=True)
    weight = torch.randn(4, 3, 3, 3, 3, dtype=dtype, requires_grad=True)
    added = torch.randn(4, dtype=dtype, requires_grad=True) if bias else None
    found, wanted = conv_in_halves(image, weight, added), functional.conv3d(image, weight, added, padding=1)
    upstream = torch.randn_like(wanted)
    assert close(found, wanted)
    leaves = [image, weight, *([] if added is None else [added])]
    for one, other in zip(*(torch.autograd.grad(each, leaves, upstream) for each in (found, wanted)), strict=True):
        assert close(one, other)


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_networks_keep_their_function_gradients_and_names(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, *, channels_last: bool
) -> None:
    """Against the plain convolutions, with halves forced or forbidden."""

    def generator() -> nn.Module:
        return MDAUNet(1, 1, preset="tiny", width=4, growth=(2, 2))

    def discriminator() -> nn.Module:
        return MultiResUNet(1, 1, width=2, levels=2)

    image = torch.rand((1, 1, 8, 8, 8), generator=torch.Generator().manual_seed(0), dtype=dtype)
    for make in (generator, lambda: UNet(1, 1, width=4, levels=2), discriminator):
        results = []
        for quick in (False, True):
            monkeypatch.setattr(blocks, "SMALL", 10**9 if quick else 0)
            torch.manual_seed(0)
            network = make().to(dtype)
            names = list(network.state_dict())
            in_channels_last(network, channels_last and quick)
            output = network((image,), (image,)).logits if make is discriminator else network(image)
            levels = [output] if isinstance(output, Tensor) else output
            sum(level.square().mean() for level in levels).backward()
            assert list(network.state_dict()) == names
            results.append([*levels, torch.cat([parameter.grad.flatten() for parameter in network.parameters()])])
        for wanted, found in zip(*results, strict=True):
            assert close(found, wanted)


def test_small_single_images_are_not_left_to_the_plain_loop() -> None:
    layer = Conv3(4, 4)
    with torch.profiler.profile() as quick:
        layer(torch.rand(1, 4, 8, 8, 8))
    seen = {event.key for event in quick.key_averages()}
    assert "aten::slow_conv3d_forward" not in seen
    if torch.backends.mkldnn.is_available():
        assert "aten::mkldnn_convolution" in seen


@pytest.mark.parametrize(("wanted", "ordered"), [("auto", True), (True, True), (False, False)])
def test_features_keep_their_channels_beside_each_other(wanted: bool | str, *, ordered: bool) -> None:
    network = MDAUNet(1, 1, preset="tiny", width=4, growth=(2, 2))
    in_channels_last(network, wanted)
    seen = []
    for module in network.modules():
        if isinstance(module, nn.Conv3d) and module.in_channels > 2:
            module.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0]))
    network(torch.rand(2, 1, 8, 8, 8))
    silent = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.Conv3d(4, 4, 3, padding=1))  # asks for nothing itself
    in_channels_last(silent, wanted)
    last = silent(torch.rand(2, 1, 4, 4, 4)).is_contiguous(memory_format=torch.channels_last_3d)
    assert last == (wanted is True)
    wide = [one for one in seen if one[0, 0].numel() > 1]
    assert wide
    assert all(one.is_contiguous(memory_format=torch.channels_last_3d) == ordered for one in wide)
