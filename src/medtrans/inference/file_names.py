"""The names of the files that predictions are written to: safe in any folder, and one for each case and target."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medtrans.data.cohort import Member

__all__ = ["file_stems"]


_LONGEST = 60
_SAFE = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_-]{{0,{_LONGEST - 1}}}")


def file_stems(members: Iterable[Member], targets: Sequence[str]) -> Mapping[tuple[int, str], str]:
    """The name without ending of each case's prediction of each target: `<case>_<target>`.

    A case or target whose name is no safe file name (letters, digits, - and _, not beginning with - or _, at most 60
    characters) gets its number behind what is left of its name, and so does a case whose file would have the name of
    an earlier case's. No two names are equal, in whatever case they are written.

    Args:
        members: all cases of the run, so that a name does not depend on which of them are predicted.
        targets: modalities.

    Returns:
        By the case's number and the target.
    """
    endings = {target: _safe(target) or _numbered(target, number) for number, target in enumerate(targets, 1)}
    stems: dict[tuple[int, str], str] = {}
    taken: set[str] = set()
    for member in members:
        name = _safe(member.case.case)
        if name is None or any(f"{name}_{ending}".casefold() in taken for ending in endings.values()):
            name = _numbered(member.case.case, member.number)
        for target, ending in endings.items():
            stem = f"{name}_{ending}"
            while stem.casefold() in taken:  # another case is called just as this one when numbered
                stem += "-"
            taken.add(stem.casefold())
            stems[member.number, target] = stem
    return stems


def _safe(name: str) -> str | None:
    return name if _SAFE.fullmatch(name) else None


def _numbered(name: str, number: int) -> str:
    left = re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_-")[:_LONGEST]
    return f"{left}-{number:04d}" if left else f"{number:04d}"
