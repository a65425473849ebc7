"""Owns how much a message lists: a few names, and the first faults of a kind."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["capped", "quoted"]

_FAULTS = 20


def quoted(names: Sequence[str], most: int = 4) -> str:
    """The first names in quotes, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(f'"{name}"' for name in names[:most]) + more


def capped(faults: Sequence[str]) -> list[str]:
    """The first faults, and how many more there are."""
    more = len(faults) - _FAULTS
    return list(faults) if more <= 0 else [*faults[:_FAULTS], f"... and {more} more of this kind"]
