"""Owns cases that lack an image: they are left out or only mentioned, and always counted."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from medtrans import Case

__all__ = ["complete", "mention"]


def complete(cases: Sequence[Case], required: Iterable[str]) -> list[Case]:
    """The cases that have all required modalities, with a warning for each modality that some lack.

    Warnings count and name nobody, since the log may be shared.
    """
    required = tuple(required)
    _warn(cases, required, "have no %s and are left out")
    return [case for case in cases if all(modality in case.images for modality in required)]


def mention(cases: Sequence[Case], wanted: Iterable[str]) -> None:
    """Warn of each modality that some cases lack."""
    _warn(cases, wanted, "have no %s")


def _warn(cases: Sequence[Case], modalities: Iterable[str], what: str) -> None:
    for modality in modalities:
        lacking = sum(1 for case in cases if modality not in case.images)
        if lacking:
            logging.getLogger("medtrans").warning(f"%d of %d cases {what}", lacking, len(cases), modality)
