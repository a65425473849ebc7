"""Scores of a case and of a cohort: units, columns, tables, intervals and comparisons."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from medtrans.builtin.metrics.ssim import SSIM
from medtrans.builtin.metrics.voxelwise import MAE, MSE, PSNR
from medtrans.builtin.transforms import Percentile, Window
from medtrans.errors import DataError, SetupError
from medtrans.evaluation.scores import CaseScores, Column, read_metrics_csv, target_sha, write_metrics_csv
from medtrans.evaluation.scoring import columns_of, data_range_of, score, scored_in, scoring_space, unit_of
from medtrans.evaluation.statistics import compare, describe, mean_interval, summary_of, worst_median_best
from medtrans.plugins.interfaces import DetailedMetric, Preprocess, Surroundings
from medtrans.volume import Volume

PSNR_COLUMN = Column("dB", True, "peak signal to noise")
MAE_COLUMN = Column("HU", False, "mean absolute error")


SCALINGS: dict[str, Preprocess] = {"ct": Window(range=(-1000, 2000)), "t2": Percentile()}
NUMBERS = {"ct": {"low": -1000.0, "high": 2000.0}, "t2": {"low": 3.0, "high": 711.0}}


def row(number: int, subject: str | None = None, sha: str = "a", **values: float) -> CaseScores:
    return CaseScores(f"case_{number:04d}", f"name {number}", subject or f"subject {number}", values, sha)


# In which units


def test_a_fixed_scaling_is_scored_in_its_unit_and_a_fitted_one_from_0_to_1_and_both_are_clipped() -> None:
    assert (data_range_of(SCALINGS, "ct"), unit_of(SCALINGS, "ct")) == ((-1000, 3000), "HU")
    assert (data_range_of(SCALINGS, "t2"), unit_of(SCALINGS, "t2")) == ((0, 1), "")
    scaled = np.broadcast_to(np.array([-1, 0.5, 2], dtype=np.float32)[:, None, None], (2, 3, 4, 4))
    scored = scoring_space(scaled, ["ct", "t2"], SCALINGS, NUMBERS)
    assert scored.dtype == np.float32
    np.testing.assert_allclose(scored[:, :, 0, 0], [[-1000, 500, 2000], [0, 0.5, 1]])


def test_the_protocol_of_the_paper_scores_from_0_to_1_and_stretches_fitted_images() -> None:
    assert data_range_of(SCALINGS, "ct", protocol="mdaunet") == (0, 1)
    assert unit_of(SCALINGS, "ct", protocol="mdaunet") == ""
    scaled = np.linspace(0.2, 0.7, 8, dtype=np.float32).reshape(1, 2, 2, 2)
    np.testing.assert_allclose(scoring_space(scaled, ["ct"], SCALINGS, NUMBERS, protocol="mdaunet"), scaled)
    t2 = scoring_space(scaled, ["t2"], SCALINGS, NUMBERS, protocol="mdaunet")
    np.testing.assert_allclose(t2.ravel(), np.linspace(0, 1, 8), atol=1e-6)
    assert not scoring_space(np.full_like(scaled, 0.3), ["t2"], SCALINGS, NUMBERS, protocol="mdaunet").any()


def test_the_range_and_what_scores_refer_to_follow_the_protocol() -> None:
    assert data_range_of(SCALINGS, "ct", protocol="synthrad2025") == (-1024, 4095)
    assert scored_in(SCALINGS, "ct", "window") == "[-1000, 2000] HU, clipped"
    assert scored_in(SCALINGS, "t2", "percentile(upper=99)") == "[0, 1] after percentile(upper=99)"
    assert scored_in(SCALINGS, "ct", "window", protocol="synthrad2025").startswith("[-1024, 3071] HU")


# The scores of a case


def test_one_target_gives_a_column_a_metric_and_several_name_the_target() -> None:
    volumes = np.zeros((2, 8, 8, 8), dtype=np.float32)
    off = volumes + np.array([30.0, 0.1], dtype=np.float32).reshape(2, 1, 1, 1)
    one = score(off[:1], volumes[:1], None, (1, 1, 1), {"ct": {"psnr": PSNR(3000.0), "mae": MAE()}})
    assert one == pytest.approx({"psnr": 40.0, "mae": 30.0})
    metrics = {"ct": {"psnr": PSNR(3000.0), "mae": MAE()}, "t2": {"psnr": PSNR(1.0), "mse": MSE()}}
    two = score(off, volumes, None, (1, 1, 1), metrics)
    assert two == pytest.approx({"psnr_ct": 40.0, "mae_ct": 30.0, "psnr_t2": 20.0, "mse_t2": 0.01})
    columns = columns_of(metrics, {"ct": "HU", "t2": ""})
    assert list(columns) == list(two)
    assert [column.unit for column in columns.values()] == ["dB", "HU", "dB", ""]
    assert columns_of({"ct": {"mse": MSE()}}, {"ct": "HU"})["mse"].unit == "HU^2"
    assert columns["mae_ct"].definition == MAE.definition
    assert not columns["mae_ct"].higher_is_better


@pytest.mark.parametrize("channels", [(), (1,)], ids=["without channel", "with channel"])
def test_only_the_mask_counts(channels: tuple[int, ...]) -> None:
    prediction = np.ones((1, 8, 8, 8), dtype=np.float32)
    prediction[0, :4] = 0.25
    mask = np.zeros((*channels, 8, 8, 8), dtype=np.uint8)
    mask[..., :4, :, :] = 1
    found = score(prediction, np.zeros_like(prediction), mask, (1, 1, 1), {"t2": {"mae": MAE()}})
    assert found["mae"] == pytest.approx(0.25)


def test_what_cannot_be_scored_is_said() -> None:
    target = np.zeros((1, 8, 8, 4), dtype=np.float32)
    broken = target.copy()
    broken[0, 0, 0, :2] = math.nan, math.inf
    with pytest.raises(DataError, match="2 of 256 voxels are NaN or infinite"):
        score(broken, target, None, (1, 1, 1), {"t2": {"mae": MAE()}})
    with pytest.raises(DataError, match=r"^metrics\.ssim: SSIM needs at least 7 voxels"):
        score(target, target, None, (1, 1, 1), {"t2": {"ssim": SSIM(1.0)}})


def test_a_target_is_known_by_its_voxels_and_where_they_lie() -> None:
    data = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    moved, changed = np.eye(4), data.copy()
    moved[0, 3], changed[1, 2, 3] = 1, 0
    alike = {target_sha(Volume(one, np.eye(4))) for one in (data, np.asfortranarray(data), data.astype(np.int16))}
    assert len(alike) == 1
    others = {
        target_sha(Volume(data, moved)),
        target_sha(Volume(changed, np.eye(4))),
        target_sha(Volume(data.reshape(4, 3, 2), np.eye(4))),
        target_sha(Volume(data, np.eye(4)), Volume(data, np.eye(4))),
    }
    assert len(alike | others) == 5


# The table


def test_a_table_of_scores_comes_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    rows = [row(1, psnr=0.1 + 0.2, mae=3.0), row(2, subject='Ö, "x"', psnr=math.inf, mae=math.nan)]
    write_metrics_csv(path, rows)
    header, _, second = path.read_text(encoding="utf-8").splitlines()
    assert header == "case,label,subject,psnr,mae,target_sha"
    assert second == 'name 2,case_0002,"Ö, ""x""",inf,nan,a'
    first, last = read_metrics_csv(path)
    assert first == rows[0]
    assert last.values["psnr"] == math.inf
    assert math.isnan(last.values["mae"])
    assert last.subject == rows[1].subject


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("case,psnr\na,1\n", "column label, subject, target_sha is missing"),
        ("case,label,subject,psnr,target_sha\na,b,c,good,d\n", "row 2: .*good"),
        ("case,label,subject,psnr,target_sha\na,b,c\n", "row 2"),
    ],
)
def test_a_file_that_is_no_table_of_scores_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "metrics.csv").write_text(text)
    with pytest.raises(DataError, match=r"metrics\.csv.*" + message):
        read_metrics_csv(tmp_path / "metrics.csv")


