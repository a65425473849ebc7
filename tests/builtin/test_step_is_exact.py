"""The paired step saves work and memory without changing the function: against a step that saves nothing."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from medtrans import CycleMethod, MDAUNet, MultiResUNet, PairedMethod
from medtrans.builtin.losses.adversarial import LSGAN, Relativistic
from medtrans.builtin.losses.perceptual_25d import SLICED_AXIS, Perceptual25D
from medtrans.builtin.losses.voxel import L1, L2
from medtrans.plugins.interfaces import WeightedLoss
from medtrans.plugins.optimizers import SGD
from medtrans.types import Batch, LossInputs, batch_mean, pyramid
from tests.builtin.methods import parts_of

VGG = {"weights": "random", "taps": ("relu2_1",)}
TINY = {"preset": "tiny", "width": 4, "growth": (2, 2)}
WEIGHTS = {"l1": 1.0, "perceptual": 0.5, "adversarial": 0.1}


class AllViewsAtOnce(Perceptual25D):
    """The perceptual loss with the slices of all views in one graph."""

    def forward(self, inputs: LossInputs) -> Tensor:
        terms = []
        for view in self.views:
            slices = [
                volume[0].flatten(0, 1).movedim(SLICED_AXIS[view], 1).flatten(0, 1).unsqueeze(1)
                for volume in (inputs.prediction, inputs.target)
            ]
            features = zip(*(self.trunk(self.normalised(each)) for each in slices), strict=True)
            terms.append(torch.stack([batch_mean((f - w).abs().mean(dim=(1, 2, 3))) for f, w in features]).mean())
        return torch.stack(terms).mean()


class NaivePair:
    """Two networks and their optimisers (Adam): each update runs the generator and the discriminator anew."""

    def __init__(
        self, generator: nn.Module, discriminator: nn.Module, losses: dict[str, tuple[nn.Module, float]], rate: float
    ) -> None:
        self.generator, self.discriminator, self.losses = generator, discriminator, losses
        self.optimizers = [torch.optim.Adam(each.parameters(), rate, fused=True) for each in (generator, discriminator)]
        self.gradients: dict[str, list[Tensor]] = {}

    def step(self, batch: Batch, step: int) -> None:
        """The discriminator's update, then the generator's."""
        for phase in ("discriminator", "generator"):
            prediction = self.generator(batch.source)
            source, target = (pyramid(image, len(prediction)) for image in (batch.source, batch.target))
            if phase == "discriminator":
                prediction = tuple(level.detach() for level in prediction)
            real, fake = self.discriminator(target, source), self.discriminator(prediction, source)
            inputs = LossInputs(source, target, prediction, None, real, fake, step, phase)
            if phase == "generator":
                total = sum(weight * loss(inputs) for loss, weight in self.losses.values())
                network, optimizer = self.generator, self.optimizers[0]
            else:
                terms = [loss for loss, _ in self.losses.values() if getattr(loss, "adversarial", False)]
                total = sum(loss.discriminator_loss(inputs) for loss in terms)
                network, optimizer = self.discriminator, self.optimizers[1]
            for each in self.optimizers:
                each.zero_grad()
            total.backward()
            self.gradients[phase] = [parameter.grad.clone() for parameter in network.parameters()]
            optimizer.step()


def losses(perceptual: type[Perceptual25D], levels: int, **changes: Any) -> dict[str, Any]:
    return {"l1": L1(levels), "perceptual": perceptual(**{**VGG, **changes}), "adversarial": Relativistic()}


def both(
    generator: dict[str, Any], discriminator: dict[str, Any], dtype: torch.dtype = torch.float64, **changes: Any
) -> tuple[PairedMethod, NaivePair]:
    """Ours, outside Fabric, which gives float32 back, and the naive step with the same weights."""
    torch.manual_seed(0)
    levels = discriminator["levels"]
    made = PairedMethod(
        parts_of(
            # Spectral norm moves on each forward, of which the naive generator has two.
            make_generator=lambda *_: MDAUNet(1, 1, spectral_norm=False, **generator),
            make_discriminator=lambda *_: MultiResUNet(1, 1, **discriminator),
            losses={
                name: WeightedLoss(loss, WEIGHTS[name])
                for name, loss in losses(Perceptual25D, levels, **changes).items()
            },
        )
    )
    networks = {name: network.to(dtype) for name, network in made.networks().items()}
    made.losses.to(dtype)
    copies = copy.deepcopy(networks)
    weighted = {
        name: (loss.to(dtype), WEIGHTS[name]) for name, loss in losses(AllViewsAtOnce, levels, **changes).items()
    }
    return made, NaivePair(copies["generator"], copies["discriminator"], weighted, 1e-3)


def tiny() -> tuple[PairedMethod, NaivePair]:
    return both(TINY, {"width": 2, "convs": 1, "levels": 2})


def batch(seed: int, side: int = 12) -> Batch:
    source = torch.rand((1, 1, side, side, side), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return Batch(source, 1 - source, None, (0,))


def test_gradients_are_those_of_the_naive_step_over_three_steps() -> None:
    made, other = tiny()
    for step in range(3):
        made.training_step(batch(step), step)
        other.step(batch(step), step)
        for role, network in made.networks().items():
            found = torch.cat([parameter.grad.flatten() for parameter in network.parameters()])
            wanted = torch.cat([gradient.flatten() for gradient in other.gradients[role]])
            assert wanted.abs().max() > 0
            assert (found - wanted).norm() <= 1e-12 * wanted.norm(), (step, role)


@pytest.mark.slow
def test_the_step_does_less_work_than_the_naive_one() -> None:
    """With the paper's generator: a quarter of its work is one forward, which serves both updates."""
    made, other = both({}, {"levels": 4}, torch.float32, taps=("relu3_4",))
    image, counts = batch(0, 16).source.float(), []
    given = Batch(image, 1 - image, None, (0,))
    for one in (lambda: other.step(given, 0), lambda: made.training_step(given, 0)):
        with FlopCounterMode(display=False) as counter:
            one()
        counts.append(counter.get_total_flops())
    assert counts[0] >= 1.06 * counts[1]


