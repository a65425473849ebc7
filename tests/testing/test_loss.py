"""The kit finds each rule that a loss breaks, and nothing else."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from medtrans.testing.loss import LOSS_RULES
from medtrans.testing.method import LeastSquares as Adversarial
from medtrans.testing.method import VoxelDifference as Sound
from medtrans.testing.trial import SHARED_RULES
from medtrans.types import Loss, LossInputs, batch_mean
from tests.testing.broken import Breaks, after, altered, contract


class OneSided(Sound):  # punishes what is too bright twice
    def forward(self, inputs: LossInputs) -> Tensor:
        difference = inputs.prediction[0] - inputs.target[0].detach()
        return batch_mean(
            torch.where(difference > 0, 2 * difference, -difference) * (1 + inputs.prediction[0].square())
        )


class Logarithmic(Sound):  # takes the logarithm of intensities
    def forward(self, inputs: LossInputs) -> Tensor:
        return batch_mean((inputs.prediction[0].log() - inputs.target[0].detach().log()).abs())


class FeaturesOnly(Loss):
    """Compares what the discriminator sees, and leaves training it to others."""

    adversarial = True

    def forward(self, inputs: LossInputs) -> Tensor:
        return batch_mean((inputs.fake.features[0][0] - inputs.real.features[0][0]).abs())


class Learning(Sound):  # has a weight that nobody trains
    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(1))

    def forward(self, inputs: LossInputs) -> Tensor:
        return (self.factor * super().forward(inputs)).sum()


class Unsteady(Sound):  # changes from call to call
    calls = itertools.count(1)

    def forward(self, inputs: LossInputs) -> Tensor:
        return super().forward(inputs) * (1 + 3e-6 * next(self.calls))


class Seeding(Sound):  # seeds torch for all
    def forward(self, inputs: LossInputs) -> Tensor:
        torch.manual_seed(inputs.step)
        return super().forward(inputs)


class InPlace(Sound):  # changes the target it is given
    def forward(self, inputs: LossInputs) -> Tensor:
        value = super().forward(inputs)
        if not inputs.prediction[0].requires_grad:
            inputs.target[0].mul_(0.5)
        return value


class Coarse(Sound):  # takes the difference of two large sums in whatever precision it is in
    def forward(self, inputs: LossInputs) -> Tensor:
        prediction, target = inputs.prediction[0].flatten(1), inputs.target[0].detach().flatten(1)
        mean = torch.full((prediction.shape[1], 1), 1 / prediction.shape[1])
        return batch_mean((((prediction + 100) @ mean) - ((target + 100) @ mean)).abs())


class MaskedAlone(Sound):  # takes its mean inside the mask on each rank alone
    def forward(self, inputs: LossInputs) -> Tensor:
        difference = (inputs.prediction[0] - inputs.target[0].detach()).abs()
        if inputs.mask is None:
            return difference.mean()
        return (difference * inputs.mask).sum() / (inputs.mask.sum() * difference.shape[1])


class Pooled(Sound):  # says that it is a mean over cases, and is none
    def averages_cases(self, valid: Tensor | None) -> bool:
        return True

    def forward(self, inputs: LossInputs) -> Tensor:
        return batch_mean((inputs.prediction[0] - inputs.target[0].detach()).square()).add(1e-6).sqrt() - 1e-3


BREAKING = [
    Breaks("gives a finite scalar", after(Sound, forward=lambda value: value.expand(1)), "expected a scalar tensor"),
    Breaks("leads a gradient to the prediction", after(Sound, forward=Tensor.detach), "no gradient leads"),
    Breaks(
        "leads no gradient to the target",
        altered(Sound, forward=lambda self, inputs: batch_mean((inputs.prediction[0] - inputs.target[0]).abs())),
        "a gradient leads to the target",
    ),
    Breaks("is what it should be at identity", after(Sound, forward=lambda value: value + 0.5), "0.5, expected 0"),
    Breaks("is symmetric where claimed", OneSided, "the other; do not claim", {"symmetric": True}),
    Breaks("is finite on constant and extreme input", Logarithmic, "an image of zeros"),
    Breaks(
        "trains the discriminator",
        after(Adversarial, discriminator_loss=Tensor.detach),
        "carries no gradient",
        {"at_identity": 1.0},
    ),
    Breaks(
        "trains the discriminator",
        altered(Sound, discriminator_loss=Adversarial.discriminator_loss),
        "set `adversarial = True`",
    ),
    Breaks(
        "says when it needs a discriminator",
        altered(Sound, forward=lambda self, inputs: Sound.forward(self, inputs) + 0 * inputs.fake.logits[0].mean()),
        "set `adversarial = True`",
    ),
    Breaks("averages cases where it says so", Pooled, "let `averages_cases` give False"),
    Breaks("has nothing to train", Learning, "factor"),
    Breaks("computes alike under one seed", Unsteady, "under one seed"),
    Breaks("leaves global random states alone", Seeding, "seeds torch's global generator"),
    Breaks("leaves its input as it was", InPlace, "changes the target in place"),
    Breaks("works under bfloat16 autocast", Coarse, "in float32"),
    Breaks("means the same on two ranks", MaskedAlone, "batch_mean"),
]


test_what_is_sound_breaks_no_rule, test_the_broken_rule_is_named_and_no_other, test_every_rule_is_broken = contract(
    "loss",
    [(Sound, {"symmetric": True}), (Adversarial, {"at_identity": 1.0}), FeaturesOnly],
    BREAKING,
    LOSS_RULES,
    but=SHARED_RULES,
    patch_size=(8, 8, 8),
)
