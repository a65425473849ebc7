"""Owns what verbs print."""

from __future__ import annotations

__all__ = ["leads", "print_table"]


def leads() -> bool:
    """Whether this process is the one that shows results."""
    from medtrans.launchers import place

    return place().rank == 0


def print_table(table: object) -> None:
    """Show one of rich's tables on stdout."""
    from rich.console import Console

    Console().print(table)
