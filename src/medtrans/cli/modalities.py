"""Guesses from the names of image files: which modality a file is, and a pattern with fields for many of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from medtrans.volume import stem_of

__all__ = ["modality_of", "pattern_of"]


_WORD = re.compile(r"[A-Za-z0-9+]+")
_PREFIXED = re.compile(r"([A-Za-z]+)\d+")
_CONTRAST = frozenset({"ce", "gd", "gad", "gadolinium", "post", "contrast", "enhanced"})
_WORDS: Mapping[str, frozenset[str]] = MappingProxyType(
    {  # the first of these that a name holds decides: a mask of a T1 is a mask
        "mask": frozenset({"mask", "brainmask", "bodymask"}),
        "labels": frozenset({"labels", "label", "seg", "segmentation", "dseg", "aseg", "parc"}),
        "t1ce": frozenset({"t1ce", "t1c", "t1gd", "t1post"}),
        "flair": frozenset({"flair", "t2f", "t2flair"}),
        "cbct": frozenset({"cbct"}),
        "ct": frozenset({"ct"}),
        "t2": frozenset({"t2", "t2w"}),
        "pd": frozenset({"pd", "pdw"}),
        "t1": frozenset({"t1", "t1w", "t1n", "mprage"}),
        "mr": frozenset({"mr", "mri"}),
    }
)
_SUBJECT = frozenset({"sub", "subj", "subject", "patient", "pat", "pt", "case", "id", "p", "s"})
_VISIT = MappingProxyType(
    dict.fromkeys(("ses", "session", "visit", "tp", "timepoint", "v"), "session") | {"run": "run", "acq": "acq"}
)
_FEWEST = 3  # different values that the subjects of a cohort must have to be split


def modality_of(path: str) -> str | None:
    """The modality that a file's name says, else the folders it lies in, the nearest first; None if none does.

    Args:
        path: relative, with slashes.
    """
    for part in reversed(_without_ending(path)[0].split("/")):
        words = {word.casefold() for word in _WORD.findall(part)}
        for modality, known in _WORDS.items():
            if words & known:
                return "t1ce" if modality == "t1" and words & _CONTRAST else modality
    return None


def pattern_of(paths: Sequence[str], modality: str, *, by_word: bool) -> str | None:
    """A pattern with {subject}, and other fields where need be, for as many of one modality's files as have one form.

    What is the same in all these names stays as it is; what differs becomes a field, and what differs alike in several
    places becomes the same field. The subject is what is named so (`sub-01`, `patient7`), else the first that has at
    least three values and is not named otherwise (`ses-1`).

    Args:
        paths: relative, with slashes.
        modality: of all of them.
        by_word: names are taken apart at every sign, so that a session within a name becomes a field of its own; else
            only at slashes and around the modality, for names whose words differ in number.

    Returns:
        None where the names do not differ, so that there is no subject.
    """
    forms: dict[tuple[str, ...], list[list[str]]] = {}
    for path in sorted(paths):
        parts = _parts(path, modality, by_word=by_word)
        forms.setdefault(tuple(parts[1::2]), []).append(parts[::2])
    if not forms:
        return None
    signs, rows = max(forms.items(), key=lambda form: (len(form[1]), -len(form[0])))
    columns = [tuple(row[place] for row in rows) for place in range(len(rows[0]))]
    fields = _fields(columns, signs)
    if "subject" not in fields.values():
        return None
    words = [f"{{{fields[column]}}}" if column in fields else column[0] for column in columns]
    return "".join(word + sign for word, sign in zip(words, (*signs, ""), strict=True))


def _without_ending(path: str) -> tuple[str, str]:
    folders, slash, name = path.rpartition("/")
    stem = stem_of(name)
    return f"{folders}{slash}{stem}", name.removeprefix(stem)


def _parts(path: str, modality: str, *, by_word: bool) -> list[str]:
    """The name's words and the signs between them in turn, beginning and ending with a word; the ending is a sign."""
    body, ending = _without_ending(path)
    if by_word:
        return [*re.split(r"([^A-Za-z0-9+]+)", body), ending, ""]
    *folders, name = body.split("/")
    parts = [piece for folder in folders for piece in (folder, "/")]
    word = next((found for found in _WORD.finditer(name) if modality_of(found[0]) == modality), None)
    if word is None:
        return [*parts, name, ending, ""]
    before = re.sub(r"[^A-Za-z0-9+]+$", "", name[: word.start()])
    after = re.sub(r"^[^A-Za-z0-9+]+", "", name[word.end() :])
    return [*parts, before, name[len(before) : len(name) - len(after)], after, ending, ""]


def _fields(columns: Sequence[tuple[str, ...]], signs: Sequence[str]) -> dict[tuple[str, ...], str]:
    """The field of each column whose words differ."""
    hints: dict[tuple[str, ...], str] = {}  # what a column's values are, where the name says so
    for place, column in enumerate(columns):
        if len(set(column)) > 1 and column not in hints:
            hints[column] = _hint(column, columns[place - 1] if place and signs[place - 1] == "-" else ())
    subject = _subject(hints)
    fields: dict[tuple[str, ...], str] = {}
    for number, (column, hint) in enumerate(hints.items(), 1):
        name = "subject" if column == subject else _VISIT.get(hint, "")
        fields[column] = name if name and name not in fields.values() else f"part{number}"
    return fields


def _hint(column: Sequence[str], before: Sequence[str]) -> str:
    """The word that names a column's values: one before a hyphen, or one that all of them begin with."""
    words = set(before) if len(set(before)) == 1 else _beginnings(column)
    (word,) = words if len(words) == 1 else ("",)
    word = word.casefold()
    return word if word in _SUBJECT or word in _VISIT else ""


def _beginnings(values: Iterable[str]) -> set[str]:
    return {found[1] if (found := _PREFIXED.fullmatch(value)) else "" for value in values}


def _subject(hints: Mapping[tuple[str, ...], str]) -> tuple[str, ...] | None:
    named = [column for column, hint in hints.items() if hint in _SUBJECT]
    free = [column for column, hint in hints.items() if hint not in _VISIT]
    many = [column for column in free if len(set(column)) >= _FEWEST]
    return next(iter((*named, *many, *free)), None)
