"""Anonymizing what is made to be shared: case numbers for names, nothing of files and folders."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
_TELLING = 3  # characters that a name needs to be found where it is not quoted: "1" stands in many a sentence


class Anonymizer:
    """Takes the names of cases, subjects, files and folders out of texts.

    Args:
        cohort: whose names are kept back.
        experiment: whose files and folders are kept back, and whether the run shows the names of its cases.
    """

    def __init__(self, cohort: Cohort, experiment: Experiment) -> None:
        instead = dict.fromkeys(_places(experiment), WITHHELD)
        for member in cohort.members:
            instead |= _files(member)
            if not experiment.config.names:
                instead |= {member.case.subject: f"the subject of {member.label}"} | {member.case.case: member.label}
        instead.pop("", None)
        longest_first = sorted(instead, key=len, reverse=True)
        self._names = re.compile("|".join(map(_anywhere, longest_first))) if instead else None
        self._instead = instead

    def shareable(self, text: str) -> str:
        """The text with case numbers for names, and without files and folders."""
        if self._names is not None:
            text = self._names.sub(lambda found: self._instead[found.group()], text)
        return _PATHS.sub(WITHHELD, text)


def shareable_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A saved config without what may name people and places: texts of the dataset's options, files and folders."""
    shown = {
        key: _mapped(value, lambda text: WITHHELD if _STARTS_AS_PATH.match(text) else text)
        for key, value in config.items()
    }
    options = _mapped(shown["dataset"].get("options", {}), lambda _: WITHHELD)
    return shown | {"output_dir": WITHHELD, "dataset": {**shown["dataset"], "options": options}}


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
            yield from (name, str(Path(name).absolute()))


def _files(member: Member) -> dict[str, str]:
    found: dict[str, str] = {}
    for modality, image in member.case.images.items():
        if not callable(image):
            path = Path(image)
            found |= dict.fromkeys((str(path), str(path.absolute()), path.name), f"the {modality} of {member.label}")
    return found


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
