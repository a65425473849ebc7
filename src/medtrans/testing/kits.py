"""The eight kinds of trial in one table, and the verdicts on a component of any kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from medtrans.errors import ConfigError
from medtrans.testing.callback import CALLBACK_RULES, CallbackTrial, check_callback
from medtrans.testing.dataset import DATASET_RULES, DatasetTrial, check_dataset
from medtrans.testing.discriminator import DISCRIMINATOR_RULES, DiscriminatorTrial, check_discriminator
from medtrans.testing.generator import GENERATOR_RULES, GeneratorTrial, check_generator
from medtrans.testing.loss import LOSS_RULES, check_loss
from medtrans.testing.loss_setup import LossTrial
from medtrans.testing.method import METHOD_RULES, check_method
from medtrans.testing.method_setup import MethodTrial
from medtrans.testing.metric import METRIC_RULES, MetricTrial, check_metric
from medtrans.testing.rules import Rule, Verdict, judge
from medtrans.testing.transform import check_transform, transform_rules
from medtrans.testing.transform_setup import TransformTrial
from medtrans.testing.trial import ComponentLike, Trial, make_trial
from medtrans.utils.messages import did_you_mean

__all__ = ["KITS", "Kit", "kit_of", "verdicts"]


@dataclass(frozen=True)
class Kit:
    """What the components of one kind are tried with.

    Args:
        trial: holds the settings.
        rules: gives the rules for a trial.
        check: the public check.
    """

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
    return judge(kit.rules(trial), trial, trial.excused)
