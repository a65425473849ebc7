"""What is looked for in test cases: sources unlike training, lesions lost or invented, copies and collapse."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

import numpy as np

from medtrans.data.cohort import Member, load_image
from medtrans.data.fingerprint import block_means
from medtrans.data.preprocessing import Prepared
from medtrans.data.sampling import patch_centres, stream
from medtrans.evaluation.baselines import Baseline
from medtrans.evaluation.lesions import Insertion, Removal, insertions, lesion_summary, removals
from medtrans.inference.translator import Translator
from medtrans.training.copy_and_collapse import ComparedCase, collapse, compare_case, copy_through

__all__ = ["FaithfulnessChecks", "FaithfulnessResults"]


@dataclass
class FaithfulnessResults:
    """What was found in some test cases."""

    cases: int = 0
    unlike_training: dict[str, list[str]] = field(default_factory=dict)
    compared: list[ComparedCase] = field(default_factory=list)
    inserted: list[Insertion] = field(default_factory=list)
    removed: list[Removal] = field(default_factory=list)

    def __iadd__(self, other: FaithfulnessResults) -> Self:
        """With what was found in further cases, such as those of another rank."""
        self.cases += other.cases
        self.unlike_training |= other.unlike_training
        self.compared += other.compared
        self.inserted += other.inserted
        self.removed += other.removed
        return self

    def report(self) -> dict[str, Any]:
        """The content of `faithfulness.json`."""
        copied, alike = copy_through(self.compared), collapse(self.compared)
        return {
            "cases": self.cases,
            "out_of_distribution": self.unlike_training,
            "copy_through": {**asdict(copied), "flagged": copied.flagged},
            "collapse": {"variation": alike.variation, "nearest_pair": alike.nearest, "flagged": alike.flagged},
            "lesions": lesion_summary(self.inserted, self.removed),
        }

    def warnings(self) -> list[str]:
        """What of it a reader must know, a sentence each."""
        found = self.report()
        warnings = [
            f"{label}: out of distribution, its source is unlike those of training: {'; '.join(remarks[:3])}"
            for label, remarks in self.unlike_training.items()
        ]
        if found["copy_through"]["flagged"]:
            warnings.append(
                f"predictions are copies of their sources: correlation {found['copy_through']['source_prediction']:.3f}"
            )
        if found["collapse"]["flagged"]:
            warnings.append(
                f"predictions hardly differ from case to case: {found['collapse']['variation']:.2f} of what images do"
            )
        if found["lesions"]["flagged"]:
            warnings.append(_lesion_warning(found["lesions"]))
        return warnings


@dataclass
class FaithfulnessChecks:
    """Checks each test case as it is predicted; `results` is what was found.

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
    results: FaithfulnessResults = field(default_factory=FaithfulnessResults)

    def check(self, member: Member, prepared: Prepared, scaled: np.ndarray) -> None:
        """Check one case.

        Args:
            member: of the test split.
            prepared: the case.
            scaled: its prediction `(c, i, j, k)` in [0, 1].
        """
        self.results.cases += 1
        remarks = self.translator.unlike_training(prepared)
        if remarks:
            self.results.unlike_training[member.label] = remarks
        source = np.asarray(prepared.source, dtype=np.float32)
        target = None if prepared.target is None else np.asarray(prepared.target, dtype=np.float32)
        inside = patch_centres(source, None)
        if prepared.mask is not None:
            inside = inside & (np.asarray(prepared.mask[0]) != 0)
        if (valid := prepared.valid) is not None:
            inside = inside & valid
        if not inside.any():
            return
        self.results.compared.append(compare_case(source, scaled, target, inside, _coarse))
        if member.number in self.lesion_cases:
            self._test_lesions(member, prepared, source, scaled, target, inside)

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

        def map_intensities(changed: np.ndarray) -> np.ndarray:
            return self.mapping.predict(replace(prepared, source=changed))

        rng = stream(self.translator.experiment.config.seed, "lesion test", member.number)
        self.results.inserted += insertions(source, scaled, inside, translate, map_intensities, rng=rng)
        lesions = self._lesions_of(member, prepared)
        if lesions is not None and lesions.any():
            self.results.removed += removals(source, scaled, target, lesions, inside, translate)

    def _lesions_of(self, member: Member, prepared: Prepared) -> np.ndarray | None:
        if not self.lesions or "labels" not in member.case.images:
            return None
        labels = load_image(member.case, "labels", self.translator.experiment.config.reading.rules)
        placed = self.translator.preprocessing.placed_image(labels, prepared, nearest=True)
        return np.isin(placed, self.lesions)


def _coarse(image: np.ndarray) -> np.ndarray:
    """A whole image `(c, i, j, k)` as one sample `(1, c, 8, 8, 8)`."""
    return np.stack([block_means(channel) for channel in image])[None]


def _lesion_warning(found: dict[str, Any]) -> str:
    parts = {
        "preserved_percent": "{:.0f} % of inserted spheres show in the prediction",
        "shown_percent": "{:.0f} % of the lesions that targets show are shown",
        "elsewhere_percent": "{:.0f} % of insertions change the prediction elsewhere",
        "invented_percent": "{:.0f} % of lesions taken out of the source are still predicted",
    }
    said = [words.format(found[name]) for name, words in parts.items() if found[name] is not None]
    return f"lesion test: {', '.join(said)}; structures may be lost or invented"
