"""Label maps as targets, the losses and the method that learn them, and the scores of what they give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from medtrans.builtin.losses.segmentation import CrossEntropy, SoftDice
from medtrans.builtin.methods.segmentation import SegmentationMethod
from medtrans.builtin.metrics.segmentation import HD95, Dice
from medtrans.builtin.transforms import Labels, Percentile
from medtrans.data.preprocessing import Preprocessing
from medtrans.errors import ConfigError
from medtrans.plugins.interfaces import Parts, WeightedLoss
from medtrans.plugins.optimizers import Adam
from medtrans.types import Batch, LossInputs
from medtrans.volume import Volume
from tests.builtin.methods import parts_of

CLASSES = {"tumour": (1, 2, 4), "oedema": (7,)}


# The transform


def test_each_class_has_a_step_of_its_own_and_the_rest_is_background() -> None:
    labels = Labels(classes=CLASSES)
    scaled = labels.apply(np.array([[[0, 1, 2, 3, 4, 7, 99]]]), labels.fit(np.zeros((1, 1, 1)), None))
    np.testing.assert_array_equal(scaled, np.array([[[0, 0.5, 0.5, 0, 0.5, 1, 0]]], dtype=np.float32))
    np.testing.assert_array_equal(labels.invert(scaled, {}), [[[0, 1, 1, 0, 1, 7, 0]]])


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_any_number_of_classes_comes_back_as_it_was(count: int, seed: int) -> None:
    labels = Labels(classes={f"class {number}": (3 * number,) for number in range(1, count + 1)})
    volume = 3 * np.random.default_rng(seed).integers(0, count + 1, (4, 5, 6))
    np.testing.assert_array_equal(labels.invert(labels.apply(volume, {}), {}), volume)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ({}, "no class"),
        ({"a": ()}, "a has no label"),
        ({"a": (0, 1)}, "0 is the background"),
        ({"a": (1,), "b": (1,)}, "1 stands in two classes"),
    ],
)
def test_classes_that_cannot_be_are_refused(classes: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Labels(classes=classes)


def preprocessing(**options: Any) -> Preprocessing:
    return Preprocessing(
        ("t1",), ("labels",), {"t1": Percentile(), "labels": Labels(classes={"a": (1,), "b": (2,)})}, **options
    )


def test_labels_are_never_interpolated_on_the_way_in_or_out() -> None:
    rng = np.random.default_rng(0)
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    image = Volume(rng.random((12, 11, 10)).astype(np.float32), affine)
    coarse = Volume(rng.integers(0, 3, (5, 5, 5)).astype(np.uint8), np.diag([5.0, 5.0, 5.0, 1.0]))
    steps = preprocessing(spacing_mm=(1.5, 1.5, 1.5), crop="none")
    prepared = steps.prepare({"t1": image, "labels": coarse})
    assert set(np.unique(prepared.target)) <= {0.0, 0.5, 1.0}
    assert set(np.unique(steps.to_native(np.asarray(prepared.target), prepared))) <= {0.0, 0.5, 1.0}


def test_a_case_without_any_label_is_sound_and_no_twin_of_another() -> None:
    image = Volume(np.random.default_rng(0).random((6, 6, 6)).astype(np.float32), np.eye(4))
    empty = Volume(np.zeros((6, 6, 6), dtype=np.uint8), np.eye(4))
    prepared = preprocessing().prepare({"t1": image, "labels": empty})
    assert prepared.target is not None
    assert not prepared.target.any()


# The losses


def inputs(logits: Tensor, target: Tensor) -> LossInputs:
    return LossInputs((logits[:, :1],), (target,), (logits,), None, None, None, 0, "generator")


def certain(classes: Tensor, count: int) -> Tensor:
    """Logits that give each voxel's class nearly all probability."""
    return 50 * nn.functional.one_hot(classes, count).movedim(-1, 1).float()


def test_losses_are_nothing_for_the_truth_and_much_for_its_opposite() -> None:
    classes = torch.randint(0, 3, (2, 4, 5, 6), generator=torch.Generator().manual_seed(0))
    target = classes[:, None].float() / 2
    right, wrong = certain(classes, 3), certain((classes + 1) % 3, 3)
    assert SoftDice()(inputs(right, target)) == pytest.approx(0, abs=1e-4)
    assert CrossEntropy()(inputs(right, target)) == pytest.approx(0, abs=1e-4)
    assert SoftDice()(inputs(wrong, target)) > 0.99
    assert CrossEntropy()(inputs(wrong, target)) == pytest.approx(50, abs=1e-3)


def test_soft_dice_is_one_minus_dice_where_probabilities_are_certain() -> None:
    truth = torch.zeros(1, 4, 4, 4, dtype=torch.long)
    truth[0, :2] = 1
    guess = torch.zeros_like(truth)
    guess[0, 1:3] = 1
    loss = SoftDice(smooth=1e-9)(inputs(certain(guess, 2), truth[:, None].float()))
    assert loss == pytest.approx(1 - Dice(label=1)(guess[0].numpy(), truth[0].numpy(), None, (1, 1, 1)), abs=1e-5)


# The method


def parts(make: Any, **changes: Any) -> Parts:
    losses = {"soft_dice": WeightedLoss(SoftDice(), 1.0), "cross_entropy": WeightedLoss(CrossEntropy(), 1.0)}
    optimizer = Adam(lr=1e-2)
    return parts_of(
        make_generator=make, losses=losses, make_optimizer=lambda params, _role: optimizer.make(params), **changes
    )


def conv(cin: int, cout: int) -> nn.Module:
    return nn.Sequential(nn.Conv3d(cin, 8, 3, padding=1), nn.ReLU(), nn.Conv3d(8, cout, 1))