# The scores of a cohort


def test_a_description_holds_mean_spread_and_interval() -> None:
    values = [1.0, 2.0, 4.0, 5.0]
    described = describe(values, list("abcd"))
    assert {key: described[key] for key in ("mean", "median", "n")} == {"mean": 3.0, "median": 3.0, "n": 4}
    assert described["quartiles"] == pytest.approx([1.75, 4.25])
    assert described["sd"] == pytest.approx(np.std(values, ddof=1))
    low, high = described["ci95"]
    assert (low, high) == pytest.approx(stats.ttest_1samp(values, 0).confidence_interval(0.95))
    assert describe(values, list("abcd")) == described


def test_scores_that_are_not_finite_keep_json_valid() -> None:
    perfect = describe([30.0, math.inf, 20.0], list("abc"))
    assert perfect == {"mean": None, "sd": None, "median": 30.0, "quartiles": None, "ci95": None, "n": 3}
    undefined = describe([1.0, math.nan, 3.0], list("abc"))
    assert undefined["mean"] == 2
    assert undefined["n"] == 2
    nothing = describe([math.nan], ["a"])
    assert nothing == {"mean": None, "sd": None, "median": None, "quartiles": None, "ci95": None, "n": 0}
    json.dumps([perfect, undefined, nothing], allow_nan=False)


