"""What methods are tried with: small networks and losses, seeded steps, one process or two."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import SGD

from medtrans.plugins.interfaces import Method, Parts, WeightedLoss
from medtrans.plugins.options import build
from medtrans.testing.rules import Broken
from medtrans.testing.samples import Sides, pattern
from medtrans.testing.trial import ComponentLike, Trial, component_of
from medtrans.types import Batch, DiscriminatorOutput, Loss, LossInputs, Pyramid, batch_mean

__all__ = [
    "LeastSquares",
    "MethodTrial",
    "SmallDiscriminator",
    "SmallGenerator",
    "VoxelDifference",
    "launched",
    "parameters_of",
    "ready",
    "steps",
    "weights_of",
]


class SmallGenerator(nn.Module):
    """Two convolutions that keep the sides."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv3d(in_channels, 4, kernel_size=3, padding=1), nn.Tanh(), nn.Conv3d(4, out_channels, kernel_size=1)
        )

    def forward(self, source: Tensor) -> Tensor:
        """An image of the target for one of the source."""
        image: Tensor = self.body(source)
        return image


class SmallDiscriminator(nn.Module):
    """Two convolutions that judge each voxel of a candidate beside its source."""

    def __init__(self, source_channels: int, target_channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv3d(source_channels + target_channels, 4, kernel_size=3, padding=1), nn.LeakyReLU(0.2)
        )
        self.head = nn.Conv3d(4, 1, kernel_size=1)

    def forward(self, candidate: Pyramid, source: Pyramid) -> DiscriminatorOutput:
        """One logit map at full resolution."""
        features = self.body(torch.cat((candidate[0], source[0]), dim=1))
        return DiscriminatorOutput((self.head(features),), ((features,),))


class VoxelDifference(Loss):
    """The mean absolute difference at level 0."""

    def forward(self, inputs: LossInputs) -> Tensor:
        """The generator's term."""
        return batch_mean((inputs.prediction[0] - inputs.target[0].detach()).abs())


class LeastSquares(Loss):
    """Least squares to 1 for real and 0 for generated."""

    adversarial: ClassVar[bool] = True

    def forward(self, inputs: LossInputs) -> Tensor:
        """The generator's term; 0 without a discriminator."""
        if inputs.fake is None:
            return inputs.prediction[0].new_zeros(())
        return batch_mean((inputs.fake.logits[0] - 1).square())

    def discriminator_loss(self, inputs: LossInputs) -> Tensor | None:
        """The discriminator's term."""
        if inputs.real is None or inputs.fake is None:
            return None
        return batch_mean((inputs.real.logits[0] - 1).square()) + batch_mean(inputs.fake.logits[0].square())


@dataclass(frozen=True)
class MethodTrial(Trial):
    """A method under trial, with networks and losses that are small.

    Args:
        patch_size: sides of the patch.
        channels: pairs of source and target channels it must work with.
        losses: by the name a config would give them; components, classes or names.
        discriminator: whether it is tried with one; False for a method that has no use for any.
    """

    kind: ClassVar[str] = "method"

    patch_size: Sides = (8, 8, 8)
    channels: Sequence[tuple[int, int]] = ((1, 1), (2, 1))
    losses: Mapping[str, ComponentLike] = field(
        default_factory=lambda: {"l1": VoxelDifference, "adversarial": LeastSquares}
    )
    discriminator: bool = True

    def method(
        self,
        *,
        seed: int = 0,
        channels: tuple[int, int] | None = None,
        rate: float = 1.0,
        accumulate: int = 1,
        adversary: bool = True,
    ) -> Method:
        """The method with fresh networks, made under a seed."""
        torch.manual_seed(seed)
        source, target = channels or self.channels[0]
        adversary = adversary and self.discriminator
        parts = Parts(
            make_generator=SmallGenerator,
            make_discriminator=SmallDiscriminator if adversary else None,
            losses=self._losses(adversary=adversary),
            make_optimizer=lambda params, role: SGD(params, lr=0.05, momentum=0.5),
            learning_rate_factor=lambda step, role: rate,
            source_channels=source,
            target_channels=target,
            epoch_steps=4,
            accumulate=accumulate,
        )
        made = self.make(parts=parts)
        if not isinstance(made, Method):
            raise Broken(f"it makes {type(made).__name__}, expected a subclass of medtrans.Method")
        return made

    def batch(
        self, seed: int = 0, size: int = 2, channels: tuple[int, int] | None = None, *, masked: bool = True
    ) -> Batch:
        """Noise, as a batch of training."""
        source, target = channels or self.channels[0]
        return Batch(
            source=pattern("noise", size, source, self.patch_size, seed=2 * seed),
            target=pattern("noise", size, target, self.patch_size, seed=2 * seed + 1),
            mask=torch.ones(size, 1, *self.patch_size) if masked else None,
            cases=tuple(range(size)),
        )

    def _losses(self, *, adversary: bool) -> dict[str, WeightedLoss]:
        found = {}
        for name, one in self.losses.items():
            loss: nn.Module = build(component_of("loss", one), "loss", {}, {"levels": 1})
            if adversary or not getattr(loss, "adversarial", False):
                found[name] = WeightedLoss(loss, 1.0)
        return found


def ready(method: Method, precision: Any = "32-true") -> Method:
    """The method handed to Fabric on one CPU."""
    from lightning_fabric import Fabric  # slow to import, and no other kind needs it

    method.setup(Fabric(accelerator="cpu", devices=1, precision=precision))
    return method


def steps(trial: MethodTrial, method: Method, numbers: Sequence[int], **settings: Any) -> dict[str, Tensor]:
    """Train on these steps, seeded as the loop does; the last step's values."""
    values: dict[str, Tensor] = {}
    for step in numbers:
        torch.manual_seed(1000 + step)
        values = method.training_step(trial.batch(step, **settings), step)
    return values


def weights_of(method: Method) -> dict[str, Tensor]:
    """Every tensor of every network by its full name, copied."""
    return {
        f"{name}.{key}": tensor.detach().clone()
        for name, network in method.networks().items()
        for key, tensor in network.state_dict().items()
    }


def parameters_of(method: Method) -> Iterator[tuple[str, nn.Parameter]]:
    """Every parameter of every network by its full name."""
    for name, network in method.networks().items():
        for key, parameter in network.named_parameters():
            yield f"{name}.{key}", parameter


@contextmanager
def launched(rank: int) -> Iterator[None]:
    """Let Fabric see that its processes have been launched, as a cluster does."""
    before = dict(os.environ)
    os.environ.update({"LOCAL_RANK": str(rank), "NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"})
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
