"""`medtrans init`: a starter config from the names of the images that lie below a folder."""

from __future__ import annotations

import json
import logging
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template
from types import MappingProxyType
from typing import Any, cast

from medtrans.cli.modalities import modality_of, pattern_of
from medtrans.errors import ConfigError, DataError, SetupError
from medtrans.plugins.interfaces import Case, Dataset
from medtrans.plugins.options import build, check_options
from medtrans.plugins.registry import Registry
from medtrans.utils.messages import listed
from medtrans.volume import IMAGE_ENDINGS, is_image_file

__all__ = ["StarterConfig", "write_starter"]


_HOUNSFIELD = ("ct", "cbct")


@dataclass(frozen=True)
class StarterConfig:
    """A starter config that was written.

    Args:
        path: the file.
        source: the modality it translates from.
        target: the modality it translates to.
        notes: what was found, chosen and not understood, for the user to read.
    """

    path: Path
    source: str
    target: str
    notes: tuple[str, ...]


def write_starter(root: Path, output: Path) -> StarterConfig:
    """Write a commented config for the images below a folder, by what their names say; no image is opened.

    Where the names are those of a collection medtrans knows, or BIDS, that dataset is taken; else `paired_folders`
    with patterns. MR is scaled by percentiles, CT by a window in HU.

    Args:
        root: folder to look into.
        output: the file to write; one that is there is left alone.

    Raises:
        ConfigError: there is no such folder, or `output` is there already.
        DataError: no two modalities of one subject were recognised.
        SetupError: the file cannot be written.
    """
    if not root.is_dir():
        raise ConfigError(f"{root}: no such folder; give the folder that holds the images")
    if os.path.lexists(output):
        raise ConfigError(f"{output}: is there already and is not overwritten; choose another name with --output")
    paths = [path.relative_to(root).as_posix() for path in images_below(root)]
    layout = layout_of(root.absolute(), paths)
    if layout is None:
        raise DataError(f"{root}: {_nothing(paths)}")
    source, target = layout.best()
    text = _text(root, layout, source, target)
    try:
        with output.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise SetupError(f"{output}: cannot be written ({error.strerror or error}); choose another --output") from error
    return StarterConfig(output, source, target, tuple(_notes(root.absolute(), paths, layout, source, target)))


def _nothing(paths: Sequence[str]) -> str:
    if not paths:
        return f"no image found below it; medtrans reads files that end in {', '.join(IMAGE_ENDINGS)}"
    counts = ", ".join(f"{name} ({len(own)})" for name, own in recognised(paths).items()) or "none"
    return (
        f"{len(paths)} images found, such as {listed(paths)}, but no two modalities of one subject. Recognised by "
        f"name: {counts}. Name files or folders by modality (t1, t2, ct, ...) and subject, or write a config with "
        "patterns of your own: medtrans show dataset paired_folders"
    )


def _notes(root: Path, paths: Sequence[str], layout: DatasetLayout, source: str, target: str) -> Iterator[str]:
    pairs = layout.pairs(source, target)
    subjects = len({case.subject for case in pairs})
    yield f"{source} to {target}: {len(pairs)} cases of {subjects} subjects, by the dataset {layout.name}"
    if subjects < 3:
        yield "at least 3 subjects are needed to train, validate and test; add some"
    incomplete = len(layout.cases) - len(pairs)
    if incomplete:
        yield f"{incomplete} cases lack {source} or {target}; medtrans check names them"
    others = Counter(name for case in layout.cases for name in case.images if name not in (source, target))
    if others:
        yield f"also there: {', '.join(f'{name} ({count})' for name, count in others.items())}"
    used = {str(image) for case in layout.cases for image in case.images.values()}
    left = [path for path in paths if str(root / path) not in used]
    unknown = [path for path in left if modality_of(path) is None]
    known = [path for path in left if modality_of(path) is not None]
    if unknown:
        yield f"not understood and left out: {listed(unknown)}"
    if known:
        yield f"not among the cases and left out: {listed(known)}"


def _text(root: Path, layout: DatasetLayout, source: str, target: str) -> str:
    pairs = layout.pairs(source, target)
    count = len({case.subject for case in pairs})
    here = {name: sum(name in case.images for case in layout.cases) for case in layout.cases for name in case.images}
    template = files("medtrans.cli").joinpath("templates", "starter.yaml").read_text(encoding="utf-8")
    return Template(template).substitute(
        root=root.name,
        source=source,
        target=target,
        dataset=_dataset(layout),
        subjects=count,
        modalities=", ".join(f"{name} ({number})" for name, number in here.items()),
        split=_split(count),
        scalings="\n".join(_scaling(name) for name in (source, target)),
    )


def _dataset(layout: DatasetLayout) -> str:
    lines = [f"  name: {layout.name}", "  options:"]
    for key, value in layout.options.items():
        if isinstance(value, Mapping):
            lines += [f"    {key}:", *(f"      {name}: {_quoted(text)}" for name, text in value.items())]
        else:
            lines.append(f"    {key}: {_quoted(value)}")
    return "\n".join(lines)


def _quoted(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)  # which YAML reads alike


def _split(subjects: int) -> str:
    one = round(1 / subjects, 4) if 3 <= subjects < 5 else 0.2
    return f"{{by: fractions, train: {1 - 2 * one:.4g}, validation: {one:g}, test: {one:g}}}"


def _scaling(modality: str) -> str:
    if modality in _HOUNSFIELD:
        scaling = "{name: window, options: {range: [-1024.0, 3000.0]}}  # HU, the same for all images"
    else:
        scaling = "{name: percentile}  # MR has no unit: each image by its own percentiles"
    return f"    {modality}: {scaling}"


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
    """A dataset component with options that fit, as a config holds them, and the cases it lists."""

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

    A known collection is taken where its names are there, else `paired_folders` with patterns. `root` is absolute,
    `paths` are relative to it, with slashes.
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
