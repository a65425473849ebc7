"""Owns one segmenter: trained on real images, on synthetic ones or on both, and scored on real and synthetic ones."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from medtrans import checkpoint
from medtrans.assembly import make_method
from medtrans.atomic import write_json
from medtrans.cohort import Cohort, Member
from medtrans.components import Case
from medtrans.config import Experiment
from medtrans.devices import lone_fabric
from medtrans.inference import Translator
from medtrans.judging import Judge
from medtrans.progress import progress_over
from medtrans.runfolder import RunFolder
from medtrans.splits import SplitName
from medtrans.statistics import CaseScores
from medtrans.study import Study
from medtrans.trainer import train_method
from medtrans.validation import Validator

__all__ = ["Images", "Kind", "Segmenter", "scores_of"]

Images: TypeAlias = Literal["real", "synthetic"]
Kind: TypeAlias = Literal["real", "synthetic", "real_and_synthetic"]

_log = logging.getLogger("medtrans")


@dataclass(frozen=True)
class Segmenter:
    """What a segmenter is made from.

    Args:
        experiment: its checked config.
        image: the modality it reads.
        trained_on: which images of the training members.
        tested_on: which images of the test members; each kind gets scores of its own.
        train: members.
        test: members.
        synthetic: by member number, the synthetic images of all that are needed.
        cache: folder of prepared images, shared with other segmenters.
    """

    experiment: Experiment
    image: str
    trained_on: Kind
    tested_on: tuple[Images, ...]
    train: tuple[Member, ...]
    test: tuple[Member, ...]
    synthetic: Mapping[int, Path]
    cache: Path

    def cohort(self) -> Cohort:
        """Its own cases: those to train on, then those to test on."""
        kinds: Mapping[Kind, tuple[Images, ...]] = {
            "real": ("real",),
            "synthetic": ("synthetic",),
            "real_and_synthetic": ("real", "synthetic"),
        }
        train = [self.case_of(member, kind, "train") for kind in kinds[self.trained_on] for member in self.train]
        test = [self.case_of(member, kind, "test") for kind in self.tested_on for member in self.test]
        return Cohort((*train, *test))

    def case_of(self, member: Member, kind: Images, split: SplitName) -> Member:
        """A member with its real or its synthetic image, and its real labels."""
        case = member.case
        image = case.images[self.image] if kind == "real" else self.synthetic[member.number]
        images = {self.image: image, **{name: case.images[name] for name in ("labels", "mask") if name in case.images}}
        return Member(member.number, Case(f"{case.case} ({kind})", case.subject, images), split)

    def key(self) -> str:
        """A hash of all that decides its scores, but for the content of files."""
        config = {name: value for name, value in self.experiment.saved().items() if name != "output_dir"}
        # A run's own folder may move; a synthetic image is known by its weights' folder and its name.
        own = {path: f"{path.parent.name}/{path.name}" for path in self.synthetic.values()}
        members = [
            [member.split, member.case.case, own.get(image, str(image)) if isinstance(image, Path) else str(image)]
            for member in self.cohort().members
            for image in (member.case.images[self.image],)
        ]
        return hashlib.sha256(json.dumps([config, members], sort_keys=True).encode()).hexdigest()


def scores_of(segmenter: Segmenter) -> dict[Images, list[CaseScores]]:
    """Train and score it; what an earlier try has left is taken up where it ended.

    Raises:
        MedtransError: as a run does.
    """
    folder = RunFolder(Path(segmenter.experiment.config.output_dir))
    record, key = folder.path / "scores.json", segmenter.key()
    known = _known(record)
    if known.get("key") != key and folder.path.exists():
        shutil.rmtree(folder.path)
        known = {}
    if known.get("scores"):
        _log.info("%s: taken as it was", folder.path.name)
        return {kind: [CaseScores(**row) for row in rows] for kind, rows in known["scores"].items()}
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.checkpoints.mkdir(exist_ok=True)
    write_json(record, {"key": key})
    folder.write_config(segmenter.experiment.saved_text())
    scores = _trained_and_scored(segmenter, folder)
    write_json(record, {"key": key, "scores": {kind: [asdict(row) for row in rows] for kind, rows in scores.items()}})
    return scores


def _trained_and_scored(segmenter: Segmenter, folder: RunFolder) -> dict[Images, list[CaseScores]]:
    experiment, cohort = segmenter.experiment, segmenter.cohort()
    study = Study(experiment, cohort, segmenter.cache)
    study.prepare()
    judge = Judge.of(study)
    method = make_method(experiment, training_cases=len(cohort.of("train")))
    translator = Translator(experiment, method, study.preprocessing, {})
    continued = checkpoint.newest(folder.checkpoints) is not None
    validator = Validator(study, judge, translator)
    train_method(study, method, validator, lone_fabric(experiment.config.train), folder, continued=continued)
    return {
        kind: [
            _scored(study, judge, translator, segmenter.case_of(member, kind, "test"))
            for member in progress_over(segmenter.test, f"{folder.path.name} on {kind} images")
        ]
        for kind in segmenter.tested_on
    }


def _scored(study: Study, judge: Judge, translator: Translator, member: Member) -> CaseScores:
    prepared = study.cache.prepared(member)
    truth = judge.truth(member, prepared)
    scores = judge.scores(translator.predict(prepared), prepared, truth, member)
    return replace(scores, case=scores.case.rpartition(" (")[0])


def _known(record: Path) -> Mapping[str, Any]:
    try:
        known = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
