"""`medtrans init`: a starter config from the names of the images that lie below a folder."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from medtrans.cli.init.layouts import DatasetLayout, images_below, layout_of, recognised
from medtrans.cli.init.modalities import modality_of
from medtrans.errors import ConfigError, DataError, SetupError
from medtrans.utils.messages import listed
from medtrans.volume import IMAGE_ENDINGS

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
