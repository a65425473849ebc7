"""`medtrans predict`: files in, files out, by a trained run."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medtrans.distributed.launch import place
from medtrans.errors import DataError, SetupError
from medtrans.inference.jobs import Job, check_outputs, plan_jobs, sidecar_of
from medtrans.inference.loading import load
from medtrans.inference.streaming import refusal, translate_file
from medtrans.inference.translator import DESCRIPTION, OUT_OF_DISTRIBUTION, Translator
from medtrans.utils.files import write_json
from medtrans.utils.memory import free_memory
from medtrans.utils.progress import progress_over
from medtrans.volume import NIFTI_ENDINGS, Volume, read_header, stem_of, write

if TYPE_CHECKING:
    from medtrans.data.cohort import Member

__all__ = ["VOLUMES_IN_MEMORY", "file_stems", "predict", "write_translation"]


_log = logging.getLogger("medtrans")

VOLUMES_IN_MEMORY = 9
"""Float32 volumes that translating an image in memory takes at its peak, rounded up from what was measured."""


def predict(
    run: Path,
    source: Path | None,
    output: Path,
    *,
    images: Mapping[str, Path],
    mask: Path | None = None,
    overwrite: bool = False,
    strict: bool = False,
    stream: bool = False,
    pattern: str | None = None,
    missing: bool = False,
    reading: Sequence[str] = (),
    plugins: Sequence[Path] = (),
) -> Iterator[Path]:
    """Translate one image, a folder of images, or one subject's several sources.

    A folder may hold images or folders with images, which are mirrored. A translation is named as its source, but for
    the word that says the modality: of `sub-10_t1.mha` comes `sub-10_t2.nii.gz`. What cannot be read is told at the
    end, and the others are translated. Several ranks, started by torchrun or Slurm, share the images out.

    Args:
        run: folder of a trained run, or of an export.
        source: an image or a folder of images, for a run with one source.
        output: the file to write, or the folder for a folder; several targets go beside it, named by target.
        images: modality to file, for a run with several sources.
        mask: of the image, or a folder with a mask under each image's name; for a run that was trained with masks.
        overwrite: replace what an earlier prediction wrote; a source or anybody else's file is never replaced.
        strict: refuse images that are unlike those the run was trained on; the others are translated all the same.
        stream: translate slab by slab, from file to file, however small an image is; without, one that would not fit
            into memory is.
        pattern: which images of a folder are sources, such as "*/t1.nii.gz"; without, those that are named as the run's
            source, and where none is, all.
        missing: do only what is not there.
        reading: `key=value` over the run's reading rules, such as `trust=sform`.
        plugins: the single-file plugins the run was trained with.

    Yields:
        Each written image.

    Raises:
        ConfigError: the arguments do not fit together, two images would become one file, or an output exists.
        DataError: images cannot be read or were refused: at the end, naming all.
        SetupError: an image neither fits into memory nor can go by slabs.
    """
    translator = load(run, [f"reading.{one}" for one in reading], plugins=plugins)
    config = translator.experiment.config
    here = place()
    jobs, left = plan_jobs(
        source,
        output,
        images=images,
        mask=mask,
        pattern=pattern,
        modality=config.source[0],
        targets=config.target,
        known_as=_known_as(translator),
    )
    if left and here.rank == 0:
        _log.warning(
            "left out, since not named as the source %s: %d images, such as %s; --pattern says which are meant",
            config.source[0],
            len(left),
            left[0],
        )
    # Only this rank's share: what another rank has written meanwhile is none of its business.
    jobs = [job for job in jobs[here.rank :: here.count] if not (missing and job.is_done)]
    check_outputs(jobs, overwrite=overwrite or missing)
    refused: list[str] = []
    for job in progress_over(jobs, "translating"):
        try:
            yield from _translated(translator, job, stream=stream, strict=strict)
        except DataError as error:
            if len(jobs) == 1:
                raise
            # The others are translated all the same.
            name = job.given.get(config.source[0], next(iter(job.given.values())))
            refused += [fault if str(name) in fault else f"{name}: {fault}" for fault in error.faults]
    if refused:
        raise DataError(*refused)


def _translated(translator: Translator, job: Job, *, stream: bool, strict: bool) -> Iterator[Path]:
    if (image := _streamed(translator, job.given, stream=stream, strict=strict)) is not None:
        for path in job.outputs.values():
            _make_folder(path)
        notes = translate_file(translator, image, job.outputs)
        for target, path in job.outputs.items():
            _write_sidecar(translator, target, path, notes, ood=None)
            yield path
        return
    translated = translator.translate(job.given, strict=strict)
    volumes = translated if isinstance(translated, dict) else {next(iter(job.outputs)): translated}
    for target, path in job.outputs.items():
        yield write_translation(translator, target, volumes[target], path)


def _known_as(translator: Translator) -> str | None:
    """What names of the first source look like in the data of training, as `plan_jobs` has it; an export knows none."""
    config = translator.experiment.config
    patterns = config.dataset.options.get("images")
    pattern = patterns.get(config.source[0]) if isinstance(patterns, Mapping) else None
    if not isinstance(pattern, str):
        return None
    glob = re.sub(r"\{[^{}]*\}", "*", stem_of(Path(pattern).name))
    return glob if glob.strip("*") else None


def _streamed(translator: Translator, images: Mapping[str, Path], *, stream: bool, strict: bool) -> Path | None:
    """The image of a job that goes by slabs.

    Raises:
        SetupError: it should, and cannot.
    """
    image, masked = images.get(translator.experiment.config.source[0]), "mask" in images
    if image is None or not (stream or _too_large(translator, image, masked=masked)):
        return None  # without the source the translator will say so
    reason = refusal(translator, image, masked=masked)
    if strict and reason is None:
        reason = "--strict compares the whole image with the training images"
    if reason is not None:
        raise SetupError(f"{image}: cannot be translated in slabs: {reason}")
    return image


def _too_large(translator: Translator, image: Path, *, masked: bool) -> bool:
    """Whether an image is too large to be translated in memory, so that it goes by slabs.

    Raises:
        SetupError: it is too large, and something about it or the run does not go by slabs.
    """
    if not image.name.lower().endswith(NIFTI_ENDINGS):
        return False
    shape = read_header(image, translator.rules).grid.shape
    needed, free = VOLUMES_IN_MEMORY * 4 * math.prod(shape), free_memory()
    if free is None or needed <= free:
        return False
    if reason := refusal(translator, image, masked=masked):
        raise SetupError(
            f"{image}: translating it takes about {needed / 2**30:.1f} GiB of memory, {free / 2**30:.1f} GiB are "
            f"free, and it cannot be translated in slabs: {reason}. Use a machine with more memory, or cut the image"
        )
    return True


def write_translation(translator: Translator, target: str, volume: Volume, path: Path) -> Path:
    """Write one target's volume, marked as synthetic, with its sidecar; folders are made.

    Raises:
        DataError, SetupError: as `medtrans.volume.write`.
    """
    _make_folder(path)
    write(volume, path, description=DESCRIPTION)
    ood = any(note.startswith(OUT_OF_DISTRIBUTION) for note in volume.notes)
    _write_sidecar(translator, target, path, volume.notes, ood=ood)
    return path


def _make_folder(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SetupError(f"{path.parent}: cannot be made ({error.strerror}); choose another output") from error


def _write_sidecar(translator: Translator, target: str, path: Path, notes: Sequence[str], *, ood: bool | None) -> None:
    facts = {**translator.sidecar(target), "ood": ood, "notes": list(notes)}
    try:
        write_json(sidecar_of(path), facts)
    except OSError as error:
        path.unlink(missing_ok=True)  # without it nobody could tell that the image is synthetic
        raise SetupError(f"{sidecar_of(path)}: cannot be written ({error.strerror}); make room there") from error


_LONGEST = 60
_SAFE = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_-]{{0,{_LONGEST - 1}}}")


def file_stems(members: Iterable[Member], targets: Sequence[str]) -> Mapping[tuple[int, str], str]:
    """The name without ending of each case's prediction of each target: `<case>_<target>`.

    A case or target whose name is no safe file name (letters, digits, - and _, not beginning with - or _, at most 60
    characters) gets its number behind what is left of its name, and so does a case whose file would have the name of
    an earlier case's. No two names are equal, in whatever case they are written.

    Args:
        members: all cases of the run, so that a name does not depend on which of them are predicted.
        targets: modalities.

    Returns:
        By the case's number and the target.
    """
    endings = {target: _safe(target) or _numbered(target, number) for number, target in enumerate(targets, 1)}
    stems: dict[tuple[int, str], str] = {}
    taken: set[str] = set()
    for member in members:
        name = _safe(member.case.case)
        if name is None or any(f"{name}_{ending}".casefold() in taken for ending in endings.values()):
            name = _numbered(member.case.case, member.number)
        for target, ending in endings.items():
            stem = f"{name}_{ending}"
            while stem.casefold() in taken:  # another case is called just as this one when numbered
                stem += "-"
            taken.add(stem.casefold())
            stems[member.number, target] = stem
    return stems


def _safe(name: str) -> str | None:
    return name if _SAFE.fullmatch(name) else None


def _numbered(name: str, number: int) -> str:
    left = re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_-")[:_LONGEST]
    return f"{left}-{number:04d}" if left else f"{number:04d}"
