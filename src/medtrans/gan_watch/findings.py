"""Owns what the watch has found so far, and the file that keeps it over an interruption."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medtrans.atomic import write_json

__all__ = ["Findings", "findings_in"]


@dataclass
class Findings:
    """By kind, the newest text and the steps at which the fault was first and last seen.

    Args:
        told: kind to `{"text", "first", "last"}`.
    """

    told: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, kind: str, text: str, step: int) -> bool:
        """Record a fault; True where it is the first of its kind."""
        new = kind not in self.told
        self.told[kind] = {"text": text, "first": step if new else self.told[kind]["first"], "last": step}
        return new

    def warnings(self) -> list[str]:
        """A sentence or two for each kind, in the order of their coming."""
        return [
            f"{found['text']} (first seen at step {found['first']}, last at step {found['last']})"
            for found in sorted(self.told.values(), key=lambda found: found["first"])
        ]

    def until(self, step: int) -> Findings:
        """Those that had been made by `step`."""
        return Findings(
            {
                kind: {**found, "last": min(found["last"], step)}
                for kind, found in self.told.items()
                if found["first"] <= step
            }
        )

    def write(self, path: Path) -> None:
        """Keep them in a file."""
        write_json(path, {"told": self.told})


def findings_in(path: Path) -> Findings:
    """What a file keeps; nothing where there is none or it is damaged, since training does not depend on it."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))["told"]
        return Findings({str(kind): _checked(found) for kind, found in told.items()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Findings()


def _checked(found: Mapping[str, Any]) -> dict[str, Any]:
    return {"text": str(found["text"]), "first": int(found["first"]), "last": int(found["last"])}
