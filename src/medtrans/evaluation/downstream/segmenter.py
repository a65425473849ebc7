"""One segmenter: its config, its training on real or synthetic images, and its scores on both."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from medtrans.config.experiment import Experiment
from medtrans.config.loading import load_config
from medtrans.config.schema import DownstreamSettings
from medtrans.data.cohort import Cohort, Member
from medtrans.data.datamodule import DataModule
from medtrans.data.splits import SplitName
from medtrans.distributed.devices import single_device_fabric
from medtrans.errors import ConfigError
from medtrans.evaluation.scorer import Scorer
from medtrans.evaluation.scores import CaseScores
from medtrans.evaluation.validation import Validator, translate_and_score
from medtrans.inference.translator import Translator
from medtrans.plugins.interfaces import Case
from medtrans.runs import checkpoint
from medtrans.runs.folder import RunFolder
from medtrans.training.build import make_method
from medtrans.training.trainer import train_method
from medtrans.utils.files import write_json
from medtrans.utils.progress import progress_over
from medtrans.utils.seeds import derived_seed

__all__ = ["Images", "Kind", "Segmenter", "assessed_image", "scores_of", "segmenter_experiment"]


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
    data = DataModule(experiment, cohort, segmenter.cache)
    data.prepare()
    scorer = Scorer.of(data)
    method = make_method(experiment, training_cases=len(cohort.of("train")))
    translator = Translator(experiment, method, data.preprocessing, {})
    continued = checkpoint.newest(folder.checkpoints) is not None
    validator = Validator(data, scorer, translator)
    train_method(data, method, validator, single_device_fabric(experiment.config.train), folder, continued=continued)
    return {
        kind: [
            _scored(data, scorer, translator, segmenter.case_of(member, kind, "test"))
            for member in progress_over(segmenter.test, f"{folder.path.name} on {kind} images")
        ]
        for kind in segmenter.tested_on
    }


def _scored(data: DataModule, scorer: Scorer, translator: Translator, member: Member) -> CaseScores:
    scores = translate_and_score(data, scorer, translator, member).scores
    return replace(scores, case=scores.case.rpartition(" (")[0])


def _known(record: Path) -> Mapping[str, Any]:
    try:
        known = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


_OURS = (
    "output_dir", "seed", "names", "dataset", "source", "target", "split", "reading", "method", "discriminator",
    "metrics", "downstream", "versions",
)  # fmt: skip


def assessed_image(experiment: Experiment, settings: DownstreamSettings) -> str:
    """The target whose synthetic images are assessed.

    Raises:
        ConfigError: the run has no such target.
    """
    targets = experiment.config.target
    image = settings.image or targets[0]
    if image not in targets:
        raise ConfigError(f"downstream.image: the run translates to {', '.join(targets)}, found '{image}'; name one")
    return image


def segmenter_experiment(
    experiment: Experiment, settings: DownstreamSettings, *, seed: int, folder: Path, plugins: Sequence[Path]
) -> Experiment:
    """The checked config of one segmenter.

    Spacing, crop, the image's scaling, patches, batch, precision, devices, workers and overlap are the run's own; it
    trains a plain U-Net by Dice and cross-entropy for 2000 steps, and its last weights count. `downstream.segmenter`
    changes any of it.

    Args:
        experiment: the run's.
        settings: of the assessment.
        seed: the number of the repetition, from 0.
        folder: of the segmenter.
        plugins: the single-file plugins the run was started with.

    Raises:
        ConfigError: `downstream.segmenter` sets what the assessment itself sets, or is no config.
    """
    taken = [key for key in settings.segmenter if key in _OURS]
    if taken:
        raise ConfigError(
            *(f"downstream.segmenter.{key}: is set by the assessment itself; take it out" for key in taken)
        )
    saved, image = experiment.saved(), assessed_image(experiment, settings)
    labels = {"name": "labels", "options": {"classes": {name: list(of) for name, of in settings.labels.items()}}}
    base: dict[str, Any] = {
        "output_dir": str(folder),
        "seed": derived_seed(saved["seed"], "segmenter", seed),
        "names": saved["names"],
        "dataset": saved["dataset"],
        "source": [image],
        "target": ["labels"],
        "reading": saved["reading"],
        "preprocess": {
            "spacing_mm": saved["preprocess"]["spacing_mm"],
            "crop": saved["preprocess"]["crop"],
            "intensity": {image: saved["preprocess"]["intensity"][image], "labels": labels},
        },
        "patch": saved["patch"],
        "method": {"name": "segmentation", "options": {"classes": len(settings.labels)}},
        "generator": {"name": "unet"},
        "discriminator": None,
        "losses": {"soft_dice": {}, "cross_entropy": {}},
        "metrics": {
            f"{metric}_{name}": {"name": metric, "options": {"label": of[0]}}
            for name, of in settings.labels.items()
            for metric in ("dice", "hd95")
        },
        "callbacks": {"progress": {}},
        "train": {
            **{name: saved["train"][name] for name in ("batch", "precision", "devices", "workers")},
            "steps": 2000,
            "optimizer": {"name": "adamw", "options": {"lr": 1e-3}},
            "best": None,
        },
        # Window and blending suit the translator's network; those who judge by one segmenter want it the same for all.
        "inference": {name: saved["inference"][name] for name in ("overlap", "batch")},
    }
    try:
        return load_config([base, settings.segmenter] if settings.segmenter else [base], plugins=plugins)
    except ConfigError as error:
        raise ConfigError(*(f"downstream.segmenter: {fault}" for fault in error.faults)) from error
