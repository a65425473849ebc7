"""`medtrans predict`: files in, files out, by a trained run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from medtrans._version import __version__
from medtrans.distributed.launch import place
from medtrans.errors import ConfigError, DataError, SetupError
from medtrans.inference.loading import load
from medtrans.inference.streaming.translate import refusal, streams, translate_file
from medtrans.inference.translator import OUT_OF_DISTRIBUTION, Translator
from medtrans.utils.files import write_json
from medtrans.utils.progress import progress_over
from medtrans.volume import NIFTI_ENDINGS, Volume, is_image_file, stem_of, write

__all__ = ["predict", "write_translation"]


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
    jobs = _masked(_jobs(source, output, images), mask, config.source)[here.rank :: here.count]
    targets = config.target
    planned = [path for _, written in jobs for path in _outputs(written, targets).values()]
    existing = [str(path) for path in planned if path.exists()]
    if existing and not overwrite:
        raise ConfigError(f"{existing[0]}: is there already ({len(existing)} in all); give --overwrite to replace")
    refused = []
    for given, written in progress_over(jobs, "translating"):
        if (image := _large(translator, given, stream=stream, strict=strict)) is not None:
            yield from _write_streamed(translator, image, _outputs(written, targets))
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


def _large(translator: Translator, given: Path | Mapping[str, Path], *, stream: bool, strict: bool) -> Path | None:
    """The image of a job that goes by slabs.

    Raises:
        SetupError: it should, and cannot.
    """
    first = translator.experiment.config.source[0]
    images = {first: given} if isinstance(given, Path) else given
    if first not in images:
        return None  # as the translator will say
    image, masked = images[first], "mask" in images
    if not (stream or streams(translator, image, masked=masked)):
        return None
    reason = refusal(translator, image, masked=masked)
    if strict and reason is None:
        reason = "--strict compares the whole image with the training images"
    if reason is not None:
        raise SetupError(f"{image}: cannot be translated in slabs: {reason}")
    return image


def _write_streamed(translator: Translator, image: Path, outputs: Mapping[str, Path]) -> Iterator[Path]:
    for path in outputs.values():
        path.parent.mkdir(parents=True, exist_ok=True)
    notes = translate_file(translator, image, outputs)
    for target, path in outputs.items():
        _write_sidecar(translator, target, path, notes, strange=None)
        yield path


def _jobs(source: Path | None, output: Path, images: Mapping[str, Path]) -> list[tuple[Path | dict[str, Path], Path]]:
    if images:
        return [(dict(images), _as_file(output))]
    if source is None:
        raise ConfigError("nothing to translate: give an image, a folder, or --image MODALITY=FILE")
    if not source.is_dir():
        return [(source, output / source.name if output.is_dir() else _as_file(output))]
    found = sorted(path for path in source.iterdir() if is_image_file(path, NIFTI_ENDINGS))
    if not found:
        raise DataError(f"{source}: holds no .nii.gz or .nii file")
    return [(path, output / path.name) for path in found]


def _masked(
    jobs: list[tuple[Path | dict[str, Path], Path]], mask: Path | None, source: Sequence[str]
) -> list[tuple[Path | dict[str, Path], Path]]:
    """The same jobs, each with its mask where there is one."""
    if mask is None:
        return jobs
    several = mask.is_dir()
    if not several and len(jobs) > 1:
        raise ConfigError(f"--mask {mask}: is one file, but there are {len(jobs)} images; give a folder of masks")
    masked: list[tuple[Path | dict[str, Path], Path]] = []
    for given, written in jobs:
        images = given if isinstance(given, dict) else {source[0]: given}
        masked.append(({**images, "mask": mask / images.get(source[0], written).name if several else mask}, written))
    missing = [str(given["mask"]) for given, _ in masked if isinstance(given, dict) and not given["mask"].is_file()]
    if missing:
        raise DataError(f"--mask: no such file {missing[0]} ({len(missing)} of {len(masked)} masks are missing)")
    return masked


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
    write(volume, path, description=f"medtrans {__version__}: synthetic, research use only")
    strange = any(note.startswith(OUT_OF_DISTRIBUTION) for note in volume.notes)
    _write_sidecar(translator, target, path, volume.notes, strange=strange)
    return path


def _write_sidecar(
    translator: Translator, target: str, path: Path, notes: Sequence[str], *, strange: bool | None
) -> None:
    facts = {**translator.sidecar(target), "ood": strange, "notes": list(notes)}
    write_json(path.with_name(f"{stem_of(path)}.json"), facts)
