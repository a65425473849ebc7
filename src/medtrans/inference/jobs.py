"""What a prediction does, before anything is done: which images become which files, and whether they may be written."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from medtrans.errors import ConfigError, DataError
from medtrans.utils.messages import capped, listed
from medtrans.volume import IMAGE_ENDINGS, NIFTI_ENDINGS, is_image_file, stem_of

__all__ = ["Job", "check_outputs", "plan_jobs", "sidecar_of"]


@dataclass(frozen=True)
class Job:
    """One subject's images, and the files that come of them.

    Args:
        given: the images by modality, with the "mask" where there is one.
        outputs: the file of each target.
    """

    given: Mapping[str, Path]
    outputs: Mapping[str, Path]

    @property
    def is_done(self) -> bool:
        """Whether everything is there. Files have their names only when they are whole."""
        return all(path.exists() and sidecar_of(path).exists() for path in self.outputs.values())


def sidecar_of(path: Path) -> Path:
    """The file beside a prediction that says what it is."""
    return path.with_name(f"{stem_of(path)}.json")


def plan_jobs(
    source: Path | None,
    output: Path,
    *,
    images: Mapping[str, Path],
    mask: Path | None,
    pattern: str | None,
    modality: str,
    targets: Sequence[str],
    known_as: str | None,
) -> tuple[list[Job], list[Path]]:
    """The jobs of `predict`, in order.

    Args:
        source: an image, or a folder of images or of folders with images, which is mirrored.
        output: the file or folder to write.
        images: modality to file, for a run with several sources.
        mask: of the image, or a folder with a mask for each image, of the same name in the same place.
        pattern: which images of a folder are sources, such as "*/t1.nii.gz"; it is matched from the folder on.
        modality: the first source.
        targets: of the run.
        known_as: what names of that modality look like in the data of training, without their ending, as a glob; None
            where nobody knows.

    Returns:
        The jobs, and the images of a folder that were left out since they are not named like the source.

    Raises:
        ConfigError: the arguments do not fit together, or two images would become one file.
        DataError: there is no image, or a mask is missing.
    """
    left: list[Path] = []
    if images:
        jobs = [Job(dict(images), _outputs(_as_file(output), targets))]
    elif source is None:
        raise ConfigError("nothing to translate: give an image, a folder, or --image MODALITY=FILE")
    elif not source.is_dir():
        written = output / _translated_name(source, modality, None) if output.is_dir() else _as_file(output)
        jobs = [Job({modality: source}, _outputs(written, targets))]
    else:
        found, left = _images_of(source, output, pattern, modality, known_as)
        own = targets[0] if len(targets) == 1 else None
        jobs = [
            Job(
                {modality: path},
                _outputs(output / path.relative_to(source).with_name(_translated_name(path, modality, own)), targets),
            )
            for path in found
        ]
    if mask is not None:
        jobs = _masked(jobs, mask, modality, source)
    _check_distinct(jobs, modality)
    return jobs, left


def _images_of(
    folder: Path, output: Path, pattern: str | None, modality: str, known_as: str | None
) -> tuple[list[Path], list[Path]]:
    """The sources below a folder, and the other images there; what lies in an output below it is neither."""
    every = sorted(path for path in folder.rglob("*") if _is_visible_image(path, folder))
    if output.resolve() != folder.resolve():
        every = [path for path in every if not path.resolve().is_relative_to(output.resolve())]
    if not every:
        raise DataError(f"{folder}: holds no image; medtrans reads files that end in {', '.join(IMAGE_ENDINGS)}")
    if pattern is not None:
        chosen = {path for path in folder.glob(pattern) if path in set(every)}
        if not chosen:
            raise DataError(f"{folder}: --pattern {pattern}: fits none of {len(every)} images, such as {every[0]}")
    else:
        named = [path for path in every if known_as is not None and fnmatch(stem_of(path), known_as)]
        chosen = set(named or [path for path in every if _names(path, modality)] or every)
        if not named and len(chosen) == len(every):
            _check_one_a_folder(folder, every)
    return [path for path in every if path in chosen], [path for path in every if path not in chosen]


def _check_one_a_folder(folder: Path, every: Sequence[Path]) -> None:
    """Refuse folders of subjects that hold several images each, of which no name says which one is meant."""
    inner = [path for path in every if path.parent != folder]
    crowded = sorted({path.parent for path in inner if sum(other.parent == path.parent for other in inner) > 1})
    if crowded:
        names = sorted(path.name for path in inner if path.parent == crowded[0])
        raise DataError(
            f"{crowded[0]}: holds {len(names)} images ({listed(names)}), and none is named as the run's source; say "
            f"which are meant, such as --pattern '*/{names[0]}'"
        )


def _is_visible_image(path: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in path.relative_to(folder).parts)
    return not hidden and is_image_file(path) and not path.is_dir()


def _names(path: Path, modality: str) -> re.Match[str] | None:
    """Where a file's name says a modality, as a word of its own; BIDS writes T1w for t1."""
    found = list(re.finditer(rf"(?i)(?<![A-Za-z0-9]){re.escape(modality)}(w?)(?![A-Za-z0-9])", stem_of(path)))
    return found[-1] if found else None


