"""What is watched for in test cases: sources unlike training, lesions lost or invented, copies and collapse."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from medtrans.data.cohort import Member, load_image
from medtrans.data.preprocessing import Prepared
from medtrans.data.sampling import patch_centres, stream
from medtrans.evaluation.baselines import Baseline
from medtrans.evaluation.faithfulness.copy_and_collapse import Similarity, collapse, copy_through, likeness_of
from medtrans.evaluation.faithfulness.lesions import Insertion, Removal, insertions, lesion_summary, removals
from medtrans.inference.translator import Translator

__all__ = ["FaithfulnessChecks", "FaithfulnessResults"]


@dataclass
class FaithfulnessResults:
    """What was seen in some test cases."""

    cases: int = 0
    strange: dict[str, list[str]] = field(default_factory=dict)
    likeness: list[Similarity] = field(default_factory=list)
    inserted: list[Insertion] = field(default_factory=list)
    removed: list[Removal] = field(default_factory=list)

    @classmethod
    def together(cls, several: Sequence[FaithfulnessResults]) -> FaithfulnessResults:
        """What was seen in the cases of several, such as those of each rank."""
        return cls(
            sum(one.cases for one in several),
            {label: remarks for one in several for label, remarks in one.strange.items()},
            [likeness for one in several for likeness in one.likeness],
            [insertion for one in several for insertion in one.inserted],
            [removal for one in several for removal in one.removed],
        )

    def report(self) -> dict[str, Any]:
        """What was found, as JSON can hold it."""
        return {
            "cases": self.cases,
            "out_of_distribution": self.strange,
            "copy_through": copy_through(self.likeness),
            "collapse": collapse(self.likeness),
            "lesions": lesion_summary(self.inserted, self.removed),
        }

    def warnings(self) -> list[str]:
        """What of it a reader must know, a sentence each."""
        found = self.report()
        warnings = [
            f"{label}: out of distribution, its source is unlike those of training: {'; '.join(remarks[:3])}"
            for label, remarks in self.strange.items()
        ]
        if found["copy_through"]["flagged"]:
            warnings.append(
                f"predictions are copies of their sources: correlation {found['copy_through']['source_prediction']:.3f}"
            )
        if found["collapse"]["flagged"]:
            warnings.append(
                f"predictions hardly differ from case to case: {found['collapse']['variation']:.2f} of what sources do"
            )
        if found["lesions"]["flagged"]:
            warnings.append(_lesion_warning(found["lesions"]))
        return warnings


@dataclass
class FaithfulnessChecks:
    """Looks at each test case as it is predicted; `watched` is what it saw.

    Args:
        translator: of the run.
        mapping: the training cases' mean target for each source intensity, which says what an inserted sphere should
            change.
        lesion_cases: numbers of the cases that get the lesion test, which translates them a few times more.
        lesions: labels of true lesions, which are taken out of the source where a case has any.
    """

    translator: Translator
    mapping: Baseline
    lesion_cases: Collection[int]
    lesions: Sequence[int]
    watched: FaithfulnessResults = field(default_factory=FaithfulnessResults)

    def see(self, member: Member, prepared: Prepared, scaled: np.ndarray) -> None:
        """Look at one case.

        Args:
            member: of the test split.
            prepared: the case.
            scaled: its prediction `(c, i, j, k)` in [0, 1].
        """
        strange = self.translator.unlike_training(prepared)
        if strange:
            self.watched.strange[member.label] = strange
        source = np.asarray(prepared.source, dtype=np.float32)
        target = None if prepared.target is None else np.asarray(prepared.target, dtype=np.float32)
        inside = patch_centres(source, None)
        if prepared.mask is not None:
            inside = inside & (np.asarray(prepared.mask[0]) != 0)
        if inside.any():
            self.watched.likeness.append(
                likeness_of(source[0], scaled[0], None if target is None else target[0], inside)
            )
            if member.number in self.lesion_cases:
                self._test_lesions(member, prepared, source, scaled, target, inside)
        self.watched.cases += 1

    def _test_lesions(
        self,
        member: Member,
        prepared: Prepared,
        source: np.ndarray,
        scaled: np.ndarray,
        target: np.ndarray | None,
        inside: np.ndarray,
    ) -> None:
        def translate(changed: np.ndarray) -> np.ndarray:
            return self.translator.predict(replace(prepared, source=changed))

        def mapped(changed: np.ndarray) -> np.ndarray:
            return self.mapping.predict(replace(prepared, source=changed))

        rng = stream(self.translator.experiment.config.seed, "lesion test", member.number)
        self.watched.inserted += insertions(source, scaled, inside, translate, mapped, rng=rng)
        lesions = self._lesions_of(member, prepared)
        if lesions is not None and lesions.any():
            self.watched.removed += removals(source, scaled, target, lesions, inside, translate)

    def _lesions_of(self, member: Member, prepared: Prepared) -> np.ndarray | None:
        if not self.lesions or "labels" not in member.case.images:
            return None
        labels = load_image(member.case, "labels", self.translator.experiment.config.reading.rules)
        placed = self.translator.preprocessing.placed_image(labels, prepared, nearest=True)
        return np.isin(placed, self.lesions)


def _lesion_warning(found: dict[str, Any]) -> str:
    parts = {
        "preserved_percent": "{:.0f} % of inserted spheres show in the prediction",
        "shown_percent": "{:.0f} % of the lesions that targets show are shown",
        "elsewhere_percent": "{:.0f} % of insertions change the prediction elsewhere",
        "invented_percent": "{:.0f} % of lesions taken out of the source are still predicted",
    }
    said = [words.format(found[name]) for name, words in parts.items() if found[name] is not None]
    return f"lesion test: {', '.join(said)}; structures may be lost or invented"
