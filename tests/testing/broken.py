"""What all tests of the conformance kit ask: is what is sound found sound, and each broken rule named and no other?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from medtrans import Component
from medtrans.testing import verdicts
from medtrans.testing.rules import Rule


@dataclass(frozen=True)
class Breaks:
    """A component that breaks one rule, part of the verdict on it, and whether it breaks no other."""

    rule: str
    factory: Any
    saying: str
    settings: dict[str, Any] = field(default_factory=dict)
    alone: bool = True

    def __str__(self) -> str:
        return f"{self.rule}: {self.saying}"


def altered(sound: type, **members: Any) -> type:
    """A sound component with other methods or attributes; as no module has it, it is not tried on two ranks."""
    return type("Altered", (sound,), members)


def after(sound: type, **changes: Callable[[Any], Any]) -> type:
    """A sound component some methods of which give what they gave before with something done to it."""

    def changed(name: str) -> Callable[..., Any]:
        return lambda *given: changes[name](getattr(sound, name)(*given))

    return altered(sound, **{name: changed(name) for name in changes})


def broken_rules(kind: str, factory: Any, **settings: Any) -> dict[str, str]:
    """The broken rules with what the kit says of each."""
    tried = verdicts(kind, Component("tried", factory), **settings)
    return {verdict.rule: verdict.detail for verdict in tried if verdict.outcome == "broken"}


def contract(
    kind: str,
    sound: Iterable[Any],
    breaking: Sequence[Breaks],
    rules: Iterable[Rule[Any]],
    *,
    but: Iterable[Rule[Any]] = (),
    **settings: Any,
) -> tuple[Callable[..., None], Callable[..., None], Callable[[], None]]:
    """The three tests for one kind: of `sound` components, or pairs of one and its settings, and of `breaking` ones.

    Each of the `rules` but those that other files break must be broken by one; `settings` of the kit are for all.
    """

    @pytest.mark.parametrize("component", sound, ids=lambda one: getattr(one, "__name__", "") or one[0].__name__)
    def keeps_all(component: Any) -> None:
        factory, more = component if isinstance(component, tuple) else (component, {})
        assert broken_rules(kind, factory, **settings, **more) == {}

    @pytest.mark.parametrize("case", breaking, ids=str)
    def breaks_one(case: Breaks) -> None:
        found = broken_rules(kind, case.factory, **settings, **case.settings)
        assert next(iter(found)) == case.rule
        assert not case.alone or list(found) == [case.rule]
        assert case.saying in found[case.rule]

    def breaks_each() -> None:
        expected = {rule.sentence for rule in rules} - {rule.sentence for rule in but}
        assert {case.rule for case in breaking} == expected

    return keeps_all, breaks_one, breaks_each
