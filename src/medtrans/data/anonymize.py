"""Anonymizing what is made to be shared: case numbers for names, nothing of files and folders."""

from __future__ import annotations

import html
import json
import re
import socket
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unicodedata import normalize
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from medtrans.config.experiment import Experiment
    from medtrans.data.cohort import Cohort, Member

__all__ = ["WITHHELD", "Anonymizer", "shareable_config"]


WITHHELD = "(kept with the data)"
_ABSOLUTE = r"(?:~|[A-Za-z]:)?[/\\]"
_PATHS = re.compile(
    rf"""(?P<quote>["']){_ABSOLUTE}[^"'\n]*(?P=quote)|(?<![\w./\\)]){_ABSOLUTE}[^\s"',;:()\[\]]+""", re.VERBOSE
)
_STARTS_AS_PATH = re.compile(rf"{_ABSOLUTE}|~|\.\.?[/\\]")
_PROCESS = re.compile(r"(process \d+) on [^\s,;)]+")  # how a message names one on another machine
_TELLING = 3  # characters that a name needs to be found where it is not quoted: "1" stands in many a sentence


class Anonymizer:
    """Takes the names of cases, subjects, files, folders and machines out of texts.

    A name is found in either case, in composed and decomposed Unicode, and as a URL, JSON, HTML or Python escapes it.

    Args:
        cohort: whose names are kept back.
        experiment: whose files and folders are kept back, and whether the run shows the names of its cases.
    """

    def __init__(self, cohort: Cohort, experiment: Experiment) -> None:
        instead = dict.fromkeys([socket.gethostname(), *_places(experiment)], WITHHELD) | _folders(cohort)
        for member in cohort.members:
            instead |= _files(member)
        if experiment.config.names:
            # A folder may be called like its subject, whose name is shown.
            shown = "\n".join(f"{member.case.subject}\n{member.case.case}" for member in cohort.members)
            instead = {name: text for name, text in instead.items() if name not in shown}
        else:
            for member in cohort.members:
                instead |= {member.case.subject: f"the subject of {member.label}", member.case.case: member.label}
        self._forms = {form: form.casefold() for name in instead if name for form in _forms(name)}
        self._instead = {form.casefold(): text for name, text in instead.items() for form in _forms(name)}

    def shareable(self, text: str) -> str:
        """The text, composed, with case numbers for names, and without files, folders and machines."""
        text = _PROCESS.sub(r"\1", normalize("NFC", text))
        lowered = text.casefold()
        # Most lines hold none of thousands of names: those that may be there are found first, and few.
        there = sorted((form for form, low in self._forms.items() if low in lowered), key=len, reverse=True)
        if there:
            names = re.compile("|".join(map(_anywhere, there)), re.IGNORECASE)
            text = names.sub(lambda found: self._instead.get(found.group().casefold(), WITHHELD), text)
        return _PATHS.sub(WITHHELD, text)


def shareable_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A saved config without what may name people and places: texts of the dataset's options, files and folders."""
    shown = {
        key: _mapped(value, lambda text: WITHHELD if _STARTS_AS_PATH.match(text) else text)
        for key, value in config.items()
    }
    options = _mapped(shown["dataset"].get("options", {}), lambda _: WITHHELD)
    return shown | {"output_dir": WITHHELD, "dataset": {**shown["dataset"], "options": options}}


def _forms(name: str) -> Iterator[str]:
    """A name composed, and as URLs, JSON, HTML and Python may write it, composed and decomposed."""
    yield from (normalize("NFC", name), normalize("NFC", name.casefold()))
    for form in (normalize("NFC", name), normalize("NFD", name)):
        content = form.encode("utf-8", "surrogatepass")
        yield from (quote(content), quote(content, safe=""), quote_plus(content), html.escape(form))
        yield from (json.dumps(form)[1:-1], ascii(form)[1:-1], repr(content)[2:-1])


def _anywhere(name: str) -> str:
    if len(name) < _TELLING or name.isdigit():
        return f"(?<=[\"']){re.escape(name)}(?=[\"'])"
    before = r"(?<![^\W_])" if name[0].isalnum() else ""
    after = r"(?![^\W_])" if name[-1].isalnum() else ""
    return f"{before}{re.escape(name)}{after}"


def _places(experiment: Experiment) -> Iterator[str]:
    """Files and folders that the config names, as it names them and absolute."""
    config = experiment.config
    named = [config.output_dir, *_texts(config.dataset.options), getattr(config.split, "path", "")]
    if config.train.initialise_from is not None:
        named.append(config.train.initialise_from.run)
    for name in named:
        if _STARTS_AS_PATH.match(name) or "/" in name or (name and Path(name).exists()):
            yield from (name, *_above(Path(name)))


def _files(member: Member) -> dict[str, str]:
    found: dict[str, str] = {}
    for modality, image in member.case.images.items():
        if not callable(image):
            path = Path(image)
            found |= dict.fromkeys((str(path), str(path.absolute()), path.name), f"the {modality} of {member.label}")
    return found


def _above(path: Path) -> Iterator[str]:
    """A place and the folders it lies in, as far as they are more than a single word."""
    for here in (path.absolute(), path):
        yield from (str(folder) for folder in (here, *here.parents) if len(folder.parts) > 1)


def _folders(cohort: Cohort) -> dict[str, str]:
    """The folders that images lie in, and the names of folders and files that are those of one subject alone."""
    instead: dict[str, str] = {}
    owners: dict[str, set[str]] = defaultdict(set)
    labels: dict[str, str] = {}
    for member in cohort.members:
        for path in (Path(image) for image in member.case.images.values() if not callable(image)):
            instead |= dict.fromkeys(_above(path.parent), WITHHELD)
            for name in (*path.parent.parts, path.name.partition(".")[0]):
                owners[name].add(member.case.subject)
                labels.setdefault(name, f"a folder or file of {member.label}")
    # One that all share, such as "anat" or "train", tells nobody, and is a word of the log too.
    return instead | {name: labels[name] for name, subjects in owners.items() if len(subjects) == 1}


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        inner: Iterable[Any] = value.values() if isinstance(value, Mapping) else value
        for one in inner:
            yield from _texts(one)


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _mapped(inner, change) for key, inner in value.items()}
    if isinstance(value, list):
        return [_mapped(inner, change) for inner in value]
    return value
