"""The contract of discriminators, rule by rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from medtrans.testing.networks import NETWORK_RULES, Channels, NetworkTrial, total
from medtrans.testing.rules import Broken, Rule, Verdict
from medtrans.testing.trial import SHARED_RULES, ComponentLike, Sides, check, pattern
from medtrans.types import DiscriminatorOutput, pyramid

__all__ = ["DISCRIMINATOR_RULES", "DiscriminatorTrial", "check_discriminator"]

_LEVELS = 3


@dataclass(frozen=True)
class DiscriminatorTrial(NetworkTrial):
    """A discriminator under trial."""

    kind: ClassVar[str] = "discriminator"

    def network(self, channels: Channels | None = None, sides: Sides | None = None) -> nn.Module:
        source, target = channels or self.channels[0]
        made: nn.Module = self.make(source_channels=source, target_channels=target, patch_size=sides or self.sides)
        return made

    def arguments(
        self, sides: Sides, channels: Channels | None = None, batch: int = 2, fill: str = "noise", levels: int = _LEVELS
    ) -> Any:
        source, target = channels or self.channels[0]
        candidate = pattern(fill, batch, target, sides)
        return pyramid(candidate, levels), pyramid(pattern(fill, batch, source, sides, seed=1), levels)

    def tensors(self, output: Any) -> tuple[Tensor, ...]:
        if not isinstance(output, DiscriminatorOutput):
            raise Broken(f"forward gives {type(output).__name__}, expected medtrans.types.DiscriminatorOutput")
        if not isinstance(output.logits, tuple) or not output.logits:
            raise Broken("logits: expected a tuple with a map for each scale, finest first")
        if not all(isinstance(one, Tensor) for one in output.logits):
            raise Broken("logits: expected tensors")
        return output.logits

    def ddp_loss(self, network: nn.Module) -> Tensor:
        """What one rank minimises in a step: a target and a prediction judged one after the other, as training does."""
        source, target = self.channels[0]
        images = [pyramid(torch.rand(2, target, *self.sides), _LEVELS) for _ in range(2)]
        beside = pyramid(torch.rand(2, source, *self.sides), _LEVELS)
        return total([logit for image in images for logit in self.tensors(network(image, beside))])


def judges_in_the_form_that_losses_read(trial: DiscriminatorTrial) -> None:
    """Logits and features."""
    network = trial.seeded().eval()
    with torch.no_grad():
        output = network(*trial.arguments(trial.sides))
    for scale, logit in enumerate(trial.tensors(output)):
        if logit.shape[0] != 2 or logit.dtype != torch.float32:
            found = f"{logit.dtype} of shape {tuple(logit.shape)}"
            raise Broken(f"logits[{scale}] is {found}, expected torch.float32 with a row for each of 2 cases")
    if output.features and len(output.features) != len(output.logits):
        raise Broken(
            f"features has {len(output.features)} entries for {len(output.logits)} logits; give a tuple of feature "
            "maps for each, or none at all"
        )
    if not all(isinstance(one, Tensor) for scale in output.features for one in scale):
        raise Broken("features: expected a tuple of tensors for each entry of logits")


def takes_several_channels(trial: DiscriminatorTrial) -> None:
    """Each pair of channels makes a network that works."""
    for channels in trial.channels[1:]:
        network = trial.seeded(channels=channels).eval()
        with torch.no_grad():
            trial.output(network, trial.sides, channels=channels)


def takes_any_number_of_levels(trial: DiscriminatorTrial) -> None:
    """A generator may write one level or several; what is missing is made from level 0."""
    network = trial.seeded().eval()
    for levels in (1, _LEVELS):
        with torch.no_grad():
            try:
                trial.output(network, trial.sides, levels=levels)
            except (RuntimeError, ValueError, IndexError) as error:
                raise Broken(
                    f"it cannot judge a pyramid of {levels} levels ({error}); make the levels that are "
                    "missing with medtrans.types.pyramid"
                ) from error


def takes_sides_that_are_odd_and_no_cubes(trial: DiscriminatorTrial) -> None:
    """Patches come in any size."""
    first, second, third = trial.sides
    sides = (first, second + 4, third + 1)
    network = trial.seeded(sides=sides).eval()
    with torch.no_grad():
        trial.output(network, sides)


def leads_a_gradient_to_the_candidate(trial: DiscriminatorTrial) -> None:
    """Through the logits a generator learns."""
    network = trial.seeded().train().requires_grad_(requires_grad=False)
    candidate, source = trial.arguments(trial.sides)
    candidate = tuple(level.clone().requires_grad_() for level in candidate)
    value = total(trial.tensors(network(candidate, source)))
    if not value.requires_grad:
        raise Broken("no gradient leads from the logits to the candidate; look for a detach() or no_grad()")
    value.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    if candidate[0].grad is None or not bool(candidate[0].grad.any()):
        raise Broken(
            "no gradient leads from the logits to level 0 of the candidate, the only one that every generator has"
        )


DISCRIMINATOR_RULES: tuple[Rule[DiscriminatorTrial], ...] = (
    *SHARED_RULES,
    Rule("judges in the form that losses read", judges_in_the_form_that_losses_read),
    Rule("works with several channels", takes_several_channels),
    Rule("takes any number of levels", takes_any_number_of_levels),
    Rule("takes sides that are odd and no cubes", takes_sides_that_are_odd_and_no_cubes),
    Rule("leads a gradient to the candidate", leads_a_gradient_to_the_candidate),
    *NETWORK_RULES,
)


def check_discriminator(
    component: ComponentLike,
    *,
    options: Mapping[str, Any] | None = None,
    patch_size: Sides | None = None,
    channels: Sequence[Channels] | None = None,
    unused: Sequence[str] | None = None,
    excused: Mapping[str, str] | None = None,
) -> tuple[Verdict, ...]:
    """Try a discriminator against its contract, with a verdict on each rule; its own `trial` gives settings left out.

    Args:
        component: a `Component`, the class itself, or a name as a config writes it.
        options: as a config gives them; choose small ones, the network runs some forty times.
        patch_size: sides of the patch in voxels; 16 if not given.
        channels: pairs of source and target channels it must work with; (1, 1) and (2, 3) if not given.
        unused: patterns of trainable parameters that get no gradient, such as `heads.3.*`.
        excused: rules that need not hold, each with the reason.

    Raises:
        ConformanceError: lists every rule that is broken, with what to do.
        ConfigError: there is no such component, setting or rule.
    """
    given = {"options": options, "patch_size": patch_size, "channels": channels, "unused": unused, "excused": excused}
    return check(DiscriminatorTrial, DISCRIMINATOR_RULES, component, given)
