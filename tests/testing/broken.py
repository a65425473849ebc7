"""Owns the question that all tests of the conformance kit ask: which rules does this component break?"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from medtrans import Component
from medtrans.testing import verdicts


@dataclass(frozen=True)
class Breaks:
    """A component that breaks one rule.

    Args:
        rule: the rule.
        factory: breaks it.
        saying: a part of the verdict.
        settings: of the kit.
    """

    rule: str
    factory: Any
    saying: str
    settings: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.rule}: {self.factory.__name__}"


def broken_rules(kind: str, factory: Any, **settings: Any) -> dict[str, str]:
    """The broken rules with what the kit says of each."""
    tried = verdicts(kind, Component("tried", factory), **settings)
    return {verdict.rule: verdict.detail for verdict in tried if verdict.outcome == "broken"}
