"""The contract of generators, rule by rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from medtrans.inference.sliding_window import sliding_window
from medtrans.plugins.input_size import multiple_of, padded_sides
from medtrans.testing.networks import NETWORK_RULES, Channels, NetworkTrial, total
from medtrans.testing.rules import Broken, Rule, Verdict, undisturbed
from medtrans.testing.trial import SHARED_RULES, ComponentLike, Sides, check, pattern
from medtrans.types import as_pyramid

__all__ = ["GENERATOR_RULES", "GeneratorTrial", "check_generator"]

_NEAR = 1e-4


@dataclass(frozen=True)
class GeneratorTrial(NetworkTrial):
    """A generator under trial."""

    kind: ClassVar[str] = "generator"

    def network(self, channels: Channels | None = None, sides: Sides | None = None) -> nn.Module:
        source, target = channels or self.channels[0]
        made: nn.Module = self.make(
            in_channels=source, out_channels=target, patch_size=sides or self.sides, initialise=True
        )
        return made

    @cached_property
    def sides(self) -> Sides:
        """The patch asked for, else 16 voxels a side, rounded up to the network's multiple."""
        if self.patch_size is not None:
            return self.patch_size
        with undisturbed():
            network = self.network(sides=(16, 16, 16))
        return padded_sides((16, 16, 16), multiple_of(network))

    def arguments(self, sides: Sides, channels: Channels | None = None, batch: int = 2, fill: str = "noise") -> Any:
        return (pattern(fill, batch, (channels or self.channels[0])[0], sides),)

    def tensors(self, output: Any) -> tuple[Tensor, ...]:
        if not isinstance(output, Tensor | tuple | list) or not all(isinstance(one, Tensor) for one in output):
            raise Broken(
                f"forward gives {type(output).__name__}, expected a tensor or a tuple of tensors, finest first"
            )
        levels = as_pyramid(output if isinstance(output, Tensor) else tuple(output))
        if not levels:
            raise Broken("forward gives an empty tuple, expected a tensor for each level, finest first")
        return levels

    def ddp_loss(self, network: nn.Module) -> Tensor:
        """What one rank minimises in a step."""
        source, _ = self.channels[0]
        return total(self.tensors(network(torch.rand(2, source, *self.sides))))


def says_what_sides_it_takes(trial: GeneratorTrial) -> None:
    """`multiple` and `window` are what the engine can use."""
    network = trial.seeded()
    multiple = getattr(network, "multiple", 1)
    numbers = (multiple,) * 3 if isinstance(multiple, int) else multiple
    if not isinstance(numbers, tuple | list) or len(numbers) != 3 or not all(map(_is_count, numbers)):
        raise Broken(f"multiple: found {multiple!r}, expected a whole number from 1 on or three of them")
    window = getattr(network, "window", None)
    if window is None:
        return
    if len(window) != 3 or not all(side is None or _is_count(side) for side in window):
        raise Broken(f"window: found {window!r}, expected three sides in voxels, None for a whole extent")


def gives_an_image_as_large_as_its_source(trial: GeneratorTrial) -> None:
    """Sides of every level, and their type."""
    network = trial.seeded().eval()
    _expect_levels(trial, network, trial.sides, trial.channels[0])
    with torch.no_grad():
        for level, image in enumerate(trial.output(network, trial.sides)):
            if image.dtype != torch.float32:
                raise Broken(f"level {level} is {image.dtype}, expected torch.float32")


def takes_several_channels(trial: GeneratorTrial) -> None:
    """Each pair of channels makes a network that gives as many as it is told."""
    for channels in trial.channels[1:]:
        _expect_levels(trial, trial.seeded(channels=channels), trial.sides, channels)


def takes_patches_that_are_no_cubes(trial: GeneratorTrial) -> None:
    """Another side along each axis, each a multiple."""
    first, second, third = trial.sides
    _, j, k = multiple_of(trial.seeded())
    sides = (first, second + j, third + (2 * k if k < 16 else 0))  # large multiples would make large patches
    _expect_levels(trial, trial.seeded(sides=sides), sides, trial.channels[0])


