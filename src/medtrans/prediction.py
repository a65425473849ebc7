"""Owns `medtrans predict`: files in, files out, by a trained run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from medtrans._version import __version__
from medtrans.atomic import write_json
from medtrans.errors import ConfigError, DataError
from medtrans.inference import Translator, load
from medtrans.progress import progress_over
from medtrans.volume import Volume, write

__all__ = ["predict"]

_ENDINGS = (".nii.gz", ".nii")


def predict(
    run: Path,
    source: Path | None,
    output: Path,
    *,
    images: Mapping[str, Path],
    overwrite: bool = False,
    plugins: Sequence[Path] = (),
) -> Iterator[Path]:
    """Translate one image, a folder of images, or one subject's several sources.

    Args:
        run: folder of a trained run.
        source: an image or a folder of images, for a run with one source.
        output: the file to write, or the folder for a folder; several targets go beside it, named by target.
        images: modality to file, for a run with several sources.
        overwrite: replace files that are there.
        plugins: the single-file plugins the run was trained with.

    Yields:
        Each written image.

    Raises:
        ConfigError: the arguments do not fit together, or an output exists.
        DataError: an image cannot be read.
    """
    translator = load(run, plugins=plugins)
    jobs = _jobs(source, output, images)
    targets = translator.experiment.config.target
    planned = [path for _, written in jobs for path in _outputs(written, targets).values()]
    existing = [str(path) for path in planned if path.exists()]
    if existing and not overwrite:
        raise ConfigError(f"{existing[0]}: is there already ({len(existing)} in all); give --overwrite to replace")
    for given, written in progress_over(jobs, "translating"):
        translated = translator.translate(given)
        volumes = {targets[0]: translated} if isinstance(translated, Volume) else translated
        for target, path in _outputs(written, targets).items():
            yield _written(translator, target, volumes[target], path)


def _jobs(source: Path | None, output: Path, images: Mapping[str, Path]) -> list[tuple[Path | dict[str, Path], Path]]:
    if images:
        return [(dict(images), _as_file(output))]
    if source is None:
        raise ConfigError("nothing to translate: give an image, a folder, or --image MODALITY=FILE")
    if not source.is_dir():
        return [(source, output / source.name if output.is_dir() else _as_file(output))]
    found = sorted(path for path in source.iterdir() if path.name.endswith(_ENDINGS))
    if not found:
        raise DataError(f"{source}: holds no .nii.gz or .nii file")
    return [(path, output / path.name) for path in found]


def _as_file(output: Path) -> Path:
    if not output.name.endswith(_ENDINGS):
        raise ConfigError(f"{output}: expected a file name that ends in .nii.gz or .nii")
    return output


def _outputs(written: Path, targets: Sequence[str]) -> dict[str, Path]:
    if len(targets) == 1:
        return {targets[0]: written}
    ending = next(ending for ending in _ENDINGS if written.name.endswith(ending))
    stem = written.name.removesuffix(ending)
    return {target: written.with_name(f"{stem}_{target}{ending}") for target in targets}


def _written(translator: Translator, target: str, volume: Volume, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write(volume, path, description=f"medtrans {__version__}: synthetic, research use only")
    ending = next(ending for ending in _ENDINGS if path.name.endswith(ending))
    write_json(path.with_name(f"{path.name.removesuffix(ending)}.json"), translator.sidecar(target))
    return path