def test_the_most_likely_class_is_decided_after_blending() -> None:
    method = SegmentationMethod(parts(conv), classes=2)
    shares = method.translate(torch.rand(2, 1, 4, 5, 6))
    torch.testing.assert_close(shares.sum(1), torch.ones(2, 4, 5, 6))
    blended = torch.tensor([0.2, 0.3, 0.5]).reshape(1, 3, 1, 1, 1)
    assert method.conclude(blended).item() == 1.0
    assert method.conclude(blended.flip(1)).item() == 0.0
    assert method.conclude(blended[:, [0, 2, 1]]).item() == 0.5


def test_it_learns_which_intensities_are_which_class() -> None:
    torch.manual_seed(0)
    method = SegmentationMethod(parts(conv), classes=2)
    source = torch.rand(2, 1, 8, 8, 8)
    target = (source > 0.4).float() / 2 + (source > 0.7).float() / 2
    for step in range(200):
        values = method.training_step(Batch(source, target, None, (1, 2)), step)
    assert values["soft_dice"] < 0.25
    found = method.conclude(method.translate(source))
    assert (found == target).float().mean() > 0.9


@pytest.mark.parametrize("last", [nn.Sigmoid, nn.Tanh, nn.ReLU])
def test_a_bounded_output_a_discriminator_and_a_second_target_are_refused(last: type[nn.Module]) -> None:
    with pytest.raises(ConfigError, match=f"ends in {last.__name__}"):
        SegmentationMethod(parts(lambda cin, cout: nn.Sequential(nn.Conv3d(cin, cout, 1), last())), classes=1)
    with pytest.raises(ConfigError) as error:
        SegmentationMethod(parts(conv, make_discriminator=conv, target_channels=2), classes=1)
    assert len(error.value.faults) == 2


# The scores


def ball(
    centre: tuple[float, float, float], radius: float, spacing: tuple[float, float, float] = (1, 1, 1)
) -> np.ndarray:
    i, j, k = np.ogrid[:30, :30, :30]
    place = [(axis - at) * step for axis, at, step in zip((i, j, k), centre, spacing, strict=True)]
    return (place[0] ** 2 + place[1] ** 2 + place[2] ** 2 <= radius**2).astype(np.uint8) * 17


def test_dice_of_known_overlaps() -> None:
    first, second = np.zeros((4, 4, 4)), np.zeros((4, 4, 4))
    first[:2], second[1:3] = 17, 17
    dice = Dice(label=17)
    assert dice(first, second, None, (1, 1, 1)) == 0.5
    assert dice(first, first, None, (1, 1, 1)) == 1.0
    assert dice(first, np.roll(first, 2, 0), None, (1, 1, 1)) == 0.0
    assert dice(first, second, np.arange(64).reshape(4, 4, 4) < 32, (1, 1, 1)) == pytest.approx(2 / 3)


def test_empty_regions_count_as_the_definitions_say() -> None:
    empty, full = np.zeros((3, 4, 12)), np.full((3, 4, 12), 17)
    assert Dice(label=17)(empty, empty, None, (1, 1, 1)) == 1.0
    assert Dice(label=17)(empty, full, None, (1, 1, 1)) == 0.0
    assert HD95(label=17)(empty, empty, None, (1, 1, 1)) == 0.0
    assert HD95(label=17)(empty, full, None, (1, 1, 1)) == 13.0
    assert HD95(label=17)(full, empty, None, (2, 2, 2)) == 26.0


def test_hd95_agrees_with_all_distances_between_the_surfaces() -> None:
    spacing = (1.0, 2.0, 0.5)
    first, second = ball((14, 12, 15), 8, spacing), ball((16, 13, 18), 9, spacing)

    def surface(labels: np.ndarray) -> np.ndarray:
        inside = np.pad(labels > 0, 1)
        shifted = [np.roll(inside, step, axis) for axis in range(3) for step in (1, -1)]
        border = inside & ~np.logical_and.reduce(shifted)
        return np.argwhere(border[1:-1, 1:-1, 1:-1]) * np.array(spacing)

    one, two = surface(first), surface(second)
    distances = np.linalg.norm(one[:, None] - two[None], axis=2)
    expected = max(np.percentile(distances.min(1), 95), np.percentile(distances.min(0), 95))
    assert HD95(label=17)(first, second, None, spacing) == pytest.approx(expected, abs=1e-9)
    assert HD95(label=17)(second, first, None, spacing) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("valid", [False, True])
def test_chunks_of_a_batch_learn_what_the_whole_batch_does(valid: bool) -> None:
    """Dice of a batch is no mean over its cases, nor is a mean over the voxels that have data."""
    draw = torch.Generator().manual_seed(0)
    source, kinds = (torch.rand((4, 1, 6, 6, 6), generator=draw) for _ in range(2))
    shares = torch.tensor([0.1, 0.4, 0.7, 1.0]).view(4, 1, 1, 1, 1)
    data = (kinds < shares).float() if valid else None
    found = []
    for accumulate in (1, 4):
        torch.manual_seed(0)
        method = SegmentationMethod(parts(conv, accumulate=accumulate), classes=2)
        target = (source > shares).float() / 2 + (kinds > 0.7).float() / 2
        method.training_step(Batch(source, target, None, (1, 2, 3, 4), valid=data), 0)
        found.append([parameter.grad for parameter in method.networks()["generator"].parameters()])
    for whole, chunked in zip(*found, strict=True):
        torch.testing.assert_close(chunked, whole, rtol=1e-4, atol=1e-7)
