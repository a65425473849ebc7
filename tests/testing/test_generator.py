"""The kit finds each rule that a generator breaks, and nothing else."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medtrans.testing import ConformanceError, check_generator
from medtrans.testing.generator import GENERATOR_RULES
from tests.testing.broken import Breaks, after, altered, broken_rules, contract

SMALL = {"patch_size": (8, 8, 8)}


class Sound(nn.Module):
    """Two convolutions.

    Args:
        in_channels: of the source.
        out_channels: of the target.
        width: channels between.
    """

    def __init__(self, in_channels: int, out_channels: int, *, width: int = 3) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv3d(in_channels, width, 3, padding=1), nn.Tanh())
        self.head = nn.Conv3d(width, out_channels, 1)

    def forward(self, source: Tensor) -> Tensor:
        return self.head(self.body(source))


class Undocumented(Sound):  # says nothing of its option
    def __init__(self, in_channels: int, out_channels: int, *, depth: int = 1) -> None:
        super().__init__(in_channels, out_channels)


class UnfitDefault(Sound):
    """Its default is none of its values.

    Args:
        width: channels between.
    """

    def __init__(self, in_channels: int, out_channels: int, *, width: int = None) -> None:  # noqa: RUF013 -- the fault
        super().__init__(in_channels, out_channels)


class PatchOnly(Sound):  # takes its patch only, and asks for whole volumes
    window = (None, None, None)

    def __init__(self, in_channels: int, out_channels: int, patch_size: tuple[int, int, int]) -> None:
        super().__init__(in_channels, out_channels)
        self.place = nn.Parameter(torch.rand(patch_size))

    def forward(self, source: Tensor) -> Tensor:
        return super().forward(source) + self.place


class Cubic(PatchOnly):  # knows where a voxel is in a cube only
    window = None

    def __init__(self, in_channels: int, out_channels: int, patch_size: tuple[int, int, int]) -> None:
        super().__init__(in_channels, out_channels, (patch_size[0],) * 3)


class Deaf(nn.Module):
    """Gives the same image for every source.

    Args:
        in_channels: of the source.
        out_channels: of the target.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.rand(1, out_channels, 1, 1, 1))

    def forward(self, source: Tensor) -> Tensor:
        return self.level.expand(len(source), -1, *source.shape[2:])


class NotAlone(Sound):  # trains on two cases at least
    def forward(self, source: Tensor) -> Tensor:
        if self.training and len(source) == 1:
            raise ValueError("expected more than 1 value per channel when training")
        return super().forward(source)


class DeadWeight(Sound):  # has a weight that never matters
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels)
        self.idle = nn.Parameter(torch.ones(1))

    def forward(self, source: Tensor) -> Tensor:
        return super().forward(source) + 0 * self.idle


class Scattering(Sound):  # scatters features into an image of float32, whatever they are
    def forward(self, source: Tensor) -> Tensor:
        features = self.body(source)
        places = torch.arange(3).view(1, 3, 1, 1, 1).expand_as(features)
        return self.head(torch.zeros(features.shape).scatter(1, places, features))


class ElsewhereDrawn(Sound):  # draws weights from the machine
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels)
        self.head.bias.data.fill_(float(np.random.default_rng().random()))


class ElsewhereNoisy(Sound):  # draws noise from the machine while it trains
    def forward(self, source: Tensor) -> Tensor:
        noise = float(np.random.default_rng().normal()) * 1e-3 if self.training else 0.0
        return super().forward(source) + noise


class Seeding(Sound):  # seeds torch for all
    def __init__(self, in_channels: int, out_channels: int) -> None:
        torch.manual_seed(0)
        super().__init__(in_channels, out_channels)


class Forgetful(Sound):  # keeps a number that no checkpoint sees
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels)
        self.shift = torch.rand(1)

    def forward(self, source: Tensor) -> Tensor:
        return super().forward(source) + self.shift


class SelfReferring(Sound):  # keeps a function of itself, which a copy then calls
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels)
        self.translate = lambda source: self.head(self.body(source))

    def forward(self, source: Tensor) -> Tensor:
        return self.translate(source)


class Moody(Sound):  # uses a weight at random
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels)
        self.extra = nn.Parameter(torch.ones(1))

    def forward(self, source: Tensor) -> Tensor:
        image = super().forward(source)
        return image + 0.01 * self.extra if self.training and torch.rand(()) < 0.5 else image


class Slices(nn.Module):
    """A 2D network that works slice by slice.

    Args:
        in_channels: of the source.
        out_channels: of the target.
    """

    multiple = (4, 4, 1)
    window = (None, None, 1)

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(in_channels, 4, 4, stride=4)
        self.norm = nn.InstanceNorm2d(4)
        self.drop = nn.Dropout(0.2)
        self.up = nn.ConvTranspose2d(4, out_channels, 4, stride=4)

    def forward(self, source: Tensor) -> Tensor:
        flat = source.movedim(4, 1).flatten(0, 1)
        image = self.up(self.drop(self.norm(self.down(flat))))
        return image.unflatten(0, (len(source), -1)).movedim(1, 4)


