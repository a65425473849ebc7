"""The kit finds each rule that a discriminator breaks, and nothing else."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from medtrans.testing.discriminator import DISCRIMINATOR_RULES
from medtrans.testing.method import SmallDiscriminator as Sound
from medtrans.testing.networks import NETWORK_RULES
from medtrans.testing.trial import SHARED_RULES
from medtrans.types import DiscriminatorOutput, Pyramid, pyramid
from tests.testing.broken import Breaks, after, altered, contract


class Demanding(Sound):  # wants two levels, whatever the generator writes
    def forward(self, candidate: Pyramid, source: Pyramid) -> DiscriminatorOutput:
        fine = super().forward(candidate, source)
        coarse = super().forward((candidate[1],), (source[1],))
        return DiscriminatorOutput(fine.logits + coarse.logits, fine.features + coarse.features)


class Halving(Sound):  # joins two resolutions of even sides
    def forward(self, candidate: Pyramid, source: Pyramid) -> DiscriminatorOutput:
        features = self.body(torch.cat((candidate[0], source[0]), dim=1))
        coarse = functional.interpolate(functional.avg_pool3d(features, 2), scale_factor=2.0)
        return DiscriminatorOutput((self.head(features + coarse),))


class Unconditional(Sound):  # ignores the source, and normalises
    def __init__(self, source_channels: int, target_channels: int) -> None:
        super().__init__(0, target_channels)
        self.norm = nn.utils.parametrizations.spectral_norm(nn.Conv3d(4, 4, 1))

    def forward(self, candidate: Pyramid, source: Pyramid) -> DiscriminatorOutput:
        levels = (*candidate, *pyramid(candidate[0], 2)[len(candidate) :])
        return DiscriminatorOutput(tuple(self.head(self.norm(self.body(level))) for level in levels[:2]))


BREAKING = [
    Breaks(
        "judges in the form that losses read",
        after(Sound, forward=lambda output: output._replace(features=output.features * 2)),
        "features has 2 entries for 1 logits",
    ),
    Breaks(
        "judges in the form that losses read",
        after(Sound, forward=lambda output: DiscriminatorOutput(tuple(one.double() for one in output.logits))),
        "torch.float64",
    ),
    Breaks(
        "works with several channels",
        altered(Sound, __init__=lambda self, source_channels, target_channels: Sound.__init__(self, 1, 1)),
        "raised RuntimeError",
    ),
    Breaks("takes any number of levels", Demanding, "cannot judge a pyramid of 1 levels"),
    Breaks("takes sides that are odd and no cubes", Halving, "must match the size"),
    Breaks(
        "leads a gradient to the candidate",
        altered(Sound, forward=lambda self, candidate, source: Sound.forward(self, candidate[-1:], source[-1:])),
        "to level 0 of the candidate",
    ),
]


test_what_is_sound_breaks_no_rule, test_the_broken_rule_is_named_and_no_other, test_every_rule_is_broken = contract(
    "discriminator",
    [Sound, Unconditional],
    BREAKING,
    DISCRIMINATOR_RULES,
    but=(*NETWORK_RULES, *SHARED_RULES),
    patch_size=(8, 8, 8),
)
