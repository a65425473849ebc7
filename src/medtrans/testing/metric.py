"""The contract of metrics, rule by rule."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np

from medtrans.errors import MedtransError
from medtrans.plugins.interfaces import Metric
from medtrans.testing.rules import Broken, NotTried, Rule, Verdict, leaving_states
from medtrans.testing.trial import SHARED_RULES, ComponentLike, Trial, check

__all__ = ["METRIC_RULES", "MetricTrial", "check_metric"]

Known: TypeAlias = tuple[np.ndarray, np.ndarray, float]

_SPACING = (1.0, 0.5, 2.0)
_SHAPE = (24, 16, 20)
_NATIVE = 4024.0  # the width of a window in HU


@dataclass(frozen=True)
class MetricTrial(Trial):
    """A metric under trial, with what `check_metric` sets."""

    kind: ClassVar[str] = "metric"

    identical: float | Literal["unknown"] = "unknown"
    known: Sequence[Known] = ()

    def metric(self, data_range: float = 1.0) -> Metric:
        """The metric for intensities of this range."""
        made: Metric = self.make(data_range=data_range)
        return made

    def score(
        self, prediction: np.ndarray, target: np.ndarray, mask: np.ndarray | None = None, data_range: float = 1.0
    ) -> float:
        """One score, as the evaluation takes it."""
        return float(self.metric(data_range)(prediction, target, mask, _SPACING))


def pair(shape: tuple[int, int, int] = _SHAPE, noise: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """A target in [0, 1] and a prediction with some noise."""
    rng = np.random.default_rng(0)
    target = rng.random(shape, np.float32)
    noisy = target + noise * rng.standard_normal(shape, np.float32)
    return np.clip(noisy, 0, 1).astype(np.float32), target


def says_what_it_is(trial: MetricTrial) -> None:
    """Unit, direction and formula."""
    metric = trial.metric()
    if not isinstance(getattr(metric, "unit", None), str):
        raise Broken('unit: expected text such as "dB", "" for none, "native" for the unit of the target')
    if not isinstance(getattr(metric, "higher_is_better", None), bool):
        raise Broken("higher_is_better: expected True or False")
    definition = getattr(metric, "definition", None)
    if not isinstance(definition, str) or not definition.strip() or "\n" in definition:
        raise Broken("definition: expected the formula in one line, which is stored beside every score")


def gives_a_number(trial: MetricTrial) -> None:
    """A plain number for volumes of either float type."""
    prediction, target = pair()
    value = trial.metric()(prediction, target, None, _SPACING)
    if isinstance(value, np.ndarray) or not isinstance(value, float | int):
        raise Broken(f"it gives {type(value).__name__}, expected a float")
    if not math.isfinite(value):
        raise Broken(f"it gives {value} for a noisy prediction")
    doubled = trial.score(prediction.astype(np.float64), target.astype(np.float64))
    if not math.isclose(value, doubled, rel_tol=1e-3):
        raise Broken(f"it gives {value:.6g} in float32 and {doubled:.6g} in float64; compute in float64")


def knows_identical_volumes(trial: MetricTrial) -> None:
    """The score that nothing can beat."""
    if trial.identical == "unknown":
        raise NotTried("its author gave no `identical`")
    _, target = pair()
    value, wanted = trial.score(target.copy(), target), float(trial.identical)
    if not (value == wanted or math.isclose(value, wanted, abs_tol=1e-6)):
        raise Broken(f"identical volumes score {value}, expected {wanted}")


def gives_known_scores(trial: MetricTrial) -> None:
    """Volumes whose score its author worked out."""
    if not trial.known:
        raise NotTried("its author gave no `known` scores")
    for number, (prediction, target, wanted) in enumerate(trial.known):
        value = trial.score(prediction, target)
        if not (value == wanted or math.isclose(value, wanted, rel_tol=1e-4, abs_tol=1e-6)):
            raise Broken(f"known[{number}] scores {value:.6g}, expected {wanted:.6g}")


def prefers_the_better_prediction(trial: MetricTrial) -> None:
    """The direction it states is the direction it has."""
    scores = [trial.score(*pair(noise=noise)) for noise in (0.01, 0.1, 0.4)]
    better = sorted(scores, reverse=trial.metric().higher_is_better)
    if scores != better:
        listed = ", ".join(f"{score:.4g}" for score in scores)
        direction = "higher" if trial.metric().higher_is_better else "lower"
        raise Broken(f"predictions with more and more noise score {listed}, although {direction} is said to be better")


def looks_inside_the_mask_only(trial: MetricTrial) -> None:
    """What is far outside does not count, what is inside does."""
    prediction, target = pair((48, 16, 16))
    mask = np.zeros(target.shape, bool)
    mask[:16] = True
    far, near = prediction.copy(), prediction.copy()
    far[36:] = 1 - far[36:]
    near[4:8] = 1 - near[4:8]
    score = trial.score(prediction, target, mask)
    if trial.score(far, target, mask) != score:
        raise Broken("voxels far outside the mask change its score")
    if trial.score(near, target, mask) == score:
        raise Broken("voxels inside the mask do not change its score")


def scores_no_empty_mask(trial: MetricTrial) -> None:
    """Nothing to score is no score."""
    prediction, target = pair()
    try:
        value = trial.score(prediction, target, np.zeros(target.shape, bool))
    except MedtransError:
        return
    if not math.isnan(value):
        raise Broken(f"an empty mask scores {value}; raise medtrans.DataError, or give NaN")


def means_the_same_in_native_units(trial: MetricTrial) -> None:
    """Intensities and data range stretched alike; a score in native units is stretched with them."""
    metric = trial.metric()
    if metric.unit not in ("", "dB", "native"):
        raise NotTried(f"a score in {metric.unit} may depend on the unit of the intensities")
    prediction, target = pair()
    scaled = trial.score(prediction, target)
    native = trial.score(prediction * _NATIVE, target * _NATIVE, None, _NATIVE)
    wanted = scaled * _NATIVE if metric.unit == "native" else scaled
    if not math.isclose(native, wanted, rel_tol=1e-3, abs_tol=1e-6):
        raise Broken(
            f"in [0, 1] it is {scaled:.6g}, in native units {native:.6g} instead of {wanted:.6g}; take the "
            '`data_range` that medtrans tells, or state `unit = "native"`'
        )


def stands_constant_volumes(trial: MetricTrial) -> None:
    """A number, or NaN, or a message; never a crash."""
    flat = np.zeros(_SHAPE, np.float32)
    for prediction, target in ((flat, flat), (flat + 1, flat), (flat, pair()[1]), (pair()[0], flat)):
        try:
            trial.score(prediction, target)
        except MedtransError:
            continue
        except (ArithmeticError, ValueError) as error:
            raise Broken(f"a constant volume makes it raise {type(error).__name__}: {error}") from error


def leaves_all_as_it_was(trial: MetricTrial) -> None:
    """Volumes, random states, and its own later answers."""
    prediction, target = pair()
    kept, metric = (prediction.copy(), target.copy()), trial.metric()
    with leaving_states():
        scores = [metric(prediction, target, None, _SPACING) for _ in range(2)]
    if scores[0] != scores[1]:
        raise Broken("the same volumes score differently the second time")
    if not (np.array_equal(prediction, kept[0]) and np.array_equal(target, kept[1])):
        raise Broken("it changes the volumes it is given, which other metrics still read")


METRIC_RULES: tuple[Rule[MetricTrial], ...] = (
    *SHARED_RULES,
    Rule("says what it is", says_what_it_is),
    Rule("gives a number", gives_a_number),
    Rule("knows identical volumes", knows_identical_volumes),
    Rule("gives known scores", gives_known_scores),
    Rule("prefers the better prediction", prefers_the_better_prediction),
    Rule("looks inside the mask only", looks_inside_the_mask_only),
    Rule("scores no empty mask", scores_no_empty_mask),
    Rule("means the same in native units", means_the_same_in_native_units),
    Rule("stands constant volumes", stands_constant_volumes),
    Rule("leaves all as it was", leaves_all_as_it_was),
)


def check_metric(
    component: ComponentLike,
    *,
    options: Mapping[str, Any] | None = None,
    identical: float | Literal["unknown"] | None = None,
    known: Sequence[Known] | None = None,
    excused: Mapping[str, str] | None = None,
) -> tuple[Verdict, ...]:
    """Try a metric against its contract, with a verdict on each rule; its own `trial` gives settings left out.

    Args:
        component: a `Component`, the class itself, or a name as a config writes it.
        options: as a config gives them.
        identical: the score of two identical volumes, such as `math.inf`.
        known: prediction and target `(i, j, k)` in [0, 1], and the score they must have at `data_range` 1.
        excused: rules that need not hold, each with the reason.

    Raises:
        ConformanceError: lists every rule that is broken, with what to do.
        ConfigError: there is no such component, setting or rule.
    """
    given = {"options": options, "identical": identical, "known": known, "excused": excused}
    return check(MetricTrial, METRIC_RULES, component, given)
