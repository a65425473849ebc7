"""Volumes by slices: which plane, which neighbours, which size, and that all of it is undone exactly."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import medtrans
from medtrans_resvit.res_cnn import ResCNN
from medtrans_resvit.resvit import ResViT
from medtrans_resvit.slices import fit, neighbours, to_slices, to_volume, undo

TINY = {"ngf": 2, "blocks": 1}
AXES = {"sagittal": 2, "coronal": 3, "axial": 4}


class Seen(nn.Module):
    """Stands in for the network on slices: remembers what it was shown and gives its first channel back."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[Tensor] = []

    def forward(self, slices: Tensor) -> Tensor:
        self.shown.append(slices)
        return slices[:, slices.shape[1] // 2 : slices.shape[1] // 2 + 1]


def seeing(**options) -> ResCNN:
    generator = ResCNN(1, 1, **{"patch_size": (16, 16, 16), **TINY, **options}).eval()
    generator.network = Seen()
    return generator


@pytest.mark.parametrize("axis", [2, 3, 4])
def test_slices_of_a_volume_are_images_in_their_order_and_go_back(axis: int) -> None:
    volume = torch.rand(2, 3, 4, 5, 6)
    slices = to_slices(volume, axis)
    assert torch.equal(slices[volume.shape[axis] + 1], volume[1].select(axis - 1, 1))
    assert torch.equal(to_volume(slices, 2, axis), volume)


@pytest.mark.parametrize(("plane", "axis"), AXES.items())
def test_a_plane_folds_its_axis_and_says_what_it_needs_of_the_others(plane: str, axis: int) -> None:
    generator = seeing(plane=plane)
    volume = torch.rand(1, 1, 32, 48, 16)
    assert torch.allclose(generator(volume), volume)
    assert generator.network.shown[0].shape[2:] == volume.select(axis, 0).shape[2:]
    along = axis - 2
    assert generator.multiple == tuple(1 if place == along else 4 for place in range(3))
    assert generator.window == tuple(1 if place == along else None for place in range(3))


def test_axial_slices_are_the_default() -> None:
    generator = ResViT(1, 1, (32, 32, 1), ngf=2, dim=4, depth=1, heads=1, embed_channels=4)
    assert (generator.multiple, generator.window) == ((16, 16, 1), (None, None, 1))


def test_the_network_sees_the_range_from_minus_one_to_one_and_its_output_comes_back_to_zero_to_one() -> None:
    generator = seeing()
    volume = torch.zeros(1, 1, 16, 16, 2)
    volume[..., 1] = 1
    assert torch.equal(generator(volume), volume)
    assert [float(each.unique()) for each in generator.network.shown[0]] == [-1, 1]


def test_outputs_are_in_the_range_that_images_have() -> None:
    output = ResCNN(2, 3, (32, 32, 1), **TINY).eval()(torch.rand(2, 2, 32, 16, 3))
    assert tuple(output.shape) == (2, 3, 32, 16, 3)
    assert 0 <= output.min() < output.max() <= 1


@pytest.mark.parametrize("sides", [(10, 12), (33, 19), (70, 12), (71, 65)])
def test_padding_surrounds_and_cutting_keeps_the_middle_and_both_are_undone(sides: tuple[int, int]) -> None:
    slices = torch.rand(2, 1, *sides)
    fitted = fit(slices, (32, 48), "pad")
    assert tuple(fitted.shape) == (2, 1, 32, 48)
    back = undo(fitted, sides, "pad")
    inner = tuple(slice((side - kept) // 2, (side - kept) // 2 + kept) for side, kept in zip(
        sides, (min(sides[0], 32), min(sides[1], 48)), strict=True
    ))  # fmt: skip
    assert torch.equal(back[..., *inner], slices[..., *inner])
    assert float(back.min()) == (-1 if sides[0] > 32 or sides[1] > 48 else float(slices.min()))
    added = 32 * 48 - min(sides[0], 32) * min(sides[1], 48)
    assert int((fitted == -1).sum()) == 2 * added


def test_a_slice_is_padded_as_a_patch_larger_than_its_volume_is() -> None:
    fitted = fit(torch.zeros(1, 1, 13, 13), (16, 16), "pad")
    assert fitted[0, 0, 0, 8] == fitted[0, 0, 1, 8] == fitted[0, 0, 15, 8] == -1
    assert fitted[0, 0, 2, 8] == fitted[0, 0, 14, 8] == 0


@pytest.mark.parametrize("sides", [(20, 30), (64, 64), (100, 20)])
def test_resizing_reaches_the_size_and_comes_back_to_the_grid(sides: tuple[int, int]) -> None:
    ramp = torch.linspace(-1, 1, sides[1]).expand(1, 1, *sides)
    fitted = fit(ramp, (48, 64), "resize")
    assert tuple(fitted.shape) == (1, 1, 48, 64)
    assert fitted.abs().max() <= 1
    torch.testing.assert_close(undo(fitted, sides, "resize"), ramp, atol=0.08, rtol=0)


@pytest.mark.parametrize("how", ["pad", "resize"])
def test_with_a_size_of_its_own_any_volume_is_taken_and_the_network_always_sees_that_size(how: str) -> None:
    generator = seeing(img_size=(32, 48), fit=how)
    volume = torch.rand(1, 1, 21, 45, 3)
    output = generator(volume)
    assert generator.multiple == (1, 1, 1)
    assert tuple(generator.network.shown[0].shape) == (3, 1, 32, 48)
    assert output.shape == volume.shape
    if how == "pad":
        torch.testing.assert_close(output, volume)


def test_what_was_cut_off_comes_back_as_background() -> None:
    output = seeing(img_size=(16, 16))(torch.full((1, 1, 20, 16, 1), 0.75))
    assert output[0, 0, :, 0, 0].tolist() == [0, 0, *[0.75] * 16, 0, 0]


@pytest.mark.parametrize("how", ["pad", "resize"])
@pytest.mark.parametrize(("sides", "padded"), [((18, 16), (20, 16)), ((3, 21), (8, 24)), ((20, 12), (20, 12))])
def test_without_a_size_slices_that_do_not_divide_are_padded_until_they_do(how, sides, padded) -> None:
    generator = seeing(fit=how)
    volume = torch.rand(1, 1, *sides, 3)
    torch.testing.assert_close(generator(volume), volume)
    (shown,) = generator.network.shown
    assert tuple(shown.shape) == (3, 1, *padded)
    assert int((shown == -1).sum()) == 3 * (padded[0] * padded[1] - sides[0] * sides[1])


def test_the_smallest_slices_pass_through_both_networks() -> None:
    assert ResCNN(1, 1, (4, 4, 2), **TINY)(torch.rand(1, 1, 4, 4, 2)).shape == (1, 1, 4, 4, 2)
    resvit = ResViT(1, 1, (4, 4, 2), ngf=2, dim=4, depth=1, heads=1, embed_channels=4)
    assert resvit(torch.rand(1, 1, 4, 4, 2)).shape == (1, 1, 4, 4, 2)


def test_neighbouring_slices_become_channels_and_the_border_repeats() -> None:
    volume = torch.arange(4.0).expand(1, 2, 1, 1, 4) + torch.tensor([0.0, 10.0]).view(1, 2, 1, 1, 1)
    seen = neighbours(volume, 4, 3)
    assert seen[0, :, 0, 0, 0].tolist() == [0, 10, 0, 10, 1, 11]
    assert seen[0, :, 0, 0, 2].tolist() == [1, 11, 2, 12, 3, 13]
    assert seen[0, :, 0, 0, 3].tolist() == [2, 12, 3, 13, 3, 13]


def test_a_network_with_context_asks_for_whole_volumes_and_more_channels() -> None:
    generator = ResCNN(2, 1, (32, 32, 5), context=3, **TINY).eval()
    assert generator.window == (None, None, None)
    assert generator.network.encode[0][1].in_channels == 6
    assert tuple(generator(torch.rand(1, 2, 32, 32, 5)).shape) == (1, 1, 32, 32, 5)


def test_slices_see_their_neighbours_across_what_is_translated_together() -> None:
    generator = ResCNN(1, 1, (32, 32, 5), context=3, slices_at_once=2, **TINY).eval()
    volume = torch.rand(1, 1, 32, 32, 5)
    with torch.no_grad():
        torch.testing.assert_close(generator(volume)[..., 1:4], generator(volume[..., :])[..., 1:4])
        whole = ResCNN(1, 1, (32, 32, 5), context=3, slices_at_once=99, **TINY).eval()
        whole.load_state_dict(generator.state_dict())
        torch.testing.assert_close(generator(volume), whole(volume))
        shorter = generator(volume[..., 1:])
    assert not torch.allclose(shorter[..., 0], generator(volume)[..., 1])


def test_no_more_slices_than_asked_for_pass_together_when_a_volume_is_translated() -> None:
    generator = seeing(slices_at_once=3)
    with torch.no_grad():
        generator(torch.rand(1, 1, 16, 16, 7))
    assert [len(slices) for slices in generator.network.shown] == [3, 3, 1]


def test_one_slice_does_not_change_another() -> None:
    generator = ResCNN(1, 1, (32, 32, 2), inference_norm="batch_stats", **TINY).eval()
    volume = torch.rand(1, 1, 32, 32, 2)
    other = torch.cat((volume[..., :1], torch.rand(1, 1, 32, 32, 1) * 0.1), dim=-1)
    torch.testing.assert_close(generator(volume)[..., 0], generator(other)[..., 0])


def test_batch_stats_normalises_a_slice_as_the_original_does_with_one_slice_in_training_mode() -> None:
    original = ResCNN(1, 1, (32, 32, 1), **TINY)
    ours = ResCNN(1, 1, (32, 32, 1), inference_norm="batch_stats", **TINY)
    ours.load_state_dict(original.state_dict())
    volume = torch.rand(1, 1, 32, 32, 3)
    expected = torch.cat([original.train()(volume[..., k : k + 1]) for k in range(3)], dim=-1)
    before = [buffer.clone() for buffer in ours.eval().buffers()]
    torch.testing.assert_close(ours(volume), expected)
    assert all(torch.equal(old, new) for old, new in zip(before, ours.buffers(), strict=True))
    assert not torch.allclose(original.eval()(volume), expected)


def test_three_planes_are_averaged_in_translation_and_one_is_drawn_in_training() -> None:
    torch.manual_seed(0)
    generator = ResCNN(1, 1, (16, 16, 16), tri_planar=True, **TINY).eval()
    volume = torch.rand(1, 1, 16, 32, 16)
    planes = [generator.along(volume, axis) for axis in AXES.values()]
    torch.testing.assert_close(generator(volume), torch.stack(planes).mean(dim=0))
    assert (generator.multiple, generator.window) == ((4, 4, 4), (None, None, None))
    generator.network = Seen()
    generator.train()
    for _ in range(20):
        generator(volume)
    shapes = {(len(slices), *slices.shape[2:]) for slices in generator.network.shown}
    assert shapes == {(16, 32, 16), (32, 16, 16), (16, 16, 32)}


def test_a_plane_is_drawn_from_the_seed_of_the_step() -> None:
    generator = seeing(tri_planar=True).train()
    for _ in range(2):
        torch.manual_seed(5)
        generator(torch.rand(1, 1, 16, 32, 48))
    assert generator.network.shown[0].shape == generator.network.shown[1].shape


@pytest.mark.parametrize(
    ("patch_size", "options", "grid"),
    [
        ((256, 256, 1), {}, (16, 16)),
        ((240, 200, 4), {}, (15, 13)),
        ((64, 96, 32), {"plane": "coronal"}, (4, 2)),
        ((64, 64, 1), {"img_size": (288, 224)}, (18, 14)),
    ],
)
def test_there_is_a_token_for_16_x_16_pixels_of_what_training_shows(patch_size, options, grid) -> None:
    with torch.device("meta"):
        network = ResViT(1, 1, patch_size, **options).network
    assert {block.grid for block in network.transformer_blocks()} == {grid}
    assert network.art[0].position.shape[1] == grid[0] * grid[1]


@pytest.mark.parametrize("sides", [(16, 16), (48, 32), (80, 64)])
def test_resvit_takes_any_sides_that_divide_by_16(sides: tuple[int, int]) -> None:
    options = {"ngf": 2, "dim": 4, "depth": 1, "heads": 1, "embed_channels": 4}
    generator = ResViT(1, 1, (32, 48, 1), **options).eval()
    assert tuple(generator(torch.rand(1, 1, *sides, 2)).shape) == (1, 1, *sides, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"img_size": (250, 256)}, r"img_size \(250, 256\) must divide by 4"),
        ({"context": 2}, "context 2 must be odd"),
        ({"tri_planar": True, "patch_size": (64, 64, 1)}, r"at least 16 voxels along each axis, found \(64, 64, 1\)"),
    ],
)
def test_slicing_options_that_cannot_be_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ResCNN(1, 1, **{"patch_size": (16, 16, 16), **TINY, **options})


def test_a_misspelt_or_impossible_option_is_named_with_its_place(tmp_path) -> None:
    config = {
        "output_dir": str(tmp_path / "run"),
        "dataset": {"name": "phantom"},
        "source": ["t1"],
        "target": ["t2"],
        "preprocess": {"intensity": {"t1": {"name": "percentile"}, "t2": {"name": "percentile"}}},
        "generator": {"name": "resvit:resvit", "options": {"plane": "oblique", "contxt": 3, "dropout": 1.0}},
    }
    with pytest.raises(medtrans.ConfigError) as caught:
        medtrans.run(config)
    message = str(caught.value)
    assert "generator.options.plane" in message
    assert "did you mean 'context'" in message
    assert "generator.options.dropout" in message