class Reads(TorchDispatchMode):
    """Counts the tensors whose value Python asks for, each of which waits for the device."""

    found = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.found += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("clip_norm", [None, 1.0])
def test_a_step_waits_for_no_value(clip_norm: float | None) -> None:
    made, _ = tiny()
    made.setup(Fabric(accelerator="cpu", devices=1, precision="64-true"))
    made.clip_norm = clip_norm
    made.training_step(batch(0), 0)
    with Reads() as reads:
        values = made.training_step(batch(1), 1)
        assert reads.found == 0
        values["generator"].item()
    assert reads.found == 1


@contextmanager
def remembered() -> Iterator[Callable[[], int]]:
    """The most bytes that were kept for a backward pass at one time, counting each storage once."""
    alive: dict[int, list[int]] = {}
    now = peak = 0

    def forget(key: int) -> None:
        nonlocal now
        alive[key][1] -= 1
        if alive[key][1] == 0:
            now -= alive.pop(key)[0]

    class Kept:
        def __init__(self, tensor: Tensor) -> None:
            self.tensor = tensor

    def pack(tensor: Tensor) -> Kept:
        nonlocal now, peak
        storage, kept = tensor.untyped_storage(), Kept(tensor)
        entry = alive.setdefault(storage.data_ptr(), [storage.nbytes(), 0])
        now += storage.nbytes() if entry[1] == 0 else 0
        entry[1] += 1
        peak = max(peak, now)
        weakref.finalize(kept, forget, storage.data_ptr())
        return kept

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept.tensor):
        yield lambda: peak


def test_the_perceptual_loss_keeps_at_most_a_third_of_all_views_at_once() -> None:
    draw, peaks = torch.Generator().manual_seed(0), []
    target = torch.rand((1, 1, 24, 24, 24), generator=draw)
    for kind in (AllViewsAtOnce, Perceptual25D):
        loss = kind(**VGG)
        prediction = torch.rand((1, 1, 24, 24, 24), generator=draw).requires_grad_()
        with remembered() as most:
            loss(LossInputs((), pyramid(target, 1), (prediction,), None, None, None, 0, "generator")).backward()
        peaks.append(most())
    assert 0 < peaks[1] <= peaks[0] / 3