def _translated_name(path: Path, modality: str, target: str | None) -> str:
    """The name of a translation: as its source, but for the word that says the modality; always NIfTI.

    Where a run has several targets, they are told apart behind the name.
    """
    stem = stem_of(path)
    if target is not None and (found := _names(path, modality)):
        shown = target.upper() if found[0].removesuffix("w").isupper() else target
        stem = f"{stem[: found.start()]}{shown}{found[1]}{stem[found.end() :]}"
    return f"{stem}{'.nii' if path.name.lower().endswith('.nii') else '.nii.gz'}"


def _as_file(output: Path) -> Path:
    if not output.name.lower().endswith(NIFTI_ENDINGS):
        raise ConfigError(f"{output}: expected a file name that ends in .nii.gz or .nii")
    return output


def _outputs(written: Path, targets: Sequence[str]) -> dict[str, Path]:
    if len(targets) == 1:
        return {targets[0]: written}
    stem = stem_of(written)
    ending = written.name.removeprefix(stem)
    return {target: written.with_name(f"{stem}_{target}{ending}") for target in targets}


def _masked(jobs: Sequence[Job], mask: Path, modality: str, source: Path | None) -> list[Job]:
    """The same jobs, each with its mask."""
    several = mask.is_dir()
    if not several and len(jobs) > 1:
        raise ConfigError(f"--mask {mask}: is one file, but there are {len(jobs)} images; give a folder of masks")
    masked, missing = [], []
    for job in jobs:
        image = job.given.get(modality, mask)
        inside = image.relative_to(source) if source is not None and source.is_dir() else Path(image.name)
        place = (mask / inside).with_name(stem_of(inside)) if several else mask
        fits = [file for ending in IMAGE_ENDINGS if (file := place.with_name(place.name + ending)).is_file()]
        found = mask if not several else (mask / inside if (mask / inside).is_file() else next(iter(fits), None))
        if found is None or not found.is_file():
            missing.append(mask / inside if several else mask)
        else:
            masked.append(Job({**job.given, "mask": found}, job.outputs))
    if missing:
        raise DataError(f"--mask: no such file {missing[0]} ({len(missing)} of {len(jobs)} masks are missing)")
    return masked


def _check_distinct(jobs: Sequence[Job], modality: str) -> None:
    """Refuse two images that would become one file, on any file system."""
    first: dict[str, Job] = {}
    faults = []
    for job in jobs:
        for path in job.outputs.values():
            earlier = first.setdefault(str(sidecar_of(path)).casefold(), job)
            if earlier is not job:
                both = f"{earlier.given.get(modality)} and {job.given.get(modality)}"
                faults.append(f"{both} would both become {path.name}; rename one, or translate them into two folders")
    if faults:
        raise ConfigError(*capped(faults))


def check_outputs(jobs: Iterable[Job], *, overwrite: bool) -> None:
    """Refuse to write over anything that no prediction left, over a source above all.

    Args:
        jobs: what is to be done.
        overwrite: whether earlier predictions may be replaced.

    Raises:
        ConfigError: with all files that are in the way.
    """
    jobs = tuple(jobs)
    sources = {identity: path for job in jobs for path in job.given.values() if (identity := _identity(path))}
    planned = [path for job in jobs for image in job.outputs.values() for path in (image, sidecar_of(image))]
    faults = [
        f"{path}: is the source {sources[identity]}, which is never replaced; choose another output"
        for path in planned
        if (identity := _identity(path)) in sources and identity is not None
    ]
    there = [path for path in planned if _lies_there(path)]
    if there and not overwrite:
        faults.append(
            f"{there[0]}: is there already ({len(there)} in all); give --overwrite to replace earlier predictions, or "
            "--missing to do only those that are not there"
        )
    elif not faults:
        faults = [
            f"{path}: was written by no prediction, and is not replaced; move it, or choose another output"
            for path in there
            if not _is_ours(path)
        ]
    if faults:
        raise ConfigError(*capped(faults))


def _identity(path: Path) -> tuple[int, int] | None:
    """What one file is known by, whatever name or link leads to it; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _described(path: Path) -> str:
    """The description in a NIfTI header; empty where there is none."""
    opened = gzip.open if path.name.lower().endswith(".gz") else open
    try:
        with opened(path, "rb") as file:
            return bytes(file.read(228)[148:]).split(b"\0")[0].decode("ascii", "replace")
    except (OSError, EOFError, zlib.error):
        return ""


def _lies_there(path: Path) -> bool:
    return path.is_symlink() or path.exists()


def _is_ours(path: Path) -> bool:
    """Whether a prediction wrote a file: an image's header says so, or the sidecar of both."""
    image = is_image_file(path)
    if image and _described(path).startswith("medtrans ") and "synthetic" in _described(path):
        return True
    try:
        facts: Any = json.loads((sidecar_of(path) if image else path).read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(facts, dict) and {"notice", "target", "medtrans"} <= facts.keys()