def translates_volumes_of_any_size(trial: GeneratorTrial) -> None:
    """Window by window, padded to the multiple and cropped back, over a volume that divides by nothing."""
    network, patch = trial.seeded().eval(), trial.sides
    multiple = multiple_of(network)
    shape = (max(1, patch[0] - 3), patch[1] + 1, max(1, patch[2] - 1))
    whole = padded_sides(shape, multiple)
    asked = getattr(network, "window", None) or patch
    i, j, k = (side or extent for side, extent in zip(asked, whole, strict=True))
    source, target = trial.channels[0]
    found = sliding_window(
        lambda windows: as_pyramid(network(windows))[0],
        pattern("noise", 1, source, shape),
        window=(i, j, k),
        overlap=0.0,
        blend="constant",
        batch=1,
        multiple=multiple,
    )
    if tuple(found.shape) != (1, target, *shape):
        raise Broken(f"a volume of {shape} voxels came back as {tuple(found.shape)}")
    if not bool(torch.isfinite(found).all()):
        raise Broken(f"a volume of {shape} voxels came back with values that are not finite")


def keeps_cases_apart(trial: GeneratorTrial) -> None:
    """In evaluation mode a case's translation does not depend on the cases beside it."""
    network, sides = trial.seeded().eval(), trial.sides
    source, _ = trial.channels[0]
    both = pattern("noise", 2, source, sides)
    with torch.no_grad():
        together = trial.tensors(network(both))
        alone = trial.tensors(network(both[1:]))
    if any(float((one[1:] - other).abs().max()) > _NEAR for one, other in zip(together, alone, strict=True)):
        raise Broken("a case's translation depends on the other cases of its batch; mind how axes are folded into it")


def depends_on_its_source(trial: GeneratorTrial) -> None:
    """Another source, another translation."""
    network = trial.seeded().train()
    (source,) = trial.arguments(trial.sides)
    source.requires_grad_()
    total(trial.tensors(network(source))).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    if source.grad is None or not bool(source.grad.any()):
        raise Broken("its output does not depend on the source; look for a detach() or a weight of 0 on every path")


GENERATOR_RULES: tuple[Rule[GeneratorTrial], ...] = (
    *SHARED_RULES,
    Rule("says what sides it takes", says_what_sides_it_takes),
    Rule("gives an image as large as its source", gives_an_image_as_large_as_its_source),
    Rule("works with several channels", takes_several_channels),
    Rule("takes patches that are no cubes", takes_patches_that_are_no_cubes),
    Rule("translates volumes of any size", translates_volumes_of_any_size),
    Rule("keeps the cases of a batch apart", keeps_cases_apart),
    Rule("depends on its source", depends_on_its_source),
    *NETWORK_RULES,
)


def check_generator(
    component: ComponentLike,
    *,
    options: Mapping[str, Any] | None = None,
    patch_size: Sides | None = None,
    channels: Sequence[Channels] | None = None,
    unused: Sequence[str] | None = None,
    excused: Mapping[str, str] | None = None,
) -> tuple[Verdict, ...]:
    """Try a generator against its contract, with a verdict on each rule; its own `trial` gives settings left out.

    Args:
        component: a `Component`, the class itself, or a name as a config writes it.
        options: as a config gives them; choose small ones, the network runs some forty times.
        patch_size: sides of the patch in voxels; about 16 if not given.
        channels: pairs of source and target channels it must work with; (1, 1) and (2, 3) if not given.
        unused: patterns of trainable parameters that get no gradient, such as `head.3.*`.
        excused: rules that need not hold, each with the reason.

    Raises:
        ConformanceError: lists every rule that is broken, with what to do.
        ConfigError: there is no such component, setting or rule.
    """
    given = {"options": options, "patch_size": patch_size, "channels": channels, "unused": unused, "excused": excused}
    return check(GeneratorTrial, GENERATOR_RULES, component, given)


def _expect_levels(trial: GeneratorTrial, network: nn.Module, sides: Sides, channels: Channels) -> None:
    source, target = channels
    with torch.no_grad():
        levels = trial.tensors(network.eval()(pattern("noise", 2, source, sides)))
    for level, image in enumerate(levels):
        expected = (2, target, *(ceil(side / 2**level) for side in sides))
        if tuple(image.shape) != expected:
            raise Broken(
                f"level {level} of a source of {sides} voxels has shape {tuple(image.shape)}, expected {expected}"
            )


def _is_count(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and number >= 1
