"""The 2.5D perceptual loss: its value by hand, its gradient, its slices, and where its weights come from."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from medtrans.builtin.losses import vgg
from medtrans.builtin.losses.perceptual_25d import Perceptual25D, strata
from medtrans.builtin.losses.vgg import VGG16, VGG19
from medtrans.errors import ConfigError, SetupError
from medtrans.types import LossInputs, pyramid


def shallow(**options) -> Perceptual25D:
    """A loss on the first layers, with untrained weights."""
    return Perceptual25D(**{"weights": "random", "taps": ("relu1_2",), **options})


def between(prediction: Tensor, target: Tensor, *, step: int = 0) -> LossInputs:
    return LossInputs((), pyramid(target, 2), pyramid(prediction, 2), None, None, None, step=step, phase="generator")


def images(*shape: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return tuple(torch.rand(*shape, generator=generator, dtype=dtype) for _ in range(2))


# The value


def test_it_is_the_mean_over_views_taps_and_slices() -> None:
    """Against a loop over single slices with the network written out again."""
    loss = shallow(taps=("relu1_1", "relu2_1")).double()
    prediction, target = images(2, 2, 6, 8, 10, dtype=torch.float64)
    conv = [layer for layer in loss.trunk.features if isinstance(layer, torch.nn.Conv2d)]
    mean = torch.tensor([0.485, 0.456, 0.406]).double().view(1, 3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).double().view(1, 3, 1, 1)

    def features(gray: Tensor) -> list[Tensor]:
        first = conv[0]((torch.stack((gray,) * 3)[None] - mean) / std).relu()
        pooled = torch.nn.functional.max_pool2d(conv[1](first).relu(), 2)
        return [first, conv[2](pooled).relu()]

    views = []
    for axis in (2, 3, 4):
        slices = []
        for b in range(2):
            for c in range(2):
                for n in range(prediction.shape[axis]):
                    pair = [features(volume[b, c].select(axis - 2, n)) for volume in (prediction, target)]
                    slices.append(sum((p - t).abs().mean() for p, t in zip(*pair, strict=True)) / 2)
        views.append(sum(slices) / len(slices))
    assert loss(between(prediction, target)).item() == pytest.approx((sum(views) / 3).item(), rel=1e-6)


@pytest.mark.parametrize(("view", "axis"), [("sagittal", 2), ("coronal", 3), ("axial", 4)])
def test_a_view_is_blind_to_the_order_of_its_own_slices(view, axis) -> None:
    """RAS+: sagittal slices stand along i, coronal along j, axial along k."""
    loss, (prediction, target) = shallow(views=(view,)), images(1, 1, 6, 6, 6)
    value = loss(between(prediction, target)).item()
    for other in (2, 3, 4):
        order = torch.tensor([3, 0, 5, 1, 4, 2])
        shuffled = loss(between(prediction.index_select(other, order), target.index_select(other, order))).item()
        assert (shuffled == pytest.approx(value, rel=1e-5)) == (other == axis)


# The gradient


def test_the_gradient_taken_chunk_by_chunk_is_the_plain_one() -> None:
    prediction, target = images(2, 1, 6, 8, 10, dtype=torch.float64)
    prediction.requires_grad_()
    with torch.no_grad():
        assert not shallow().double()(between(prediction, target)).requires_grad  # validation builds no graph
    options = {"slices_per_view": 4, "taps": ("relu1_1", "relu2_1")}
    lean, whole = shallow(chunk=3, **options).double(), shallow(chunk=None, **options).double()
    whole.slice_distances = whole.compare  # autograd keeps every activation
    found, wanted = (
        torch.autograd.grad(3 * loss(between(prediction, target)), prediction)[0] for loss in (lean, whole)
    )
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-18)


def test_chunks_bound_what_passes_through_the_network() -> None:
    loss, (prediction, target) = shallow(chunk=5), images(1, 1, 8, 8, 8)
    sizes: list[int] = []
    loss.trunk.register_forward_pre_hook(lambda _module, inputs: sizes.append(len(inputs[0])))
    loss(between(prediction.requires_grad_(), target))
    assert max(sizes) == 5
    assert sum(sizes) == 3 * 8 * 2  # three views of eight slices of two volumes, each once


# Drawn slices


@pytest.mark.parametrize(("count", "groups"), [(8, 4), (10, 4), (7, 7), (5, 1)])
def test_strata_part_the_slices(count, groups) -> None:
    found = strata(count, groups)
    assert [n for group in found for n in group] == list(range(count))
    assert len(found) == groups
    assert max(map(len, found)) - min(map(len, found)) <= 1


def test_the_mean_over_all_draws_is_the_full_loss_and_gradient() -> None:
    """With ten slices in four strata of unequal size, every choice of one slice each taken in turn."""

    class Chosen(Perceptual25D):
        turn = 0

        def draw_slices(self, count: int, view: str, step: int) -> tuple[Tensor, Tensor]:
            _, weights = super().draw_slices(count, view, step)
            picks = [group[self.turn % len(group)] for group in strata(count, 4)]
            return torch.tensor(picks), weights

    prediction, target = images(1, 1, 10, 10, 10, dtype=torch.float64)
    some = Chosen(weights="random", taps=("relu1_1",), slices_per_view=4).double()
    full = shallow(taps=("relu1_1",)).double()(between(prediction.requires_grad_(), target))
    values, gradients = [], []
    for some.turn in range(6):  # a multiple of both sizes of stratum, 2 and 3
        values.append(some(between(prediction, target)))
        gradients += torch.autograd.grad(values[-1], prediction)
    values = torch.stack(values).detach()
    assert values.mean().item() == pytest.approx(full.item(), rel=1e-12)
    assert values.std() > 0
    (whole,) = torch.autograd.grad(full, prediction)
    assert (torch.stack(gradients).mean(dim=0) - whole).norm() <= 1e-12 * whole.norm()


def test_draws_depend_on_step_and_view_and_nothing_else() -> None:
    loss = shallow(slices_per_view=8)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = loss.draw_slices(64, "axial", 5)[0]
    assert torch.equal(loss.draw_slices(8, "axial", 5)[0], torch.arange(8))  # all there are
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert torch.equal(loss.draw_slices(64, "axial", 5)[0], first)
    assert not torch.equal(loss.draw_slices(64, "axial", 6)[0], first)
    assert not torch.equal(loss.draw_slices(64, "coronal", 5)[0], first)


# The network and its weights


def test_the_trunk_is_vgg_19_up_to_its_last_tap() -> None:
    trunk = VGG19(("relu5_4",))
    convs = {name: tuple(p.shape) for name, p in trunk.named_parameters() if name.endswith("weight")}
    assert len(convs) == 16
    assert convs["features.0.weight"] == (64, 3, 3, 3)
    assert convs["features.34.weight"] == (512, 512, 3, 3)
    assert sum(p.numel() for p in trunk.parameters()) == 20_024_384
    assert list(trunk.taps.values()) == [35]
    assert len(VGG19(("relu3_4",)).features) == 18
    numbers = [int(name.split(".")[1]) for name in VGG16(("relu5_3",)).state_dict() if name.endswith("weight")]
    assert numbers == [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
    with pytest.raises(ValueError, match="VGG16: taps"):
        VGG16(("relu3_4",))


def test_untrained_weights_are_warned_of_the_same_everywhere_and_leave_the_global_state(caplog) -> None:
    before = torch.get_rng_state()
    with caplog.at_level(logging.WARNING, logger="medtrans"):
        first = shallow().trunk.state_dict()
    assert "not perceptual" in caplog.text
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    for name, tensor in VGG19(("relu1_2",)).state_dict().items():
        assert torch.equal(tensor, first[name])


def test_wrong_options_are_named() -> None:
    with pytest.raises(ValueError, match=r"taps \('relu6_1',\) must be different names"):
        shallow(taps=("relu6_1",))
    with pytest.raises(ValueError, match="must be different names out of sagittal, coronal, axial"):
        shallow(views=("axial", "axial"))
    with pytest.raises(ValueError, match="sagittal slices of 4 x 8 voxels are too small for relu5_1, which needs 16"):
        shallow(taps=("relu5_1",), views=("sagittal",))(between(*images(1, 1, 8, 4, 8)))


def torchvision_like(scale: float = 2.0) -> dict[str, Tensor]:
    tensors = {name: tensor * scale for name, tensor in VGG19(("relu2_2",)).state_dict().items()}
    return {**tensors, "classifier.0.weight": torch.zeros(2, 2)}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_local_file_fills_the_trunk_and_may_hold_more(tmp_path, suffix) -> None:
    file = tmp_path / f"vgg{suffix}"
    save_file(torchvision_like(), file) if suffix == ".safetensors" else torch.save(torchvision_like(), file)
    for name, tensor in Perceptual25D(weights=str(file), taps=("relu1_2",)).trunk.state_dict().items():
        assert torch.equal(tensor, torchvision_like()[name])


def test_faulty_files_are_named(tmp_path) -> None:
    with pytest.raises(ConfigError, match="neither 'imagenet' nor 'random', and there is no such file"):
        shallow(weights=str(tmp_path / "absent.pth"))

    torch.save({"features.2.bias": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(SetupError, match="bias has shape"):
        shallow(weights=str(tmp_path / "other.pth"))


@pytest.mark.parametrize("name", ["noise.pth", "noise.safetensors", "empty.pth", "cut.pth"])
def test_files_that_are_no_weights_are_named(tmp_path, name) -> None:
    file = tmp_path / name
    if name == "cut.pth":
        torch.save(torchvision_like(), file)
        file.write_bytes(file.read_bytes()[:5000])
    else:
        file.write_bytes(b"" if name.startswith("empty") else b"these are no weights at all" * 9)
    with pytest.raises(SetupError, match="cannot be read as network weights"):
        shallow(weights=str(file))


# ImageNet's weights


@pytest.fixture
def hub_file(tmp_path, monkeypatch) -> Path:
    """Where torch's hub cache keeps the file, in an empty cache."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return tmp_path / "hub" / "checkpoints" / "vgg19-dcbb9e9d.pth"


