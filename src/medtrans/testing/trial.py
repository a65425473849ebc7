"""What is tried, and on what: a component under its settings, small images, and the rules that all kinds share."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar, TypeAlias, TypeVar

import torch
from torch import Tensor

from medtrans.errors import ConfigError
from medtrans.plugins.hookspecs import Component
from medtrans.plugins.options import build, check_options, options_of, summary_of
from medtrans.plugins.registry import Registry
from medtrans.testing.rules import Broken, ConformanceError, Rule, Verdict, try_rules

__all__ = [
    "PATTERNS",
    "SHARED_RULES",
    "ComponentLike",
    "Sides",
    "Trial",
    "check",
    "component_of",
    "make_trial",
    "pattern",
]

Sides: TypeAlias = tuple[int, int, int]

ComponentLike: TypeAlias = Component | Callable[..., Any] | str
"""A component, a class or function that makes one, or a name as a config writes it."""

PATTERNS: Mapping[str, str] = MappingProxyType(
    {
        "zeros": "an image of zeros",
        "ones": "an image of ones",
        "half": "an image of one half everywhere",
        "step": "an image that steps from 0 to 1",
        "voxel": "an image of zeros with one voxel of 1",
    }
)
"""The names of constant and extreme images, and what each is called in a verdict."""

SomeTrial = TypeVar("SomeTrial", bound="Trial")


@dataclass(frozen=True)
class Trial:
    """One component under the settings it is tried with, as the `check_*` of its kind takes them."""

    kind: ClassVar[str]

    component: Component
    options: Mapping[str, Any] = field(default_factory=dict)
    excused: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.kind} '{self.component.name}'"

    def make(self, **facts: Any) -> Any:
        """The component, made as a run makes it.

        Raises:
            Broken: the options are refused.
        """
        checked, faults = check_options(self.component, self.kind, _plain(self.options))
        if faults:
            listed = "; ".join(f"{'.'.join(map(str, fault.path))}: {fault.message}" for fault in faults)
            raise Broken(f"its options are refused: {listed}; give `options` that a config could give")
        return build(self.component, self.kind, checked, facts)


def component_of(kind: str, component: ComponentLike) -> Component:
    """The component that is meant.

    Raises:
        ConfigError, SetupError: no such name, or its plugin is broken.
    """
    if isinstance(component, Component):
        return component
    if isinstance(component, str):
        return Registry().find(kind, component).component
    return Component(getattr(component, "__name__", type(component).__name__), component)


def make_trial(trial: type[SomeTrial], component: ComponentLike, settings: Mapping[str, Any]) -> SomeTrial:
    """A trial under the component's own `trial` settings and those given here, which win; None means not given.

    Raises:
        ConfigError: the kit has no such setting.
    """
    found = component_of(trial.kind, component)
    merged = {**found.trial, **{name: value for name, value in settings.items() if value is not None}}
    known = set(inspect.signature(trial).parameters) - {"component"}
    strangers = sorted(set(merged) - known)
    if strangers:
        raise ConfigError(
            f"{trial.kind} '{found.name}': the kit has no setting {', '.join(strangers)} "
            f"(known: {', '.join(sorted(known))})"
        )
    return trial(found, **merged)


def check(
    trial: type[SomeTrial],
    rules: tuple[Rule[SomeTrial], ...] | Callable[[SomeTrial], tuple[Rule[SomeTrial], ...]],
    component: ComponentLike,
    settings: Mapping[str, Any],
) -> tuple[Verdict, ...]:
    """The verdict on each rule of a contract.

    Raises:
        ConformanceError: a rule is broken.
        ConfigError: there is no such component, setting or rule.
    """
    made = make_trial(trial, component, settings)
    found = try_rules(rules(made) if callable(rules) else rules, made, made.excused)
    if any(verdict.outcome == "broken" for verdict in found):
        raise ConformanceError(str(made), found)
    return found


def documented(trial: Trial) -> None:
    """The class says what it is, and each option what it does."""
    if not summary_of(trial.component):
        raise Broken("it has no docstring; write one, its first line is what `medtrans show` prints")
    options = options_of(trial.component, trial.kind)
    silent = [option.name for option in options if not option.doc]
    if silent:
        raise Broken(f"{', '.join(silent)}: no text in the docstring; give each a line under `Args:`")
    untyped = [option.name for option in options if option.annotation is Any]
    if untyped:
        raise Broken(f"{', '.join(untyped)}: no annotation, so that a config's value cannot be checked; annotate it")


def accepts_its_defaults(trial: Trial) -> None:
    """What `medtrans show` prints can be pasted."""
    for option in options_of(trial.component, trial.kind):
        if option.required:
            continue
        required = {one: value for one, value in _plain(trial.options).items() if one != option.name}
        _, faults = check_options(trial.component, trial.kind, {**required, option.name: _plain(option.default)})
        mine = [fault.message for fault in faults if fault.path[:1] == (option.name,)]
        if mine:
            raise Broken(f"{option.name}: its default {option.default!r} does not fit its annotation: {mine[0]}")


SHARED_RULES: tuple[Rule[Trial], ...] = (
    Rule("options are documented and annotated", documented),
    Rule("defaults fit their annotations", accepts_its_defaults),
)


def pattern(fill: str, batch: int, channels: int, sides: Sides, *, seed: int = 0) -> Tensor:
    """An image `(b, c, i, j, k)` in [0, 1]: "noise", or one of `PATTERNS`."""
    shape = (batch, channels, *sides)
    if fill == "noise":
        return torch.rand(shape, generator=torch.Generator().manual_seed(seed))
    image = torch.zeros(shape)
    match fill:
        case "ones":
            image += 1
        case "half":
            image += 0.5
        case "step":
            image[:, :, sides[0] // 2 :] = 1
        case "voxel":
            image[:, :, sides[0] // 2, sides[1] // 2, sides[2] // 2] = 1
    return image


def _plain(value: Any) -> Any:
    """An option as YAML would hold it."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, tuple | list | set | frozenset):
        return [_plain(inner) for inner in value]
    if hasattr(value, "__dataclass_fields__") and not isinstance(value, type):
        return {name: _plain(getattr(value, name)) for name in value.__dataclass_fields__}
    return value if isinstance(value, str | int | float | bool | None) else str(value)
