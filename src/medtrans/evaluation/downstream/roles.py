"""Whose images segmenters train on and are tested on, none of them seen by the translator, and the synthetic ones."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import yaml

from medtrans._version import __version__
from medtrans.config.schema import DownstreamSettings
from medtrans.data.cohort import Cohort, Member, absent_images, load_images, read_case_table
from medtrans.data.splits import folded
from medtrans.errors import DataError
from medtrans.inference.prediction import file_stems
from medtrans.inference.translator import Translator
from medtrans.utils.files import write_json
from medtrans.utils.messages import capped
from medtrans.utils.progress import progress_over
from medtrans.utils.seeds import derived_seed
from medtrans.volume import write

__all__ = ["Roles", "assign_roles", "seen_subjects", "synthesise", "weights_of"]


@dataclass(frozen=True)
class Roles:
    """Who takes part.

    Args:
        train: segmenters are trained on their images.
        test: segmenters are tested on their images.
        overlap: those of `test` whose subjects the translator was trained or chosen on; not empty only where the
            protocol is published so.
    """

    train: tuple[Member, ...]
    test: tuple[Member, ...]
    overlap: tuple[Member, ...]


def assign_roles(
    cohort: Cohort, settings: DownstreamSettings, seen: Mapping[str, str], *, image: str, seed: int
) -> Roles:
    """Deal the subjects out.

    "disjoint": the run's test subjects, ordered by a hash of the seed and the subject's name; the first `train_share`
    of them, rounded, train, the others test. "mdaunet": segmenters train on the run's test subjects and are tested on
    its training and validation subjects.

    Args:
        cohort: of the run.
        settings: of the assessment.
        seen: by folded name, the subjects the translator was trained or chosen on, and where that stands.
        image: the modality that is assessed.
        seed: of the run.

    Raises:
        DataError: a subject that must be unseen was seen; a case has no labels or no real image; or there are fewer
            than one subject to train on and one to test on.
    """
    held_out = cohort.of("test")
    _check_unseen(held_out, seen)
    if settings.protocol == "mdaunet":
        test = tuple(member for member in cohort.members if member.split != "test")
        chosen = Roles(held_out, test, tuple(member for member in test if folded(member.case.subject) in seen))
    else:
        subjects = sorted(
            {folded(member.case.subject) for member in held_out}, key=lambda one: derived_seed(seed, "downstream", one)
        )
        count = min(max(1, round(settings.train_share * len(subjects))), len(subjects) - 1)
        first = set(subjects[: max(count, 0)])
        chosen = Roles(
            tuple(member for member in held_out if folded(member.case.subject) in first),
            tuple(member for member in held_out if folded(member.case.subject) not in first),
            (),
        )
    if not (chosen.train and chosen.test):
        raise DataError(
            f"downstream: needs at least 2 subjects that the translator has not seen, found {len(held_out)} test "
            "cases; enlarge the test split"
        )
    absent = [
        fault
        for member in (*chosen.train, *chosen.test)
        for fault in absent_images(member.case, (image, "labels")).values()
    ]
    if absent:
        raise DataError(*(f"downstream: {fault}" for fault in capped(absent)))
    return chosen


def seen_subjects(cohort: Cohort, run: Path, config: Mapping[str, Any]) -> tuple[dict[str, str], list[str]]:
    """The subjects that the translator was trained or chosen on, and warnings.

    They are those that the run's records name, those that the cohort holds so now, and those of every run its
    weights were initialised from.

    Args:
        cohort: of the run, as its dataset lists it now.
        run: the run's folder.
        config: the run's, as plain data.
    """
    seen = {folded(member.case.subject): "this run" for member in cohort.members if member.split != "test"}
    seen |= dict.fromkeys(_recorded(run / "cases.csv"), "this run")
    warnings, visited = [], {run.resolve()}
    before = config
    while before["train"].get("initialise_from"):
        earlier = Path(before["train"]["initialise_from"]["run"])
        if earlier.resolve() in visited:
            break
        visited.add(earlier.resolve())
        try:
            before = yaml.safe_load((earlier / "config.yaml").read_text(encoding="utf-8"))
            for subject in _recorded(earlier / "cases.csv", required=True):
                seen.setdefault(subject, f"{earlier.name}, which this run's weights come from")
        except (OSError, yaml.YAMLError, KeyError, DataError) as error:
            warnings.append(
                f"downstream: {earlier}, which the translator's weights come from, cannot be read any more ({error}); "
                "whether it saw the subjects segmenters are tested on is not known"
            )
            break
    return seen, warnings


def _recorded(path: Path, *, required: bool = False) -> list[str]:
    if not path.is_file() and not required:
        return []
    return [folded(one.subject) for one in read_case_table(path) if one.split != "test"]


def _check_unseen(members: tuple[Member, ...], seen: Mapping[str, str]) -> None:
    leaks = {folded(member.case.subject): member.case.subject for member in members}
    faults = [
        f'downstream: subject "{name}" was among those that {seen[subject]} trained or chose the translator on; its '
        "synthetic images would be too good. Take it out of the test split, or train the translator without it"
        for subject, name in leaks.items()
        if subject in seen
    ]
    if faults:
        raise DataError(*capped(faults))


def synthesise(
    translator: Translator, cohort: Cohort, members: Sequence[Member], image: str, folder: Path
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
    sources, rules = translator.experiment.config.source, translator.experiment.config.reading.rules
    scalings = translator.preprocessing.scalings
    current = folder / weights_of(translator)
    if folder.is_dir():
        for other in folder.iterdir():
            if other != current:
                shutil.rmtree(other)
    current.mkdir(parents=True, exist_ok=True)
    stems = file_stems(cohort.members, [image])
    paths = {member.number: current / f"{stems[member.number, image]}.nii.gz" for member in members}
    missing = [member for member in members if not paths[member.number].is_file()]
    for member in progress_over(missing, "synthetic images"):
        path = paths[member.number]
        wanted = [*sources, *(["mask"] if "mask" in member.case.images else [])]
        prepared = translator.preprocessing.prepare(load_images(member.case, wanted, rules, scalings))
        translated = translator.restore(translator.predict(prepared), prepared)[image]
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
