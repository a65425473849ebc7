"""Which dataset and options fit the images below a folder, by their names alone."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

from medtrans.cli.init.modalities import modality_of, pattern_of
from medtrans.errors import ConfigError, DataError
from medtrans.plugins.interfaces import Case, Dataset
from medtrans.plugins.options import build, check_options
from medtrans.plugins.registry import Registry
from medtrans.volume import is_image_file

__all__ = ["DatasetLayout", "images_below", "layout_of", "recognised"]


_PAIRS = (
    ("mr", "ct"), ("cbct", "ct"), ("t1", "ct"), ("t2", "ct"), ("t1", "t2"), ("t1", "flair"), ("t2", "flair"),
    ("t1", "t1ce"), ("t1", "pd"), ("t2", "pd"), ("pd", "flair"), ("t2", "t1ce"), ("mr", "cbct"), ("t1", "mr"),
)  # fmt: skip
_KNOWN: tuple[tuple[str, str, Mapping[str, Any]], ...] = (
    ("synthrad2023", r"(?:.*/)?1[BP][ABC]\d{3}/", {"task": 1}),
    ("synthrad2023", r"(?:.*/)?2[BP][ABC]\d{3}/", {"task": 2}),
    ("synthrad2025", r"(?:.*/)?1(?:HN|TH|AB)[A-E]\d{3}/", {"task": 1}),
    ("synthrad2025", r"(?:.*/)?2(?:HN|TH|AB)[A-E]\d{3}/", {"task": 2}),
    ("brats", r"(?:.*/)?BraTS(?:2021_|-[A-Z]+-)\d{5}", {}),
    ("ixi", r"(?:.*/)?IXI\d{3}-", {}),
    ("hcp", r"(?P<root>(?:.*/)?)\d{6}/MNINonLinear/", {}),
    ("dhcp", r"(?:.*/)?sub-CC\d{5}", {}),
    ("bids", r"(?P<root>(?:.*?/)?)sub-[^/]+/(?:ses-[^/]+/)?anat/", {}),
)  # a layout and what its files look like, which says where its root is too
_BIDS = MappingProxyType({"t1": "T1w", "t2": "T2w", "flair": "FLAIR", "pd": "PDw", "t1ce": "ce-gadolinium_T1w"})
_NO_SCANS = ("mask", "labels")


@dataclass(frozen=True)
class DatasetLayout:
    """A dataset with options that fit, and the cases it lists.

    Args:
        name: of the dataset component.
        options: of the dataset, as a config holds them.
        cases: that it lists.
    """

    name: str
    options: Mapping[str, Any]
    cases: Sequence[Case]

    def pairs(self, source: str, target: str) -> list[Case]:
        """The cases that have both modalities."""
        return [case for case in self.cases if source in case.images and target in case.images]

    def best(self) -> tuple[str, str]:
        """The pair of modalities that most cases have; the more usual of equals."""
        counts = {pair: len(self.pairs(*pair)) for pair in _PAIRS}
        return max(_PAIRS, key=lambda pair: counts[pair])

    @property
    def found(self) -> int:
        """How many cases have the best pair."""
        return len(self.pairs(*self.best()))


def images_below(root: Path) -> Iterator[Path]:
    """All image files below a folder by their names, in order; hidden ones are passed over."""
    for folder, inner, names in os.walk(root):
        inner[:] = sorted(name for name in inner if not name.startswith(".") and name != "__MACOSX")
        yield from (Path(folder, name) for name in sorted(filter(is_image_file, names)))


def layout_of(root: Path, paths: Sequence[str]) -> DatasetLayout | None:
    """The dataset that makes pairs of the images, by what their names say; None if none does.

    A known collection is taken where its names are there, else `paired_folders` with patterns.

    Args:
        root: the folder, absolute.
        paths: of the images below it, relative, with slashes.
    """
    for name, looks, options in _KNOWN:
        fit = next(filter(None, map(re.compile(looks).match, paths)), None)
        if fit is not None:
            inner = root / fit["root"] if "root" in fit.groupdict() else root
            layout = _made(name, {"root": str(inner), **options})
            if layout is not None and layout.found:
                return _with_images(layout) if name == "bids" else layout
    own = recognised(paths)
    guesses = [_patterns(root, own, by_word=by_word) for by_word in (True, False)]
    layout = max(filter(None, guesses), key=lambda one: one.found, default=None)
    return layout if layout is not None and layout.found else None


def recognised(paths: Iterable[str]) -> dict[str, list[str]]:
    """The paths by modality; those whose modality is unknown are left out."""
    found: dict[str, list[str]] = {}
    for path in paths:
        modality = modality_of(path)
        if modality is not None:
            found.setdefault(modality, []).append(path)
    return found


def _patterns(root: Path, found: Mapping[str, Sequence[str]], *, by_word: bool) -> DatasetLayout | None:
    """`paired_folders` for all modalities that go together."""
    patterns = {name: pattern_of(paths, name, by_word=by_word) for name, paths in found.items()}
    scans = {name: pattern for name, pattern in patterns.items() if pattern is not None and name not in _NO_SCANS}
    best: DatasetLayout | None = None
    for pair in (pair for pair in _PAIRS if set(pair) <= set(scans)):
        layout = _made("paired_folders", {"root": str(root), "images": {name: scans[name] for name in pair}})
        if layout is not None and len(layout.pairs(*pair)) > (best.found if best else 0):
            best = layout
    if best is None:
        return None
    for name, pattern in patterns.items():
        if pattern is not None and name not in best.options["images"]:
            images = {**best.options["images"], name: pattern}
            wider = _made("paired_folders", {"root": str(root), "images": images})
            if wider is not None and len(wider.pairs(*best.best())) == best.found:
                best = wider
    return best


def _with_images(layout: DatasetLayout) -> DatasetLayout:
    """BIDS with its images named, so that sessions without them can be left out."""
    pair = layout.best()
    if all(set(pair) <= set(case.images) for case in layout.cases):
        return layout
    named = {"images": {name: _BIDS[name] for name in pair}, "incomplete": "leave_out"}
    return _made(layout.name, {**layout.options, **named}) or layout


def _made(name: str, options: dict[str, Any]) -> DatasetLayout | None:
    """The built-in dataset with these options and its cases; None where it does not fit, or is not there."""
    try:
        component = Registry().find("dataset", name).component
        checked, faults = check_options(component, "dataset", options)
        if faults:
            return None
        with _silence():
            dataset = cast("Dataset", build(component, "dataset", checked, {}))
            return DatasetLayout(name, options, dataset.cases())
    except (ConfigError, DataError):
        return None


@contextmanager
def _silence() -> Iterator[None]:
    """Datasets that are only tried have nothing to say."""
    log = logging.getLogger("medtrans")
    before = log.disabled
    log.disabled = True
    try:
        yield
    finally:
        log.disabled = before
