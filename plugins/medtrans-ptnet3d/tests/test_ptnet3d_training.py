"""What PTNet3D is trained against: the discriminator at three scales, and losses on features."""

from __future__ import annotations

import logging
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.functional import avg_pool3d

import medtrans
from medtrans import ConfigError, SetupError
from medtrans.types import DiscriminatorOutput, LossInputs
from medtrans_ptnet3d.feature_matching import FeatureMatching
from medtrans_ptnet3d.multiscale_patchgan import MultiscalePatchGAN
from medtrans_ptnet3d.video_perceptual import STAGE_WEIGHTS, VideoPerceptual
from medtrans_ptnet3d.video_trunk import VideoTrunk


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def inputs_of(prediction: torch.Tensor, target: torch.Tensor, real=None, fake=None) -> LossInputs:
    return LossInputs((target,), (target,), (prediction,), None, real, fake, 0, "generator")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with torchvision's names, its classifier included, of a network that saw no video."""
    torch.manual_seed(0)
    trunk = VideoTrunk()
    state = {**trunk.state_dict(), "fc.weight": torch.zeros(400, 512), "fc.bias": torch.zeros(400)}
    for name, tensor in state.items():
        if name.endswith("running_mean"):
            tensor.normal_(std=0.1)
    file = tmp_path_factory.mktemp("weights") / "r3d_18.pth"
    torch.save(state, file)
    return file


def test_the_discriminator_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        network = medtrans.component("discriminator", "ptnet3d:multiscale_patchgan").factory(1, 1)
    assert parameters(network) == 7_939_395
    assert [parameters(one) for one in network.networks] == [2_646_465] * 3
    one = network.networks[0]
    assert [parameters(part) for part in (*one.blocks, one.head)] == [8_256, 524_416, 2_097_408, 16_385]
    assert not list(network.buffers())


@pytest.mark.parametrize(
    ("sources", "targets", "ndf", "layers", "scales"), [(2, 1, 64, 2, 3), (1, 3, 8, 3, 2), (1, 1, 256, 4, 1)]
)
def test_other_sizes_have_the_number_of_parameters_that_follows(sources, targets, ndf, layers, scales) -> None:
    with torch.device("meta"):
        network = MultiscalePatchGAN(sources, targets, ndf=ndf, layers=layers, scales=scales)
    widths = [sources + targets, *(min(ndf * 2**n, 512) for n in range(layers + 1)), 1]
    assert parameters(network) == scales * sum(64 * a * b + b for a, b in pairwise(widths))


def test_three_scales_give_the_published_maps_at_64() -> None:
    with torch.device("meta"):
        image = (torch.empty(1, 1, 64, 64, 64),)
        output = MultiscalePatchGAN(1, 1)(image, image)
    assert [tuple(logit.shape[1:3]) for logit in output.logits] == [(1, 19), (1, 11), (1, 7)]
    assert [[tuple(feature.shape[1:3]) for feature in scale] for scale in output.features] == [
        [(64, 33), (128, 17), (256, 18)],
        [(64, 17), (128, 9), (256, 10)],
        [(64, 9), (128, 5), (256, 6)],
    ]


def test_its_convolutions_and_norms_are_as_published() -> None:
    torch.manual_seed(0)
    network = MultiscalePatchGAN(1, 1, ndf=16)
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv3d)]
    assert all(
        conv.bias is not None and conv.padding == (2, 2, 2) and conv.kernel_size[0] == 4 for conv in convolutions
    )
    assert [conv.stride[0] for conv in convolutions] == [2, 2, 1, 1] * 3
    assert all(conv.weight.std().item() == pytest.approx(0.02, rel=0.05) for conv in convolutions)
    for one in network.networks:
        assert [type(layer).__name__ for block in one.blocks for layer in block] == [
            "Conv3d", "LeakyReLU", "Conv3d", "InstanceNorm3d", "LeakyReLU", "Conv3d", "InstanceNorm3d", "LeakyReLU"
        ]  # fmt: skip
        assert {block[-1].negative_slope for block in one.blocks} == {0.2}
    norms = [module for module in network.modules() if isinstance(module, nn.InstanceNorm3d)]
    assert not any(norm.affine or norm.track_running_stats for norm in norms)


