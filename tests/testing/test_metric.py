"""The kit finds each rule that a metric breaks, and nothing else."""

from __future__ import annotations

import numpy as np

from medtrans import DataError, Metric
from medtrans.testing.metric import METRIC_RULES
from medtrans.testing.trial import SHARED_RULES
from tests.testing.broken import Breaks, after, altered, contract

KNOWN = (np.zeros((4, 4, 4), np.float32), np.full((4, 4, 4), 0.25, np.float32), 0.25)


class Sound(Metric):
    """The mean absolute error over the range."""

    unit = ""
    higher_is_better = False
    definition = "mean(|prediction - target|) / R"

    def __init__(self, data_range: float) -> None:
        self.data_range = data_range

    def __call__(self, prediction, target, mask, spacing_mm):
        inside = np.ones(target.shape, bool) if mask is None else mask
        if not inside.any():
            raise DataError("the mask is empty")
        difference = np.abs(prediction[inside].astype(np.float64) - target[inside])
        return float(difference.mean() / self.data_range)


class Offset(Sound):  # is not 0 for what is identical
    def __call__(self, prediction, target, mask, spacing_mm):
        return super().__call__(prediction, target, mask, spacing_mm) + (
            0.1 if np.array_equal(prediction, target) else 0
        )


class Maskless(Sound):  # looks at the whole volume always
    def __call__(self, prediction, target, mask, spacing_mm):
        if mask is not None and not mask.any():
            raise DataError("the mask is empty")
        return super().__call__(prediction, target, None, spacing_mm)


class ScoresNothing(Sound):  # gives the best score for an empty mask
    def __call__(self, prediction, target, mask, spacing_mm):
        if mask is not None and not mask.any():
            return 0.0
        return super().__call__(prediction, target, mask, spacing_mm)


class DividesByContrast(Sound):  # refuses volumes without contrast by a crash
    def __call__(self, prediction, target, mask, spacing_mm):
        if float(np.ptp(target)) == 0:
            raise ZeroDivisionError("float division by zero")
        return super().__call__(prediction, target, mask, spacing_mm)


class InPlace(Sound):  # changes the prediction it is given
    def __call__(self, prediction, target, mask, spacing_mm):
        value = super().__call__(prediction, target, mask, spacing_mm)
        prediction += 0.0
        prediction[0, 0, 0] = target[0, 0, 0]
        return value


BREAKING = [
    Breaks("says what it is", altered(Sound, definition=""), "definition: expected the formula"),
    Breaks("gives a number", after(Sound, __call__=np.asarray), "ndarray, expected a float"),
    Breaks("knows identical volumes", Offset, "identical volumes score 0.1, expected 0", {"identical": 0.0}),
    Breaks("gives known scores", after(Sound, __call__=lambda score: score / 2), "known[0] scores", {"known": [KNOWN]}),
    Breaks("prefers the better prediction", altered(Sound, higher_is_better=True), "although higher is said to be"),
    Breaks("looks inside the mask only", Maskless, "outside the mask change its score"),
    Breaks("scores no empty mask", ScoresNothing, "an empty mask scores 0.0"),
    Breaks(
        "means the same in native units",
        altered(Sound, __init__=lambda self, data_range: Sound.__init__(self, 1.0)),
        "take the `data_range`",
    ),
    Breaks("stands constant volumes", DividesByContrast, "ZeroDivisionError"),
    Breaks("leaves all as it was", InPlace, "the second time"),
]


test_what_is_sound_breaks_no_rule, test_the_broken_rule_is_named_and_no_other, test_every_rule_is_broken = contract(
    "metric", [(Sound, {"identical": 0.0, "known": [KNOWN]})], BREAKING, METRIC_RULES, but=SHARED_RULES
)