class Tied(Sound):  # uses one weight twice
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, width=3)
        self.middle = nn.Conv3d(3, 3, 1)
        self.again = nn.Conv3d(3, 3, 1)
        self.again.weight = self.middle.weight

    def forward(self, source: Tensor) -> Tensor:
        return self.head(self.again(torch.tanh(self.middle(self.body(source)))))


class Normed(Sound):  # keeps running statistics
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels)
        self.norm = nn.BatchNorm3d(3)

    def forward(self, source: Tensor) -> tuple[Tensor, ...]:
        image = self.head(self.norm(self.body(source)))
        return image, image[..., ::2, ::2, ::2]


BREAKING = [
    Breaks("options are documented and annotated", Undocumented, "depth: no text in the docstring"),
    Breaks("defaults fit their annotations", UnfitDefault, "its default None does not fit"),
    Breaks("says what sides it takes", altered(Sound, window=(0, None, None)), "expected three sides in voxels"),
    Breaks("gives an image as large as its source", after(Sound, forward=Tensor.double), "expected torch.float32"),
    Breaks(
        "works with several channels",
        altered(Sound, __init__=lambda self, in_channels, out_channels: Sound.__init__(self, in_channels, 1)),
        "expected (2, 3, 8, 8, 8)",
    ),
    Breaks("takes patches that are no cubes", Cubic, "must match the size"),
    Breaks("translates volumes of any size", PatchOnly, "must match the size"),
    Breaks(
        "keeps the cases of a batch apart",
        altered(Sound, forward=lambda self, x: Sound.forward(self, x) + x.mean()),
        "depends on the other cases",
    ),
    Breaks("depends on its source", Deaf, "does not depend on the source"),
    Breaks("works with a batch of one", NotAlone, "expected more than 1 value"),
    Breaks("a gradient reaches every trainable parameter", DeadWeight, "no gradient reaches idle; remove"),
    Breaks(
        "is finite on constant and extreme input",
        altered(Sound, forward=lambda self, x: Sound.forward(self, x / x.amax((1, 2, 3, 4), keepdim=True))),
        "not finite on an image of zeros",
    ),
    Breaks("works under bfloat16 autocast", Scattering, "raised RuntimeError"),
    Breaks("is made alike under one seed", ElsewhereDrawn, "head.bias differs"),
    Breaks("computes alike under one seed", ElsewhereNoisy, "in training mode differ under one seed"),
    Breaks("leaves global random states alone", Seeding, "seeds torch's global generator"),
    Breaks("leaves global random states alone", after(Sound, forward=lambda x: x + 0 * random.random()), "of random"),
    Breaks(
        "leaves its input as it was",
        altered(Sound, forward=lambda self, x: Sound.forward(self, x if x.requires_grad else x.clamp_(min=0.2))),
        "changes its input in place",
    ),
    Breaks("survives a checkpoint", Forgetful, "computes something else"),
    Breaks("can be copied", SelfReferring, "computes with the weights it was copied from"),
    Breaks("trains on two ranks", Moody, "two ranks"),
]


test_what_is_sound_breaks_no_rule, test_the_broken_rule_is_named_and_no_other, test_every_rule_is_broken = contract(
    "generator", [Sound, Slices, Tied, Normed], BREAKING, GENERATOR_RULES, **SMALL
)


def test_what_is_broken_is_an_assertion_error_that_lists_every_rule() -> None:
    class Bad(Seeding):
        """Seeds, and keeps cases together."""

        def forward(self, source: Tensor) -> Tensor:
            return super().forward(source) + source.mean()

    with pytest.raises(ConformanceError) as error:
        check_generator(Bad, **SMALL)

    assert isinstance(error.value, AssertionError)
    assert {verdict.rule for verdict in error.value.broken} == {
        "leaves global random states alone",
        "keeps the cases of a batch apart",
    }
    assert "generator 'Bad' breaks 2 of" in str(error.value)


def test_weights_without_gradient_are_named_by_their_author_and_no_others() -> None:
    rule = "a gradient reaches every trainable parameter"
    assert broken_rules("generator", DeadWeight, unused=["idle"], **SMALL) == {}
    found = broken_rules("generator", Sound, unused=["head.*"], **SMALL)
    assert found[rule] == "`unused` names head.*, but no such parameter is without gradient; take it out"


def test_frozen_weights_need_no_gradient() -> None:
    class Frozen(DeadWeight):
        """Freezes what it does not use."""

        def __init__(self, in_channels: int, out_channels: int) -> None:
            super().__init__(in_channels, out_channels)
            self.idle.requires_grad_(requires_grad=False)

    assert broken_rules("generator", Frozen, **SMALL) == {}
