"""The dataset of files in folders: patterns with named fields say which images belong together."""

from __future__ import annotations

import logging
import os
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from medtrans import Case, ConfigError, DataError, Dataset
from medtrans.builtin.datasets.folders import checked_root

__all__ = ["PairedFolders"]

_TOKEN = re.compile(r"\{([^{}]*)\}|\*")


class PairedFolders(Dataset):
    """Image files in folders, found by a pattern for each modality.

    In a pattern `{subject}` and other fields such as `{session}` stand for any text without a slash, and `*` for any
    such text that does not matter. A field that occurs twice must read the same both times; where fields could share
    a text in several ways, an earlier field takes as much as it can. Files whose fields agree make a case; a pattern
    that leaves a field out (a mask for all sessions of a subject) serves every case that agrees with the others.
    Hidden files are passed over.

    A case without a mask or labels is listed without, with a warning; a case that lacks another modality is listed
    without it too, so that a run which needs it names the case.

    Example:
        `root: data/ixi`, `images: {t1: "{subject}/{subject}_T1w.nii.gz", t2: "{subject}/{subject}_T2w.nii.gz"}`

    Args:
        root: folder that the patterns start from.
        images: modality to pattern, relative to root; mask and labels are optional to each case.
        case: name of a case made from fields, such as "{subject}_{session}"; null joins all fields by "_".
    """

    def __init__(self, *, root: Path, images: dict[str, str], case: str | None = None) -> None:
        faults = [] if images else ["images: expected a pattern for at least one modality, found none"]
        self._patterns: dict[str, _Pattern] = {}
        for modality, text in images.items():
            found = _pattern_faults(modality, text)
            faults += found
            if not found:
                self._patterns[modality] = _Pattern.of(text)
        self._fields = tuple(dict.fromkeys(name for pattern in self._patterns.values() for name in pattern.fields))
        self._name = "_".join(f"{{{field}}}" for field in self._fields) if case is None else case
        if self._patterns and not faults:
            faults += self._field_faults()
        if faults:
            raise ConfigError(*faults)
        self._root = Path(root).expanduser()

    def cases(self) -> Sequence[Case]:
        """The cases in the order of their fields; looks at names only.

        Raises:
            DataError: there is no such folder, a pattern matches nothing, or two files with the same fields.
        """
        checked_root(self._root, " and ".join(f'"{pattern.text}"' for pattern in self._patterns.values()))
        found = {modality: pattern.files(self._root) for modality, pattern in self._patterns.items()}
        faults = [self._nothing(modality) for modality, files in found.items() if not files]
        for modality, files in found.items():
            faults += [
                f'images.{modality}: "{paths[0]}" and "{paths[1]}" have the same fields; make the pattern '
                f'"{self._patterns[modality].text}" match one of them only'
                for paths in files.values()
                if len(paths) > 1
            ]
        if faults:
            raise DataError(*faults)
        keys = {key for files in found.values() for key in files if len(key) == len(self._fields)}
        rows = sorted((dict(key) for key in keys), key=lambda fields: [fields[name] for name in self._fields])
        cases = [self._case(fields, found) for fields in rows]
        self._warn(cases, sum(len(files) for files in found.values()))
        return cases

    def _case(self, fields: dict[str, str], found: Mapping[str, Mapping[_Key, list[Path]]]) -> Case:
        images = {}
        for modality, pattern in self._patterns.items():
            paths = found[modality].get(_key({name: fields[name] for name in pattern.fields}))
            if paths is not None:
                images[modality] = paths[0]
        return Case(_filled(self._name, fields), fields["subject"], images)

    def _field_faults(self) -> list[str]:
        faults = []
        if "subject" not in self._fields:
            faults.append("images: expected the field {subject} in the patterns, found none")
        elif all(set(pattern.fields) != set(self._fields) for pattern in self._patterns.values()):
            named = ", ".join(f"{{{field}}}" for field in self._fields)
            faults.append(
                f"images: expected a pattern with all the fields {named}, so that cases are known; found none"
            )
        unknown = [name for name in _fields_of(self._name) if name not in self._fields]
        if unknown or (self._fields and not _fields_of(self._name)):
            known = ", ".join(f"{{{field}}}" for field in self._fields)
            faults.append(f'case: expected a name made from {known}, found "{self._name}"')
        return faults

    def _nothing(self, modality: str) -> str:
        seen = [f'"{path.relative_to(self._root)}"' for path in islice(_files_under(self._root), 3)]
        there = f"found files such as {', '.join(seen)}" if seen else "found no file at all"
        return (
            f'images.{modality}: nothing in "{self._root}" matches "{self._patterns[modality].text}"; {there}. Correct '
            "the pattern or root"
        )

    def _warn(self, cases: Sequence[Case], files: int) -> None:
        """Cases go by number here, since the log may be shared and names may not."""
        log = logging.getLogger("medtrans")
        for modality in self._patterns:
            missing = [f"case_{number:04d}" for number, case in enumerate(cases, 1) if modality not in case.images]
            if missing:
                more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
                listed = ", ".join(missing[:3]) + more
                log.warning("%d of %d cases have no %s: %s", len(missing), len(cases), modality, listed)
        unused = files - len({image for case in cases for image in case.images.items()})
        if unused:
            log.warning("%d of %d files found belong to no case and are left out", unused, files)


