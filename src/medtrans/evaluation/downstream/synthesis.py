"""The synthetic images of an assessment: each translated once, by the weights it is for, whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from pathlib import Path

from medtrans._version import __version__
from medtrans.data.cohort import Cohort, Member, load_images
from medtrans.inference.prediction import file_stems
from medtrans.inference.translator import Translator
from medtrans.utils.files import write_json
from medtrans.utils.progress import progress_over
from medtrans.volume import Volume, write

__all__ = ["synthesise", "weights_of"]


def synthesise(
    translator: Translator, cohort: Cohort, members: Iterable[Member], image: str, folder: Path
) -> Mapping[int, Path]:
    """A synthetic image of each member, by its number.

    Images that the same weights have left in `folder` are taken as they are; those of other weights are removed.

    Args:
        translator: of the run.
        cohort: of the run, whose names decide the files'.
        members: whose sources are translated.
        image: which of the targets.
        folder: where the images go, in a folder named by the weights.

    Raises:
        DataError: a source cannot be read or translated.
    """
    wanted = list(members)
    current = folder / weights_of(translator)
    if folder.is_dir():
        for other in folder.iterdir():
            if other != current:
                shutil.rmtree(other)
    current.mkdir(parents=True, exist_ok=True)
    stems = file_stems(cohort.members, [image])
    paths = {member.number: current / f"{stems[member.number, image]}.nii.gz" for member in wanted}
    missing = [member for member in wanted if not paths[member.number].is_file()]
    for member in progress_over(missing, "synthetic images"):
        path = paths[member.number]
        translated = _translated(translator, member)[image]
        write_json(path.with_name(path.name.replace(".nii.gz", ".json")), translator.sidecar(image))
        write(translated, path, description=f"medtrans {__version__}: synthetic, research use only")
    return paths


def weights_of(translator: Translator) -> str:
    """A name for a translator's weights: a hash of them and of what applies them."""
    state = blake2b(f"{type(translator).__qualname__} {type(translator.method).__qualname__}".encode(), digest_size=8)
    for name, network in sorted(translator.method.networks().items()):
        for key, tensor in sorted(network.state_dict().items()):
            state.update(f"{name}.{key}".encode())
            state.update(tensor.detach().cpu().float().contiguous().numpy().data)
    return state.hexdigest()


def _translated(translator: Translator, member: Member) -> Mapping[str, Volume]:
    sources = translator.experiment.config.source
    wanted = [*sources, *(["mask"] if "mask" in member.case.images else [])]
    prepared = translator.preprocessing.prepare(
        load_images(member.case, wanted, translator.experiment.config.reading.rules)
    )
    return translator.restore(translator.predict(prepared), prepared)