def test_the_coarser_scales_see_means_of_what_the_finer_ones_see_in_the_networks_range() -> None:
    torch.manual_seed(0)
    network = MultiscalePatchGAN(1, 1, ndf=2)
    source, candidate = torch.rand(2, 1, 1, 17, 16, 20)
    logits = network((candidate,), (source,)).logits
    image = torch.cat((source, candidate), dim=1) * 2 - 1
    for scale, one in enumerate(network.networks):
        image = avg_pool3d(image, 3, stride=2, padding=1, count_include_pad=False) if scale else image
        torch.testing.assert_close(logits[scale], one(image)[0])
    assert all((logit != other).any() for logit, other in zip(
        logits, network((candidate,), (source / 2,)).logits, strict=True
    ))  # fmt: skip


def test_feature_matching_sums_nine_terms_with_a_third_each() -> None:
    torch.manual_seed(0)
    network = MultiscalePatchGAN(1, 1, ndf=2)
    source, target, prediction = torch.rand(3, 1, 1, 16, 16, 16)
    real, fake = network((target,), (source,)), network((prediction,), (source,))
    terms = [
        (f - r).abs().mean() / 3
        for fs, rs in zip(fake.features, real.features, strict=True)
        for f, r in zip(fs, rs, strict=True)
    ]
    assert len(terms) == 9
    value = FeatureMatching()(inputs_of(prediction, target, real.detach(), fake))
    torch.testing.assert_close(value, torch.stack(terms).sum())
    assert FeatureMatching()(inputs_of(target, target, real, real)) == 0


def test_feature_matching_leads_a_gradient_to_the_prediction_and_none_to_the_target() -> None:
    network = MultiscalePatchGAN(1, 1, ndf=2)
    source, target, prediction = (torch.rand(1, 1, 16, 16, 16, requires_grad=True) for _ in range(3))
    real, fake = network((target,), (source,)), network((prediction,), (source,))
    FeatureMatching()(inputs_of(prediction, target, real, fake)).backward()
    assert target.grad is None
    assert prediction.grad is not None
    assert prediction.grad.abs().sum() > 0


def test_feature_matching_says_what_it_needs() -> None:
    image = torch.rand(1, 1, 4, 4, 4)
    bare = DiscriminatorOutput((image,), ((),))
    for output in (None, bare, DiscriminatorOutput((image,))):
        with pytest.raises(ConfigError, match="hands out features"):
            FeatureMatching()(inputs_of(image, image, output, output))


def test_lsgan_of_a_prediction_called_real_and_a_target_called_real_is_zero() -> None:
    loss = medtrans.component("loss", "lsgan").factory()
    ones, zeros = (torch.ones(1, 1, 2, 2, 2),) * 3, (torch.zeros(1, 1, 2, 2, 2),) * 3
    image = torch.rand(1, 1, 4, 4, 4)
    inputs = inputs_of(image, image, DiscriminatorOutput(ones), DiscriminatorOutput(ones))
    assert loss(inputs) == 0
    judged = inputs_of(image, image, DiscriminatorOutput(ones), DiscriminatorOutput(zeros))
    assert loss.discriminator_loss(judged) == 0