def test_an_interval_needs_four_subjects_and_is_a_point_where_nothing_varies() -> None:
    assert mean_interval(np.array([1.0, 2.0, 3.0]), ["a", "b", "c"]) is None
    assert mean_interval(np.array([1.0, 2.0, 3.0, 4.0]), ["a", "a", "b", "c"]) is None
    assert mean_interval(np.array([2.0, 2.0, 2.0, 2.0]), ["a", "b", "c", "d"]) == [2.0, 2.0]


def test_visits_of_one_subject_do_not_narrow_the_interval() -> None:
    values, names = np.random.default_rng(0).normal(30, 2, 12), [str(number) for number in range(12)]
    visits = mean_interval(np.repeat(values, 5), [name for name in names for _ in range(5)])
    assert visits == pytest.approx(mean_interval(values, names))


def test_a_comparison_is_paired_and_positive_where_the_first_is_better() -> None:
    hard = [0.0, 5.0, 10.0, 15.0]
    mine = [row(number, psnr=20 + easy + 0.1 * number, mae=9.0) for number, easy in enumerate(hard)]
    theirs = [row(number, psnr=19 + easy, mae=10.0) for number, easy in enumerate(hard)][::-1]
    gain = compare(mine, theirs, "psnr", PSNR_COLUMN)
    assert gain["mean"] == pytest.approx(1.15)
    # Cases differ by 15 dB and the gain by 0.3 dB: only pairing sees it.
    assert 0.9 <= gain["ci95"][0] <= gain["ci95"][1] <= 1.4
    assert (gain["better"], gain["n"], gain["unit"]) == (4, 4, "dB")
    assert compare(mine, theirs, "mae", MAE_COLUMN)["mean"] == 1
    assert compare(theirs, mine, "mae", MAE_COLUMN)["better"] == 0
    perfect = [row(number, psnr=math.inf) for number in range(4)]
    assert compare(perfect, perfect, "psnr", PSNR_COLUMN)["ci95"] == [0, 0]


def test_only_the_same_cases_against_the_same_targets_are_compared() -> None:
    rows = [row(1, psnr=1.0), row(2, psnr=1.0)]
    with pytest.raises(DataError, match="case_0002"):
        compare(rows, rows[:1], "psnr", PSNR_COLUMN)
    with pytest.raises(DataError, match="1 cases here, 2 there"):
        compare(rows[:1], rows, "psnr", PSNR_COLUMN)
    with pytest.raises(DataError, match=r"1 cases .* different targets .*case_0002"):
        compare(rows, [rows[0], row(2, sha="b", psnr=1.0)], "psnr", PSNR_COLUMN)


def test_the_whole_summary_compares_with_the_best_baseline_of_each_column() -> None:
    def scored(psnr: float, mae: float) -> list[CaseScores]:
        return [row(number, psnr=psnr + 0.1 * number, mae=mae) for number in range(4)]

    baselines = {"source_linear": scored(20.0, 80.0), "source_lut": scored(22.0, 90.0)}
    columns = {"psnr": PSNR_COLUMN, "mae": MAE_COLUMN}
    summary = summary_of(scored(25.0, 85.0), baselines, columns, warnings=["careful"])
    json.dumps(summary, allow_nan=False)
    assert set(summary) == {
        "cases",
        "protocol",
        "scored_in",
        "metrics",
        "baselines",
        "comparison",
        "warnings",
        "verdicts",
    }
    assert summary["warnings"][0] == "careful"
    assert summary["baselines"]["source_lut"]["psnr"]["mean"] == pytest.approx(22.15)
    gains = {name: (one["baseline"], one["mean"]) for name, one in summary["comparison"].items()}
    assert gains == {"psnr": ("source_lut", pytest.approx(3)), "mae": ("source_linear", pytest.approx(-5))}
    assert summary_of(scored(25.0, 85.0), {}, columns)["comparison"] == {}


