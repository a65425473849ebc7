"""`medtrans predict`: files in, files out, by a trained run."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from medtrans.distributed.launch import place
from medtrans.errors import ConfigError, DataError, SetupError
from medtrans.inference.loading import load
from medtrans.inference.streaming import refusal, translate_file
from medtrans.inference.translator import DESCRIPTION, OUT_OF_DISTRIBUTION, Translator
from medtrans.utils.files import write_json
from medtrans.utils.memory import free_memory
from medtrans.utils.progress import progress_over
from medtrans.volume import NIFTI_ENDINGS, Volume, is_image_file, read_header, stem_of, write

if TYPE_CHECKING:
    from medtrans.data.cohort import Member

__all__ = ["VOLUMES_IN_MEMORY", "file_stems", "predict", "write_translation"]


Job: TypeAlias = tuple[dict[str, Path], Path]
"""The images of one subject by modality, and the file to write."""

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
    plugins: Sequence[Path] = (),
) -> Iterator[Path]:
    """Translate one image, a folder of images, or one subject's several sources.

    Several ranks, started by torchrun or Slurm, share the images out.

    Args:
        run: folder of a trained run, or of an export.
        source: an image or a folder of images, for a run with one source.
        output: the file to write, or the folder for a folder; several targets go beside it, named by target.
        images: modality to file, for a run with several sources.
        mask: of the image, or a folder with a mask under each image's name; for a run that was trained with masks.
        overwrite: replace files that are there.
        strict: refuse images that are unlike those the run was trained on; the others are translated all the same.
        stream: translate slab by slab, from file to file, however small an image is; without, one that would not fit
            into memory is.
        plugins: the single-file plugins the run was trained with.

    Yields:
        Each written image.

    Raises:
        ConfigError: the arguments do not fit together, or an output exists.
        DataError: an image cannot be read, or some were refused: then at the end, naming all.
        SetupError: an image neither fits into memory nor can go by slabs.
    """
    translator = load(run, plugins=plugins)
    config = translator.experiment.config
    here = place()
    # Only this rank's share: what another rank has written meanwhile is none of its business.
    jobs, targets = _jobs(source, output, images, config.source[0]), config.target
    jobs = (_masked(jobs, mask, config.source[0]) if mask is not None else jobs)[here.rank :: here.count]
    planned = [path for _, written in jobs for path in _outputs(written, targets).values()]
    existing = [str(path) for path in planned if path.exists()]
    if existing and not overwrite:
        raise ConfigError(f"{existing[0]}: is there already ({len(existing)} in all); give --overwrite to replace")
    refused = []
    for given, written in progress_over(jobs, "translating"):
        if (image := _streamed(translator, given, stream=stream, strict=strict)) is not None:
            notes = translate_file(translator, image, _outputs(written, targets))
            for target, path in _outputs(written, targets).items():
                _write_sidecar(translator, target, path, notes, ood=None)
                yield path
            continue
        try:
            translated = translator.translate(given, strict=strict)
        except DataError as error:
            if not (strict and error.faults[0].startswith(OUT_OF_DISTRIBUTION)):
                raise
            refused.append(f"{written.name}: {error.faults[0]}")
            continue
        volumes = {targets[0]: translated} if isinstance(translated, Volume) else translated
        for target, path in _outputs(written, targets).items():
            yield write_translation(translator, target, volumes[target], path)
    if refused:
        raise DataError(*refused)


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


def _jobs(source: Path | None, output: Path, images: Mapping[str, Path], first: str) -> list[Job]:
    if images:
        return [(dict(images), _as_file(output))]
    if source is None:
        raise ConfigError("nothing to translate: give an image, a folder, or --image MODALITY=FILE")
    if not source.is_dir():
        return [({first: source}, output / source.name if output.is_dir() else _as_file(output))]
    found = sorted(path for path in source.iterdir() if is_image_file(path, NIFTI_ENDINGS))
    if not found:
        raise DataError(f"{source}: holds no .nii.gz or .nii file")
    return [({first: path}, output / path.name) for path in found]


def _masked(jobs: list[Job], mask: Path, first: str) -> list[Job]:
    """The same jobs, each with its mask."""
    several = mask.is_dir()
    if not several and len(jobs) > 1:
        raise ConfigError(f"--mask {mask}: is one file, but there are {len(jobs)} images; give a folder of masks")
    masks = [mask / images.get(first, written).name if several else mask for images, written in jobs]
    if missing := [path for path in masks if not path.is_file()]:
        raise DataError(f"--mask: no such file {missing[0]} ({len(missing)} of {len(masks)} masks are missing)")
    return [({**images, "mask": path}, written) for (images, written), path in zip(jobs, masks, strict=True)]


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


def write_translation(translator: Translator, target: str, volume: Volume, path: Path) -> Path:
    """Write one target's volume, marked as synthetic, with its sidecar; folders are made.

    Raises:
        DataError, SetupError: as `medtrans.volume.write`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write(volume, path, description=DESCRIPTION)
    ood = any(note.startswith(OUT_OF_DISTRIBUTION) for note in volume.notes)
    _write_sidecar(translator, target, path, volume.notes, ood=ood)
    return path


def _write_sidecar(translator: Translator, target: str, path: Path, notes: Sequence[str], *, ood: bool | None) -> None:
    facts = {**translator.sidecar(target), "ood": ood, "notes": list(notes)}
    write_json(path.with_name(f"{stem_of(path)}.json"), facts)


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