_Key = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class _Pattern:
    text: str
    fields: tuple[str, ...]
    glob: str
    match: re.Pattern[str]

    @classmethod
    def of(cls, text: str) -> _Pattern:
        glob, match, at = "", "", 0
        seen: list[str] = []
        for token in _TOKEN.finditer(text):
            literal = text[at : token.start()]
            glob += re.sub(r"([\[?])", r"[\1]", literal) + "*"
            match += re.escape(_composed(literal))
            field = token[1]
            begins = not match or match.endswith("/")
            free = r"(?!\.)[^/]+" if begins else r"[^/]+"
            if field is None:
                match += free.replace("+", "*")
            elif field in seen:
                match += f"(?P={field})"
            else:
                match += f"(?P<{field}>{free})"
                seen.append(field)
            at = token.end()
        glob += re.sub(r"([\[?])", r"[\1]", text[at:])
        match += re.escape(_composed(text[at:]))
        glob = re.sub(r"\*+", "*", glob)  # two in a row would reach through folders
        return cls(text, tuple(seen), glob, re.compile(match))

    def files(self, root: Path) -> dict[_Key, list[Path]]:
        """Files by the fields in their names."""
        files: dict[_Key, list[Path]] = {}
        for path in sorted(root.glob(self.glob)):
            fits = self.match.fullmatch(_composed(path.relative_to(root).as_posix()))
            if fits and not path.is_dir():  # a link to nowhere is a case whose file is missing, not no case
                files.setdefault(_key(fits.groupdict()), []).append(path)
        return files


def _pattern_faults(modality: str, text: str) -> list[str]:
    where = f'images.{modality}: "{text}":'
    faults = [f"{where} field names are letters, digits and _, found {{{name}}}"
              for name in _fields_of(text) if not name.isidentifier()]  # fmt: skip
    if "{" in _TOKEN.sub("", text) or "}" in _TOKEN.sub("", text):
        faults.append(f"{where} a brace has no partner; write a field as {{subject}}")
    if "**" in text:
        faults.append(f"{where} ** is not known; write one * for each folder")
    if not text or text.startswith("/") or ".." in text.split("/"):
        faults.append(f"{where} expected a path below root; set root instead")
    return faults


def _fields_of(text: str) -> list[str]:
    return [token[1] for token in _TOKEN.finditer(text) if token[1] is not None]


def _filled(text: str, fields: Mapping[str, str]) -> str:
    return _TOKEN.sub(lambda token: token[0] if token[1] is None else fields[token[1]], text)


def _key(fields: Mapping[str, str]) -> _Key:
    return tuple(sorted(fields.items()))


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _files_under(root: Path) -> Iterator[Path]:
    for folder, inner, names in os.walk(root):
        inner.sort()
        yield from (Path(folder, name) for name in sorted(names) if not name.startswith("."))