def test_the_cases_to_look_at_follow_the_direction_of_the_column() -> None:
    rows = [row(number, psnr=value, mae=value) for number, value in enumerate((5.0, 1.0, 3.0, math.nan), start=1)]
    labels = {place: case.label for place, case in worst_median_best(rows, "psnr", PSNR_COLUMN).items()}
    assert labels == {"worst": "case_0002", "median": "case_0003", "best": "case_0001"}
    assert worst_median_best(rows, "mae", MAE_COLUMN)["worst"].label == "case_0001"
    assert list(worst_median_best(rows[:2], "psnr", PSNR_COLUMN)) == ["worst", "best"]
    assert worst_median_best([], "psnr", PSNR_COLUMN) == {}


def test_intervals_of_few_subjects_come_with_a_warning() -> None:
    def warnings(subjects: int) -> list[str]:
        rows = [row(number, f"subject {number % subjects}", psnr=30.0 + number % 7) for number in range(24)]
        return summary_of(rows, {}, {"psnr": PSNR_COLUMN})["warnings"]  # type: ignore[no-any-return]  # plain JSON

    assert warnings(20) == []
    (warning,) = warnings(19)
    assert warning.startswith("psnr: scores of 19 subjects")


def test_the_protocol_of_the_paper_gives_the_spread_of_the_population() -> None:
    rows = [row(number, psnr=value) for number, value in enumerate((1.0, 2.0, 4.0, 5.0))]
    spread = {
        protocol: summary_of(rows, {}, {"psnr": PSNR_COLUMN}, protocol=protocol)["metrics"]["psnr"]["sd"]
        for protocol in ("native", "mdaunet")
    }
    assert spread == pytest.approx({"native": np.std([1, 2, 4, 5], ddof=1), "mdaunet": np.std([1, 2, 4, 5])})


# Metrics with several columns


class Halves(DetailedMetric):
    """Mean absolute error of either half of a volume, and a further image's mean."""

    unit = "native"
    higher_is_better = False
    definition = "mean |error|"
    parts: Mapping[str, str] = {"lower": "mean |error| where i is low", "upper": "mean |error| where i is high"}
    label_maps = ("labels",)

    def scores(
        self, prediction: np.ndarray, target: np.ndarray, mask: Any, spacing_mm: Any, surroundings: Surroundings
    ) -> dict[str, float]:
        error = np.abs(prediction - target)
        whole = float(error.mean() + surroundings.images.get("labels", np.zeros(1)).mean())
        return {"": whole, "lower": float(error[:4].mean()), "upper": float(error[4:].mean())}


def test_parts_of_a_metric_are_columns_of_their_own_between_key_and_target() -> None:
    target = np.zeros((2, 8, 8, 8), dtype=np.float32)
    prediction = target.copy()
    prediction[0, :4] = 2
    one = score(prediction[:1], target[:1], None, (1, 1, 1), {"ct": {"halves": Halves()}})
    assert one == {"halves": 1.0, "halves_lower": 2.0, "halves_upper": 0.0}
    assert Halves()(prediction[0], target[0], None, (1, 1, 1)) == 1.0
    metrics = {"ct": {"halves": Halves()}, "t2": {"halves": Halves()}}
    two = score(prediction, target, None, (1, 1, 1), metrics, images={"labels": np.full((8, 8, 8), 3)})
    assert two["halves_ct"] == 4.0
    assert two["halves_lower_ct"] == 2.0
    assert two["halves_t2"] == 3.0
    columns = columns_of(metrics, {"ct": "HU", "t2": ""})
    assert list(columns) == list(two)
    assert (columns["halves_upper_ct"].unit, columns["halves_upper_t2"].unit) == ("HU", "")
    assert columns["halves_upper_ct"].definition == "mean |error| where i is high"


def test_a_metric_that_gives_other_parts_than_it_announces_is_refused() -> None:
    class Wrong(Halves):
        parts: Mapping[str, str] = {"lower": "", "middle": ""}

    volume = np.zeros((1, 8, 8, 8), dtype=np.float32)
    with pytest.raises(SetupError, match=r"metrics\.wrong: gave the parts .*'upper'.*expected .*'middle'"):
        score(volume, volume, None, (1, 1, 1), {"t2": {"wrong": Wrong()}})
