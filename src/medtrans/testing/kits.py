"""The eight kinds of trial in one table, and the verdicts on a component of any kind or on a whole plugin."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medtrans.errors import ConfigError
from medtrans.plugins.hookspecs import Component
from medtrans.plugins.options import options_of
from medtrans.plugins.registry import Registry
from medtrans.testing.callback import CALLBACK_RULES, CallbackTrial, check_callback
from medtrans.testing.dataset import DATASET_RULES, DatasetTrial, check_dataset
from medtrans.testing.discriminator import DISCRIMINATOR_RULES, DiscriminatorTrial, check_discriminator
from medtrans.testing.generator import GENERATOR_RULES, GeneratorTrial, check_generator
from medtrans.testing.loss import LOSS_RULES, LossTrial, check_loss
from medtrans.testing.method import METHOD_RULES, MethodTrial, check_method
from medtrans.testing.metric import METRIC_RULES, MetricTrial, check_metric
from medtrans.testing.rules import Rule, Verdict, try_rules
from medtrans.testing.transform import TransformTrial, check_transform, transform_rules
from medtrans.testing.trial import ComponentLike, Trial, make_trial
from medtrans.utils.messages import did_you_mean

__all__ = ["KITS", "ComponentVerdicts", "Kit", "kit_of", "plugin_text", "plugin_verdicts", "verdicts"]


@dataclass(frozen=True)
class Kit:
    """What the components of one kind are tried with: their settings, the rules for these, and the public check."""

    trial: type[Trial]
    rules: Callable[[Any], tuple[Rule[Any], ...]]
    check: Callable[..., tuple[Verdict, ...]]


KITS: dict[str, Kit] = {
    "generator": Kit(GeneratorTrial, lambda _: GENERATOR_RULES, check_generator),
    "discriminator": Kit(DiscriminatorTrial, lambda _: DISCRIMINATOR_RULES, check_discriminator),
    "loss": Kit(LossTrial, lambda _: LOSS_RULES, check_loss),
    "dataset": Kit(DatasetTrial, lambda _: DATASET_RULES, check_dataset),
    "metric": Kit(MetricTrial, lambda _: METRIC_RULES, check_metric),
    "method": Kit(MethodTrial, lambda _: METHOD_RULES, check_method),
    "transform": Kit(TransformTrial, transform_rules, check_transform),
    "callback": Kit(CallbackTrial, lambda _: CALLBACK_RULES, check_callback),
}
"""By kind."""


def kit_of(kind: str) -> Kit:
    """What the components of a kind are tried with.

    Raises:
        ConfigError: there is no such kind.
    """
    if kind not in KITS:
        raise ConfigError(f"no kind '{kind}'{did_you_mean(kind, KITS)} (known: {', '.join(KITS)})")
    return KITS[kind]


def verdicts(kind: str, component: ComponentLike, **settings: Any) -> tuple[Verdict, ...]:
    """The verdict on each rule, broken or kept, without raising.

    Args:
        kind: in the singular, such as "generator".
        component: a `Component`, the class itself, or a name as a config writes it.
        **settings: as `check_<kind>` takes them.

    Raises:
        ConfigError: there is no such kind, component, setting or rule.
    """
    kit = kit_of(kind)
    trial = make_trial(kit.trial, component, settings)
    return try_rules(kit.rules(trial), trial, trial.excused)


@dataclass(frozen=True)
class ComponentVerdicts:
    """What trying one component gave: a verdict a rule, or the reason why it was not tried."""

    kind: str
    name: str
    verdicts: tuple[Verdict, ...] = ()
    reason: str = ""


def plugin_verdicts(name: str, files: Sequence[Path] = ()) -> list[ComponentVerdicts]:
    """Try every component of a plugin, each under its own `trial` settings.

    Args:
        name: the plugin's, such as "swin"; "swin:small" tries one component alone.
        files: single-file plugins to have at hand.

    Raises:
        ConfigError: there is no such plugin or component.
        SetupError: the plugin is broken.
    """
    prefix, _, bare = name.partition(":")
    registry = Registry(tuple(files))
    offered = registry.plugin(prefix).components
    chosen = {key: one for key, one in offered.items() if bare in ("", key[1])}
    if not chosen:
        known = [other for _, other in offered]
        raise ConfigError(
            f"the plugin '{prefix}' offers {f'no {bare!r}' if bare else 'nothing'}{did_you_mean(bare, known)}"
        )
    return [
        _component_verdicts(kind, f"{prefix}:{own}", registry.find(kind, f"{prefix}:{own}").component)
        for kind, own in chosen
    ]


def plugin_text(tried: Sequence[ComponentVerdicts], *, as_json: bool) -> tuple[str, int]:
    """What is printed, and how many rules are broken."""
    outcomes = Counter(verdict.outcome for one in tried for verdict in one.verdicts)
    if as_json:
        return json.dumps([asdict(one) for one in tried], indent=2) + "\n", outcomes["broken"]
    lines = []
    for one in tried:
        lines.append(f"{one.kind} {one.name}")
        lines += [f"  {verdict}" for verdict in one.verdicts]
        lines += [f"  not tried  {one.reason}"] if one.reason else []
    counted = ", ".join(f"{outcomes[outcome]} {outcome}" for outcome in ("kept", "broken", "not tried"))
    lines.append(f"{len(tried)} component{'s' if len(tried) != 1 else ''}; rules: {counted}")
    return "\n".join(lines) + "\n", outcomes["broken"]


def _component_verdicts(kind: str, name: str, component: Component) -> ComponentVerdicts:
    given = component.trial.get("options", {})
    missing = [one.name for one in options_of(component, kind) if one.required and one.name not in given]
    if missing:
        reason = (
            f"needs {', '.join(missing)}: test it with medtrans.testing.check_{kind}, or give the component a `trial`"
        )
        return ComponentVerdicts(kind, name, reason=reason)
    return ComponentVerdicts(kind, name, verdicts(kind, component))
