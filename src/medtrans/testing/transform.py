"""The check of transforms: an intensity scaling has one contract, an augmentation another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medtrans.plugins.interfaces import Augmentation
from medtrans.testing.augmentation import AUGMENTATION_RULES
from medtrans.testing.rules import Rule, Verdict
from medtrans.testing.scaling import SCALING_RULES
from medtrans.testing.transform_setup import TransformTrial
from medtrans.testing.trial import ComponentLike, check

__all__ = ["check_transform", "transform_rules"]


def transform_rules(trial: TransformTrial) -> tuple[Rule[TransformTrial], ...]:
    """The rules of its contract."""
    factory = trial.component.load()
    return AUGMENTATION_RULES if isinstance(factory, type) and issubclass(factory, Augmentation) else SCALING_RULES


def check_transform(
    component: ComponentLike,
    *,
    options: Mapping[str, Any] | None = None,
    between: tuple[float, float] | None = None,
    excused: Mapping[str, str] | None = None,
) -> tuple[Verdict, ...]:
    """Try an intensity scaling or an augmentation against its contract; returns the verdict on each rule.

    Settings that are not given are taken from the component's own `trial`.

    Args:
        component: a `Component`, the class itself, or a name as a config writes it.
        options: as a config gives them.
        between: for a scaling, two native intensities that images of its kind lie between; 0 and 1000 if not given.
        excused: rules that need not hold, each with the reason.

    Raises:
        ConformanceError: lists every rule that is broken, with what to do.
        ConfigError: there is no such component, setting or rule.
    """
    given = {"options": options, "between": between, "excused": excused}
    return check(TransformTrial, transform_rules, component, given)