class Spread(nn.Module):
    """A stranger's loss that says nothing of itself: the spread of the error over the whole batch."""

    def forward(self, inputs: LossInputs) -> Tensor:
        return (inputs.prediction[0] - inputs.target[0]).std()


CHUNKED = {
    "l1": lambda: {"l1": L1(2)},
    "l2 where there are data": lambda: {"l2": L2(2)},
    "masked l1": lambda: {"l1": L1(2, masked=True)},
    "relativistic": lambda: {"l1": L1(2), "adversarial": Relativistic()},
    "relativistic, paired": lambda: {"l1": L1(2), "adversarial": Relativistic(form="paired")},
    "lsgan": lambda: {"l1": L1(2), "adversarial": LSGAN()},
    "a stranger's": lambda: {"l1": L1(2), "spread": Spread(), "adversarial": LSGAN()},
}


def uneven(*, valid: bool, unpaired: bool) -> Batch:
    """Four cases whose masks, and whose shares with data, differ."""
    draw = torch.Generator().manual_seed(3)
    source, target = (torch.rand((4, 1, 8, 8, 8), generator=draw, dtype=torch.float64) for _ in range(2))
    shares = torch.tensor([0.1, 0.3, 0.6, 0.9], dtype=torch.float64).view(4, 1, 1, 1, 1)
    mask, data = ((torch.rand((4, 1, 8, 8, 8), generator=draw) < shares).double() for _ in range(2))
    other = {"target_mask": mask.flip(0), "target_valid": data.flip(0) if valid else None} if unpaired else {}
    return Batch(source, target, mask, (0, 1, 2, 3), valid=data if valid else None, **other)


def gradients_of(kind: type[PairedMethod] | type[CycleMethod], losses: Any, accumulate: int, given: Batch) -> Any:
    torch.manual_seed(0)
    made = kind(
        parts_of(
            make_generator=lambda *_: MDAUNet(1, 1, spectral_norm=False, **TINY),
            # Spectral norm moves on each forward, of which chunks have more.
            make_discriminator=lambda source, _: MultiResUNet(
                source, 1, width=2, convs=1, levels=2, spectral_norm=False
            ),
            losses={name: WeightedLoss(loss.double(), 1.0) for name, loss in losses().items()},
            accumulate=accumulate,
            # Adam makes a whole step of a gradient that is 0 but for its rounding.
            make_optimizer=lambda params, _role: SGD(lr=1e-2).make(params),
        )
    )
    for network in made.networks().values():
        network.double()
    values = made.training_step(given, 0)
    found = {
        f"{name}.{key}": parameter.grad
        for name, network in made.networks().items()
        for key, parameter in network.named_parameters()
    }
    return found, values


def assert_same_step(kind: Any, losses: Any, given: Batch) -> None:
    wanted, whole = gradients_of(kind, losses, 1, given)
    found, chunked = gradients_of(kind, losses, 4, given)
    for name, gradient in wanted.items():
        assert (gradient is None) == (found[name] is None), name
        if gradient is not None:
            torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-14, msg=name)
    torch.testing.assert_close(chunked["generator"], whole["generator"])


@pytest.mark.parametrize("name", CHUNKED)
def test_chunks_of_a_batch_learn_what_the_whole_batch_does(name: str) -> None:
    """Whatever a loss computes over the batch; see `train.accumulate`."""
    assert_same_step(PairedMethod, CHUNKED[name], uneven(valid="data" in name, unpaired=False))


@pytest.mark.parametrize("valid", [False, True])
def test_chunks_of_unpaired_batches_learn_what_the_whole_batch_does(valid: bool) -> None:
    losses = lambda: {"l1": L1(2, masked=not valid), "adversarial": Relativistic()}  # noqa: E731 -- one line
    assert_same_step(CycleMethod, losses, uneven(valid=valid, unpaired=True))
