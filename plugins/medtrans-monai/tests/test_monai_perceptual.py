"""The 3D perceptual loss compares MedicalNet's features of whole patches, with weights from a local file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from monai.networks.nets.resnet import ResNetFeatures

from medtrans import ConfigError, SetupError
from medtrans.types import LossInputs, pyramid
from medtrans_monai.medical_features import MedicalFeatures
from medtrans_monai.perceptual_3d import Perceptual3D


def inputs(prediction: torch.Tensor, target: torch.Tensor) -> LossInputs:
    return LossInputs((), pyramid(target, 1), pyramid(prediction, 1), None, None, None, step=0, phase="generator")


def noise(seed: int, *shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as MedicalNet's authors write them: names of data-parallel training, beside the epoch."""
    torch.manual_seed(5)
    state = ResNetFeatures("resnet10", pretrained=False).state_dict()
    file = tmp_path_factory.mktemp("medicalnet") / "resnet_10_23dataset.pth"
    torch.save({"epoch": 1, "state_dict": {f"module.{name}": value for name, value in state.items()}}, file)
    return file


def test_it_is_the_mean_difference_of_five_features_of_the_patch_in_the_targets_numbers(published: Path) -> None:
    network = ResNetFeatures("resnet10", pretrained=False)
    names = torch.load(published)["state_dict"]
    network.load_state_dict({name.removeprefix("module."): value for name, value in names.items()})
    network.eval()
    prediction, target = noise(0, 1, 1, 16, 17, 18), noise(1, 1, 1, 16, 17, 18)
    mine, theirs = (network((volume - target.mean()) / target.std()) for volume in (prediction, target))
    expected = sum((one - other).abs().mean() for one, other in zip(mine, theirs, strict=True)) / 5
    found = Perceptual3D(weights=str(published))(inputs(prediction, target))
    torch.testing.assert_close(found, expected)


def test_channels_are_scans_of_their_own_and_patches_do_not_change_each_other() -> None:
    loss = Perceptual3D(weights="random")
    prediction, target = noise(0, 2, 2, 16, 16, 16), noise(1, 2, 2, 16, 16, 16)
    apart = [
        loss(inputs(prediction[b : b + 1, c : c + 1], target[b : b + 1, c : c + 1])) for b in range(2) for c in range(2)
    ]
    torch.testing.assert_close(loss(inputs(prediction, target)), torch.stack(apart).mean())


def test_another_brightness_is_told_from_the_target_and_a_flat_patch_is_finite() -> None:
    loss = Perceptual3D(weights="random")
    target = noise(1, 1, 1, 16, 16, 16)
    assert loss(inputs(target + 0.1, target)) > 1e-3
    assert loss(inputs(target, target)) == 0
    assert torch.isfinite(loss(inputs(target, torch.full_like(target, 0.5))))


def test_the_gradient_reaches_the_prediction_and_the_network_never_changes(published: Path) -> None:
    loss = Perceptual3D(weights=str(published)).train()
    before = {name: tensor.clone() for name, tensor in loss.state_dict().items()}
    prediction = noise(0, 1, 1, 16, 16, 16).requires_grad_()
    loss(inputs(prediction, noise(1, 1, 1, 16, 16, 16))).backward()
    assert prediction.grad is not None
    assert prediction.grad.abs().sum() > 0
    assert not [parameter for parameter in loss.parameters() if parameter.requires_grad]
    assert all(torch.equal(tensor, before[name]) for name, tensor in loss.state_dict().items())


def test_untrained_weights_are_the_same_everywhere_are_warned_of_and_leave_the_global_state(
    caplog: pytest.LogCaptureFixture,
) -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    one = Perceptual3D(weights="random").state_dict()
    assert torch.equal(torch.rand(1), expected)
    assert "it is not perceptual" in caplog.text
    other = MedicalFeatures("random").state_dict()
    assert all(torch.equal(tensor, one[f"features.{name}"]) for name, tensor in other.items())


def test_a_file_that_is_missing_or_of_another_network_is_named(published: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"perceptual_3d: weights '.*gone.pth' is not 'random'"):
        Perceptual3D(weights=str(tmp_path / "gone.pth"))
    state = torch.load(published)
    del state["state_dict"]["module.conv1.weight"]
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(SetupError, match=r"no tensor 'conv1.weight'; expected MedicalNet's ResNet-10"):
        Perceptual3D(weights=str(tmp_path / "other.pth"))
