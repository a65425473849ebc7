"""How a predicted case is scored: against its own target, on the source's own grid, in the target's units."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np

from medtrans.config.experiment import Experiment
from medtrans.config.protocols import PROTOCOLS, Protocol
from medtrans.data.cohort import Cohort, Member, load_images
from medtrans.data.datamodule import DataModule
from medtrans.data.preprocessing import Prepared, Preprocessing
from medtrans.data.sampling import background_of
from medtrans.errors import DataError, SetupError
from medtrans.evaluation.agreement import Agreement
from medtrans.evaluation.pictures import Montage, box_around
from medtrans.evaluation.scores import CaseScores, Column, target_sha
from medtrans.evaluation.scoring import columns_of, data_range_of, score, scored_in, scoring_space, unit_of
from medtrans.plugins.interfaces import DetailedMetric, Metric
from medtrans.utils.messages import listed
from medtrans.volume import NO_RULES, ReadingRules
from medtrans.volume.resampling import covered

__all__ = ["Reference", "Scorer", "make_metrics"]


@dataclass(frozen=True)
class Reference:
    """What a case is scored against, on the source's own grid.

    Args:
        target: `(c, i, j, k)`, as it is scored.
        mask: boolean `(i, j, k)`, where it counts; None scores every voxel.
        sha: of the targets as stored.
        images: further images that metrics look at, by modality, `(i, j, k)`.
        counted: boolean `(i, j, k)`, outside which target and prediction are 0; None leaves both as they are.
        valid: boolean `(i, j, k)`, where all images have data; elsewhere nothing is scored and a prediction is taken to
            be the target, for metrics that look at no mask. None where there are data everywhere.
    """

    target: np.ndarray
    mask: np.ndarray | None
    sha: str
    images: Mapping[str, np.ndarray] = field(default_factory=dict)
    counted: np.ndarray | None = None
    valid: np.ndarray | None = None


class Scorer:
    """Scores predictions of members of a cohort.

    Args:
        preprocessing: the run's.
        metrics: by target, those made for it.
        targets: the modalities predicted, in the order of channels.
        rules: how targets and masks are read that would otherwise be refused.
        protocol: the published way of scoring that is followed.
        scored_in: by target, the intensities that scores refer to, in words.
    """

    def __init__(
        self,
        preprocessing: Preprocessing,
        metrics: Mapping[str, Mapping[str, Metric]],
        targets: Sequence[str],
        rules: ReadingRules = NO_RULES,
        protocol: Protocol = "native",
        scored_in: Mapping[str, str] | None = None,
    ) -> None:
        self.scored_in = dict(scored_in or {})
        self._preprocessing = preprocessing
        self._metrics = metrics
        self._targets = tuple(targets)
        self._rules = rules
        self._protocol = protocol
        detailed = [one for each in metrics.values() for one in each.values() if isinstance(one, DetailedMetric)]
        self._images = dict.fromkeys((name for one in detailed for name in one.images), False)
        self._images |= dict.fromkeys((name for one in detailed for name in one.label_maps), True)

    @classmethod
    def of(cls, data: DataModule) -> Self:
        """The scorer that a run's config asks for.

        Raises:
            ConfigError: a metric refuses its options.
            DataError: a metric looks at images which the cases to be scored do not have.
        """
        experiment, preprocessing = data.experiment, data.preprocessing
        config, scalings = experiment.config, data.preprocessing.scalings
        scorer = cls(
            preprocessing,
            make_metrics(experiment, preprocessing),
            config.target,
            config.reading.rules,
            config.protocol,
            {
                target: scored_in(scalings, target, _scaling_of(experiment, target), protocol=config.protocol)
                for target in config.target
            },
        )
        _check_further_images(data.cohort, scorer.further_images)
        return scorer

    @property
    def further_images(self) -> tuple[str, ...]:
        """The modalities that metrics look at beside prediction, target and mask."""
        return tuple(self._images)

    @property
    def columns(self) -> dict[str, Column]:
        """What each column of scores holds."""
        return columns_of(self._metrics, self.units)

    @property
    def units(self) -> dict[str, str]:
        """By target, the unit of its intensities as they are scored."""
        scalings, protocol = self._preprocessing.scalings, self._protocol
        return {target: unit_of(scalings, target, protocol=protocol) for target in self._targets}

    def reference(self, member: Member, prepared: Prepared) -> Reference:
        """Read a member's target, its mask where it has one, and what else the metrics look at.

        Raises:
            DataError: an image cannot be read, or the protocol scores inside a mask and there is none.
        """
        published = PROTOCOLS[self._protocol]
        if published.mask == "required" and "mask" not in member.case.images:
            raise DataError(f"{member.label}: protocol {self._protocol} scores inside a mask, and the case has none")
        further = [name for name in self._images if name in member.case.images]
        sources = self._preprocessing.source if published.zero_outside else ()
        masks = ["mask"] if "mask" in member.case.images and published.mask != "ignored" else []
        wanted = dict.fromkeys([*self._targets, *masks, *sources, *further])
        images = load_images(member.case, wanted, self._rules, self._preprocessing.scalings)
        native = {
            name: self._preprocessing.native_image(image, prepared, nearest=self._of_labels(name))
            for name, image in images.items()
        }
        targets = [native[name] for name in self._targets]
        counted = _counted([native[name] for name in sources], targets) if published.zero_outside else None
        grids = [images[name].grid for name in self._targets]
        valid = covered([*grids, *prepared.partial.values()], prepared.native)
        inside = native["mask"] != 0 if masks else None
        return Reference(
            self._true(targets, prepared, counted),
            inside if valid is None else valid if inside is None else inside & valid,
            target_sha(*(images[name] for name in self._targets)),
            {name: native[name] for name in further},
            counted,
            valid,
        )

    def _of_labels(self, name: str) -> bool:
        """Whether an image holds labels, whose values are not to be mixed."""
        if name in self._targets:
            return self._preprocessing.scalings[name].nearest
        return name == "mask" or self._images.get(name, False)

    def scores(
        self,
        scaled: np.ndarray,
        prepared: Prepared,
        reference: Reference,
        member: Member,
        retranslated: Callable[[float], np.ndarray] | None = None,
    ) -> CaseScores:
        """Score a prediction `(c, i, j, k)` in [0, 1] on the prepared grid.

        Args:
            scaled: the prediction.
            prepared: the case.
            reference: what it is scored against.
            member: whose it is.
            retranslated: makes the prediction again with windows moved by a share of their side; None where it was
                made without windows.
        """
        again = None if retranslated is None else lambda shift: self._scored(retranslated(shift), prepared, reference)
        values = score(
            self._scored(scaled, prepared, reference),
            reference.target,
            reference.mask,
            prepared.native.spacing_mm,
            self._metrics,
            images=reference.images,
            retranslated=again,
        )
        return CaseScores(member.label, member.case.case, member.case.subject, values, reference.sha)

    def try_metrics(self, member: Member, prepared: Prepared) -> list[str]:
        """Score noise in place of a member's prediction, to see before training whether every metric can be had.

        Returns:
            What is undefined, in a sentence each.

        Raises:
            DataError, SetupError: a metric cannot score volumes like these; names it.
        """
        noise = np.random.default_rng(0).random((len(self._targets), *prepared.grid.shape), dtype=np.float32)
        reference = self.reference(member, prepared)
        try:
            found = self.scores(noise, prepared, reference, member, lambda _: noise).values
        except (DataError, SetupError) as error:
            raise type(error)(*(f"{member.label}: {fault}" for fault in error.faults)) from error
        return [
            f"{member.label}: {name} is undefined (NaN); means leave it out, and as train.best it chooses no weights"
            for name, value in found.items()
            if math.isnan(value)
        ]

    def _scored(self, scaled: np.ndarray, prepared: Prepared, reference: Reference) -> np.ndarray:
        target = prepared.target
        backgrounds = None if target is None else self._preprocessing.target_backgrounds(background_of(target))
        native = self._preprocessing.to_native(np.clip(scaled, 0, 1), prepared, backgrounds)
        made = self._space(native, prepared, reference.counted)
        return made if reference.valid is None else np.where(reference.valid, made, reference.target)

    def _true(self, targets: Sequence[np.ndarray], prepared: Prepared, counted: np.ndarray | None) -> np.ndarray:
        if PROTOCOLS[self._protocol].intensities == "stored":
            return np.stack(targets).astype(np.float32)
        scalings = self._preprocessing.scalings
        scaled = [
            scalings[name].apply(image, prepared.numbers[name])
            for name, image in zip(self._targets, targets, strict=True)
        ]
        return self._space(np.stack(scaled), prepared, counted)

    def _space(self, scaled: np.ndarray, prepared: Prepared, counted: np.ndarray | None) -> np.ndarray:
        """Intensities as they are scored, 0 in [0, 1] where nothing counts."""
        if counted is not None:
            scaled = np.where(counted, scaled, 0)
        scalings = self._preprocessing.scalings
        return scoring_space(scaled, self._targets, scalings, prepared.numbers, protocol=self._protocol)

    def agreement(self, scaled: np.ndarray, prepared: Prepared, reference: Reference) -> dict[str, Agreement]:
        """By target, how the voxels that count differ; the arguments are those of `scores`."""
        made = self._scored(scaled, prepared, reference)
        return {
            target: Agreement.of(
                made[channel],
                reference.target[channel],
                reference.mask,
                data_range_of(self._preprocessing.scalings, target, protocol=self._protocol)[1],
            )
            for channel, target in enumerate(self._targets)
        }

    def montage(self, scaled: np.ndarray, prepared: Prepared) -> Montage:
        """Source, prediction, target and error of the first target, in its units."""
        target = np.zeros_like(scaled) if prepared.target is None else np.asarray(prepared.target)
        first = self._targets[:1]
        made, true = (
            scoring_space(image[:1], first, self._preprocessing.scalings, prepared.numbers)[0]
            for image in (scaled, target)
        )
        inside = None if prepared.mask is None else np.asarray(prepared.mask[0]) != 0
        if (valid := prepared.valid) is not None:
            inside = valid if inside is None else inside & valid
        return Montage.of(
            np.asarray(prepared.source[0]),
            made,
            true,
            spacing_mm=prepared.grid.spacing_mm,
            mask=inside,
            unit=unit_of(self._preprocessing.scalings, self._targets[0]),
        )


def _counted(sources: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> np.ndarray:
    """The box around the voxels of the targets above 0 within that of the sources; everything where it is empty."""
    inside = np.ones(targets[0].shape, dtype=bool)
    for image in (*sources, *targets):
        bright = (image > 0) & inside
        if bright.any():
            box = np.zeros_like(inside)
            box[box_around(bright)] = True
            inside &= box
    return inside


def make_metrics(experiment: Experiment, preprocessing: Preprocessing) -> dict[str, dict[str, Metric]]:
    """By target, the metrics with that target's data range."""
    scalings, protocol = preprocessing.scalings, experiment.config.protocol

    def metrics_of(target: str) -> dict[str, Metric]:
        low, width = data_range_of(scalings, target, protocol=protocol)
        facts = {"data_range": width, "data_low": low}
        return {key: experiment.build("metrics", key, **facts) for key in experiment.under("metrics")}

    return {target: metrics_of(target) for target in experiment.config.target}


def _check_further_images(cohort: Cohort, modalities: Sequence[str]) -> None:
    """That the images which metrics look at are there, before a run trains towards scores that cannot be made.

    Raises:
        DataError: no case that is scored has such an image, or a file is not there.
    """
    scored = [member for member in cohort.members if member.split != "train"]
    faults = []
    for modality in modalities:
        found = {member.label: member.case.images[modality] for member in scored if modality in member.case.images}
        missing = [label for label, image in found.items() if isinstance(image, Path) and not image.is_file()]
        if scored and not found:
            faults.append(
                f"metrics: one looks at {modality}, which no case to be scored has; give the dataset such images, or "
                "leave the metric out"
            )
        if missing:
            faults.append(
                f"metrics: one looks at {modality}, whose file is not there for {listed(missing)}; restore it"
            )
    if faults:
        raise DataError(*faults)


def _scaling_of(experiment: Experiment, modality: str) -> str:
    slot = experiment.slots["preprocess", "intensity", modality]
    options = ", ".join(f"{name}={value}" for name, value in sorted(slot.options.items()))
    name = slot.found.name.removeprefix("builtin:")
    return f"{name}({options})" if options else name
