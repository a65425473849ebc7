"""The plain U-Net: its published size, what it reads and writes, and what its options change."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medtrans.builtin.generators.unet import UNet


def small(in_channels: int = 1, out_channels: int = 1, **options) -> UNet:
    torch.manual_seed(0)
    return UNet(in_channels, out_channels, **{"width": 4, "levels": 3, **options})


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def conv(cin: int, cout: int, side: int) -> int:
    return cin * cout * side**3 + cout


@pytest.mark.parametrize(("cin", "cout", "width"), [(1, 1, 64), (2, 3, 16)])
def test_without_added_convolutions_it_has_the_weights_of_pix2pix_in_3d(cin: int, cout: int, width: int) -> None:
    w = width
    with torch.device("meta"):
        network = UNet(cin, cout, width=w, levels=5, convs=0)
    encoders = conv(cin, w, 4) + conv(w, 2 * w, 4) + conv(2 * w, 4 * w, 4) + conv(4 * w, 8 * w, 4)
    encoders += conv(8 * w, 8 * w, 4)
    decoders = conv(8 * w, 8 * w, 4) + conv(16 * w, 4 * w, 4) + conv(8 * w, 2 * w, 4) + conv(4 * w, w, 4)
    norms = 2 * (2 * w + 4 * w + 8 * w) + 2 * (8 * w + 4 * w + 2 * w + w)
    assert parameters(network) == encoders + decoders + norms + conv(2 * w, cout, 4)


def test_a_side_that_its_multiple_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must divide by 8, found \(16, 12, 16\)"):
        small()(torch.rand(1, 1, 16, 12, 16))


def test_no_convolution_runs_at_full_resolution() -> None:
    network, seen = small(levels=2), []
    for module in network.modules():
        if isinstance(module, nn.Conv3d) and module.stride == (1, 1, 1):
            module.register_forward_hook(lambda _module, _inputs, output: seen.append(max(output.shape[2:])))
    network(torch.rand(1, 1, 16, 16, 16))
    assert seen
    assert max(seen) == 8


def test_the_absolute_intensity_reaches_the_output() -> None:
    """A norm on every layer would make an image and the same image made brighter indistinguishable."""
    network = small(norm="instance").eval()
    dark = torch.rand(1, 1, 16, 16, 16)
    with torch.no_grad():
        assert not torch.allclose(network(dark), network(dark + 0.5), atol=1e-3)


def test_residual_begins_as_the_source_and_learns() -> None:
    network = small(2, 2, residual=True)
    source = torch.rand(1, 2, 8, 8, 8)
    output = network(source)
    torch.testing.assert_close(output, source, rtol=0, atol=0)
    output.square().sum().backward()
    assert float(network.head.weight.grad.abs().max()) > 0


def test_residual_needs_as_many_outputs_as_inputs() -> None:
    with pytest.raises(ValueError, match="found 2 sources and 1 targets"):
        small(2, 1, residual=True)