def test_without_a_network_the_message_says_all_that_helps(hub_file, monkeypatch) -> None:
    def offline(*_args: object, **_options: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(SetupError) as error:
        shallow(weights="imagenet")
    helpful = ("no network", "models/vgg19-dcbb9e9d.pth", "SHA-256", str(hub_file), "weights: random", "local copy")
    assert [part for part in helpful if part not in str(error.value)] == []


def test_a_damaged_file_in_the_cache_is_named(hub_file) -> None:
    hub_file.parent.mkdir(parents=True)
    hub_file.write_bytes(b"half a download")
    with pytest.raises(SetupError, match="is damaged or another file: its SHA-256 begins with"):
        shallow(weights="imagenet")


def test_the_file_is_downloaded_once_with_its_hash(hub_file, monkeypatch) -> None:
    calls = []

    def download(url: str, file: str, *, hash_prefix: str, progress: bool) -> None:
        calls.append((url, hash_prefix))
        torch.save(torchvision_like(3.0), file)
        monkeypatch.setattr(vgg, "HASH_PREFIX", hashlib.sha256(Path(file).read_bytes()).hexdigest()[:8])

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    for _ in range(2):
        trunk = shallow(weights="imagenet").trunk
    assert calls == [("https://download.pytorch.org/models/vgg19-dcbb9e9d.pth", "dcbb9e9d")]
    assert torch.equal(trunk.features[0].weight, torchvision_like(3.0)["features.0.weight"])
