"""Owns what the two SynthRAD challenges share: folders named by ids, the images in them, and cases without a CT."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from medtrans import Case, DataError
from medtrans.builtin.datasets.completeness import complete, mention
from medtrans.builtin.datasets.tree import case_folders, checked_root, image_file, nothing_fits
from medtrans.builtin.datasets.wording import capped

__all__ = ["synthrad_cases"]

_DEPTH = 5  # archive/archive/Task1/pelvis/1PA001, where an archive was unpacked into a folder of its own name


def synthrad_cases(root: Path, ids: re.Pattern[str], expected: str, source: str, endings: Sequence[str]) -> list[Case]:
    """The cases below root, in the order of their ids; those without a CT or source are left out with a warning.

    The images of one id may lie in several archives, as a later one may bring the CTs of a validation set.

    Args:
        root: as the config gives it.
        ids: which folders are cases.
        expected: path pattern of a case, for messages.
        source: "mr" or "cbct".
        endings: of image files.

    Raises:
        DataError: there is no such folder, no complete case in it, or an image is there twice.
    """
    root = checked_root(root, expected)
    found: dict[str, dict[str, Path]] = {}
    twice = []
    for folder in case_folders(root, ids, _DEPTH):
        images = found.setdefault(folder.name, {})
        for modality, path in _images(folder, source, endings).items():
            first = images.setdefault(modality, path)
            if first != path:
                twice.append(f'root: "{first}" and "{path}" are both {modality} of {folder.name}; remove one')
    if twice:
        raise DataError(*capped(twice))
    listed = [Case(name, name, images) for name, images in sorted(found.items()) if images]
    cases = complete(listed, (source, "ct"))
    if not cases:
        inputs = f", for {len(listed)} cases are there without their {source} or CT" if listed else ""
        raise nothing_fits(root, expected, f"take the training archive{inputs}, or correct root, task or region")
    mention(cases, ["mask"])
    return cases


def _images(folder: Path, source: str, endings: Sequence[str]) -> Mapping[str, Path]:
    found = {modality: image_file(folder, modality, endings=endings) for modality in (source, "ct", "mask")}
    return {modality: path for modality, path in found.items() if path is not None}
