"""Owns names of image files in BIDS: what they say, and which of them a selector such as `ce-gadolinium_T1w` means."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Selector", "parsed"]

_NAME = re.compile(
    r"(?P<subject>sub-[A-Za-z0-9+]+)(?:_(?P<session>ses-[A-Za-z0-9+]+))?"
    r"(?P<entities>(?:_[a-z]+-[A-Za-z0-9+]+)*)_(?P<suffix>[A-Za-z0-9]+)\.nii(?:\.gz)?"
)
_SELECTOR = re.compile(r"(?P<entities>(?:[a-z]+-[A-Za-z0-9+]+_)*)(?P<suffix>[A-Za-z0-9]+)")
_FREE = ("acq", "rec", "run")  # tell repeats apart; any other entity makes another kind of image


@dataclass(frozen=True)
class BidsName:
    """What a file's name says.

    Args:
        subject: "sub-01".
        session: "ses-1", or "" where there are none.
        entities: the other key-value pairs.
        suffix: "T1w".
    """

    subject: str
    session: str
    entities: Mapping[str, str]
    suffix: str


def parsed(name: str) -> BidsName | None:
    """What a file's name says, or None where it is no NIfTI file named as BIDS wants it."""
    fields = _NAME.fullmatch(name)
    if fields is None:
        return None
    return BidsName(fields["subject"], fields["session"] or "", _pairs(fields["entities"]), fields["suffix"])


@dataclass(frozen=True)
class Selector:
    """Which files are a modality: those with this suffix and these entities.

    Entities that the selector does not name must be absent, since they make another kind of image (`ce`, `part`,
    `space`, `desc`), save `acq`, `rec` and `run`, which tell repeats apart.
    """

    entities: Mapping[str, str]
    suffix: str

    @classmethod
    def of(cls, text: str) -> Selector | None:
        """A selector as a config writes it, or None where it is none."""
        fields = _SELECTOR.fullmatch(text)
        return None if fields is None else cls(_pairs(fields["entities"]), fields["suffix"])

    def rank(self, name: BidsName, chosen: Mapping[str, str]) -> int:
        """How well a file fits: -1 not at all, else the number of chosen entities that its name states.

        Args:
            name: of the file.
            chosen: entities that decide among repeats; a file that states another value does not fit, one that states
                none fits less well.
        """
        if name.suffix != self.suffix or any(key not in name.entities for key in self.entities):
            return -1
        stated = 0
        for key, value in name.entities.items():
            wanted = self.entities.get(key, chosen.get(key))
            if wanted is None and key in _FREE:
                continue
            if wanted is None or not _same(value, wanted):
                return -1
            stated += key not in self.entities
        return stated


def _pairs(text: str) -> dict[str, str]:
    pairs = (pair.partition("-") for pair in text.split("_") if pair)
    return {key: value for key, _, value in pairs}


def _same(one: str, other: str) -> bool:
    """Whether two values are the same, as `run-1` and `run-01` are."""
    if one.isdecimal() and other.isdecimal():
        return int(one) == int(other)
    return one.casefold() == other.casefold()
