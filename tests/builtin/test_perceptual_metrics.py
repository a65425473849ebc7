"""Perceptual distances on slices of three planes, against features evaluated layer by layer."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn.functional import conv2d, max_pool2d

from medtrans.builtin.losses.vgg import VGG16, VGG19
from medtrans.builtin.metrics.perceptual import LPIPS, PerceptualDistance
from medtrans.errors import ConfigError, DataError, SetupError
from medtrans.plugins.interfaces import DetailedMetric, Surroundings

SPACING_MM = (1.0, 1.0, 1.0)
SHAPE = (17, 16, 18)
MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)


def pair(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    target = 3000 * rng.random(SHAPE, dtype=np.float32) - 1000
    return np.clip(target + 300 * rng.standard_normal(SHAPE, dtype=np.float32), -1000, 2000), target


def slices(volume: np.ndarray, axis: int) -> torch.Tensor:
    return torch.stack([torch.tensor(volume.take(one, axis)).repeat(3, 1, 1) for one in range(volume.shape[axis])])


@pytest.fixture
def perceptual() -> PerceptualDistance:
    return PerceptualDistance(3000.0, -1000.0, weights="random", taps=("relu1_2", "relu2_1"))


@pytest.fixture
def lpips_files(tmp_path: Path) -> tuple[Path, Path]:
    generator = torch.Generator().manual_seed(1)
    trunk, linear = tmp_path / "vgg16.pth", tmp_path / "vgg.pth"
    torch.save(VGG16(("relu5_3",)).state_dict(), trunk)
    widths = enumerate((64, 128, 256, 512, 512))
    weights = {f"lin{one}.model.1.weight": torch.rand((1, width, 1, 1), generator=generator) for one, width in widths}
    torch.save(weights, linear)
    return trunk, linear


def test_the_distance_is_the_mean_over_planes_of_that_of_features(perceptual: PerceptualDistance) -> None:
    prediction, target = pair()
    network = VGG19(("relu1_2", "relu2_1"))
    expected = {}
    with torch.no_grad():
        for axis, plane in enumerate("ijk"):
            one, other = (
                network(((slices(volume, axis) + 1000) / 3000 - MEAN) / STD) for volume in (prediction, target)
            )
            expected[plane] = float(np.mean([(a - b).abs().mean() for a, b in zip(one, other, strict=True)]))
    found = perceptual.scores(prediction, target, None, SPACING_MM, Surroundings())
    assert {plane: found[plane] for plane in "ijk"} == pytest.approx(expected, rel=1e-4)
    assert found[""] == pytest.approx(np.mean(list(expected.values())), rel=1e-4)
    assert set(found) == {"", *perceptual.parts}


def test_the_definition_names_the_network_its_weights_and_the_range(tmp_path: Path) -> None:
    definition = PerceptualDistance(3000.0, -1000.0, weights="random", taps=("relu1_1",)).definition
    assert [part for part in ("random weights", "relu1_1", "[-1000, 2000]") if part not in definition] == []
    file = tmp_path / "own.safetensors"
    save_file(VGG19(("relu1_1",)).state_dict(), file)
    own = PerceptualDistance(1.0, 0.0, weights=str(file), taps=("relu1_1",))
    assert re.search(r"VGG-19 \(weights of SHA-256 [0-9a-f]{8}\)", own.definition)
    with pytest.raises(ConfigError, match="perceptual distance: weights 'nowhere' is neither"):
        PerceptualDistance(1.0, 0.0, weights="nowhere")


def test_lpips_is_the_weighted_distance_of_unit_features_layer_by_layer(lpips_files: tuple[Path, Path]) -> None:
    prediction, target = pair()
    trunk, linear = (torch.load(file, weights_only=True) for file in lpips_files)
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])

    def features(images: torch.Tensor) -> list[torch.Tensor]:
        images = (images - shift.view(1, 3, 1, 1)) / scale.view(1, 3, 1, 1)
        found, number = [], 0
        for stage, count in enumerate((2, 2, 3, 3, 3)):
            if stage:
                images, number = max_pool2d(images, 2), number + 1
            for _ in range(count):
                name = f"features.{number}"
                images = conv2d(images, trunk[f"{name}.weight"], trunk[f"{name}.bias"], padding=1).relu()
                number += 2
            found.append(images / (images.norm(dim=1, keepdim=True) + 1e-10))
        return found

    expected = {}
    with torch.no_grad():
        for axis, plane in enumerate("ijk"):
            one, other = (features(2 * (slices(volume, axis) + 1000) / 3000 - 1) for volume in (prediction, target))
            layers = [
                conv2d((a - b) ** 2, linear[f"lin{layer}.model.1.weight"]).mean(dim=(1, 2, 3))
                for layer, (a, b) in enumerate(zip(one, other, strict=True))
            ]
            expected[plane] = float(torch.stack(layers).sum(dim=0).mean())
    metric = LPIPS(3000.0, -1000.0, trunk=lpips_files[0], linear=lpips_files[1])
    found = metric.scores(prediction, target, None, SPACING_MM, Surroundings())
    assert {plane: found[plane] for plane in "ijk"} == pytest.approx(expected, rel=1e-4)
    assert found[""] == pytest.approx(np.mean(list(expected.values())), rel=1e-4)
    assert metric(target, target, None, SPACING_MM) == 0


def test_lpips_needs_both_files_and_says_what_is_wrong_with_them(
    lpips_files: tuple[Path, Path], tmp_path: Path
) -> None:
    trunk, linear = lpips_files
    with pytest.raises(ConfigError) as missing:
        LPIPS(1.0, 0.0, trunk=tmp_path / "a.pth", linear=tmp_path / "b.pth")
    assert [fault.partition(":")[0] for fault in missing.value.faults] == ["lpips", "lpips"]
    with pytest.raises(SetupError) as wrong:
        LPIPS(1.0, 0.0, trunk=trunk, linear=trunk)
    assert len(wrong.value.faults) == 5
    assert "no tensor 'lin0.model.1.weight'; expected LPIPS 0.1's linear layers" in wrong.value.faults[0]
    with pytest.raises(SetupError, match="expected torchvision's VGG-16"):
        LPIPS(1.0, 0.0, trunk=linear, linear=linear)


@pytest.mark.parametrize("kind", ["perceptual", "lpips"])
def test_outside_the_mask_nothing_counts_and_what_does_not_fit_is_refused(
    kind: str, perceptual: PerceptualDistance, lpips_files: tuple[Path, Path]
) -> None:
    metric: DetailedMetric = perceptual
    if kind == "lpips":
        metric = LPIPS(3000.0, -1000.0, trunk=lpips_files[0], linear=lpips_files[1])
    prediction, target = pair()
    mask = np.zeros(SHAPE, bool)
    mask[3:9, 2:14, 4:16] = True
    before = metric(prediction, target, mask, SPACING_MM)
    prediction[~mask] = 1234
    assert before > 0
    assert metric(prediction, target, mask, SPACING_MM) == pytest.approx(before)
    assert metric(target, target, mask, SPACING_MM) == 0
    with pytest.raises(DataError, match=r"slices of at least \d+ voxels a side but the volume has \(17, 16, 1\)"):
        metric(prediction[..., :1], target[..., :1], None, SPACING_MM)