def test_the_video_network_is_the_stock_one() -> None:
    with torch.device("meta"):
        trunk = VideoTrunk()
        stages = trunk(torch.empty(1, 3, 16, 112, 112))
    assert parameters(trunk) == 33_371_472 - 400 * 512 - 400
    assert [tuple(stage.shape[1:]) for stage in stages] == [
        (64, 16, 56, 56), (128, 8, 28, 28), (256, 4, 14, 14), (512, 2, 7, 7)
    ]  # fmt: skip
    names = set(trunk.state_dict())
    assert {"stem.0.weight", "stem.1.running_var", "layer1.0.conv1.0.weight", "layer4.1.conv2.1.bias"} < names
    assert {name.partition(".downsample")[0] for name in names if "downsample" in name} == {
        "layer2.0", "layer3.0", "layer4.0"
    }  # fmt: skip
    assert trunk.layer2[0].downsample[0].kernel_size == (1, 1, 1)
    assert trunk.layer2[0].downsample[0].stride == trunk.layer2[0].conv1[0].stride == (2, 2, 2)
    assert not any(parameter.requires_grad for parameter in trunk.parameters())
    assert not any(module.training for module in trunk.train().modules())


def test_the_video_loss_compares_four_stages_with_their_weights(weights: Path) -> None:
    loss = VideoPerceptual(weights=weights)
    prediction, target = torch.rand(2, 2, 1, 16, 16, 16)
    trunk = VideoTrunk()
    trunk.load_state_dict({name: value for name, value in torch.load(weights).items() if not name.startswith("fc")})
    pairs = zip(*(trunk((2 * image - 1).repeat(1, 3, 1, 1, 1)) for image in (prediction, target)), strict=True)
    expected = sum(weight * (f - r).abs().mean() for weight, (f, r) in zip(STAGE_WEIGHTS, pairs, strict=True))
    assert STAGE_WEIGHTS == (1 / 16, 1 / 8, 1 / 4, 1)
    torch.testing.assert_close(loss(inputs_of(prediction, target)), expected)
    assert loss(inputs_of(target, target)) == 0


def test_the_video_loss_leads_a_gradient_to_the_prediction_alone_and_its_network_never_changes(weights: Path) -> None:
    loss = VideoPerceptual(weights=weights).train()
    before = {name: value.clone() for name, value in loss.state_dict().items()}
    prediction, target = (torch.rand(1, 1, 16, 16, 16, requires_grad=True) for _ in range(2))
    loss(inputs_of(prediction, target)).backward()
    assert target.grad is None
    assert prediction.grad is not None
    assert prediction.grad.abs().sum() > 0
    assert all(torch.equal(value, before[name]) for name, value in loss.state_dict().items())


def test_without_weights_the_video_loss_is_nothing_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="medtrans"):
        loss = VideoPerceptual()
    assert "this loss is 0 throughout" in caplog.text
    assert loss(inputs_of(torch.zeros(1, 1, 8, 8, 8), torch.ones(1, 1, 8, 8, 8))) == 0


def test_weights_may_also_be_safetensors(weights: Path, tmp_path: Path) -> None:
    file = tmp_path / "r3d_18.safetensors"
    save_file({name: value.contiguous() for name, value in torch.load(weights).items()}, file)
    state = VideoPerceptual(weights=file).trunk.state_dict()
    assert torch.equal(state["layer4.1.conv2.0.weight"], torch.load(weights)["layer4.1.conv2.0.weight"])


def test_a_file_of_weights_that_is_missing_broken_or_of_another_network_is_named(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no file at .*gone\.pth"):
        VideoPerceptual(weights=tmp_path / "gone.pth")
    broken = tmp_path / "broken.pth"
    broken.write_bytes(b"no weights")
    with pytest.raises(SetupError, match="cannot be read as network weights"):
        VideoPerceptual(weights=broken)
    state = torch.load(weights)
    del state["stem.0.weight"]
    state["layer1.0.conv1.0.weight"] = torch.zeros(1)
    other = tmp_path / "other.pth"
    torch.save(state, other)
    with pytest.raises(SetupError) as caught:
        VideoPerceptual(weights=other)
    assert len(caught.value.faults) == 2
    assert "no tensor 'stem.0.weight'" in caught.value.faults[0]
    assert "layer1.0.conv1.0.weight has shape (1,), expected (64, 64, 3, 3, 3)" in caught.value.faults[1]


def test_loading_weights_leaves_the_global_random_state_alone(weights: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    VideoPerceptual(weights=weights)
    assert torch.equal(torch.rand(1), expected)
