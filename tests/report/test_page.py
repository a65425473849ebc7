"""The report holds what a reader needs, in plain words, offline, and gives no name away."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from io import StringIO
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from medtrans.cli.tables import summary_table
from medtrans.evaluation.agreement import Agreement, agreement_facts
from medtrans.evaluation.pictures import png_bytes
from medtrans.evaluation.scores import CaseScores, Column
from medtrans.evaluation.statistics import summary_of
from medtrans.report.charts import agreement_chart, histogram_chart, line_chart, strip_chart
from medtrans.report.page import headlines, render
from medtrans.utils import messages

COLUMNS = {
    "psnr": Column("dB", True, "10 log10(R^2 / MSE)"),
    "mae": Column("HU", False, "mean(|prediction - target|)"),
}
PICTURE = png_bytes(np.full((4, 4, 3), 7, dtype=np.uint8))


def row(number: int, psnr: float, mae: float) -> CaseScores:
    return CaseScores(
        f"case_{number:04d}", f"Jane Doe {number}", f"patient {number}", {"psnr": psnr, "mae": mae}, "sha"
    )


def rows(psnr: float, mae: float, cases: int = 6, spread: float = 0.1) -> list[CaseScores]:
    return [row(number, psnr + spread * number, mae - spread * number**2) for number in range(1, cases + 1)]


def summary(psnr: float = 28.0, mae: float = 60.0, cases: int = 6, **options: Any) -> dict[str, Any]:
    baselines = {"source_linear": rows(21.0, 95.0, cases), "source_lut": rows(25.0, 80.0, cases, 0.2)}
    return summary_of(rows(psnr, mae, cases), baselines, COLUMNS, **options)


def page(**changes: Any) -> str:
    contents: dict[str, Any] = {
        "title": "t1_to_ct",
        "command": "medtrans run config.yaml",
        "config_text": "seed: 0\nsource: [t1]\n",
        "environment": {"medtrans": "0.1.0", "plugins": {"swin": "1.2"}, "devices": ["A100", "A100"]},
        "summary": changes.get("summary") or summary(),
        "rows": [{"label": one.label, "case": one.case, "subject": one.subject, **one.values} for one in rows(28, 60)],
        "pictures": [("worst: case_0001", "psnr 28.10 dB", PICTURE)],
        "curves": {"loss/l1": [(step, 1 / (step + 1)) for step in range(1000)]},
    }
    return render(**contents | changes)


class Reader(HTMLParser):
    """Collects tags, attributes and visible text, and checks that tags close in order."""

    VOID = frozenset({"meta", "img", "br"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self._open or self._open[-1] != "style":
            self.text += data


def test_the_page_holds_everything() -> None:
    text = Reader(page()).text
    for expected in (
        "t1_to_ct", "Research use only, not for diagnosis", "scored on 6 test cases", "psnr [dB] ↑", "mae [HU] ↓",
        "28.35 ± 0.19", "10 log10(R^2 / MSE)", "source_lut", "trivial baseline: a linear fit of the source",
        "worst: case_0001", "psnr 28.10 dB", "case_0006", "loss/l1", "medtrans run config.yaml", "source: [t1]",
        "plugins.swin1.2", "devicesA100, A100",
    ):  # fmt: skip
        assert expected in text, expected


def test_nothing_is_fetched_nothing_runs_and_no_name_is_given_away() -> None:
    html = page()
    for absent in ("://", "url(", "@import", "Jane", "patient 1"):
        assert absent not in html
    tags = Reader(html).tags
    assert not {tag for tag, _ in tags} & {"script", "link", "iframe", "object", "embed", "form", "base"}
    for _, attributes in tags:
        assert not any(name.startswith("on") for name in attributes)
        assert (attributes.get("href") or "#").startswith("#")
        assert (attributes.get("src") or "data:").startswith("data:")
    assert [one["content"] for _, one in tags if "http-equiv" in one] == [
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    ]
    (picture,) = [found for tag, found in tags if tag == "img"]
    assert picture["src"] == "data:image/png;base64," + base64.b64encode(PICTURE).decode()
    assert picture["alt"]


def test_texts_are_escaped() -> None:
    evil = "<script>alert('x')</script>\"&"
    described = summary(warnings=[evil])
    described["metrics"]["psnr"]["definition"] = evil
    html = page(
        title=evil, command=evil, config_text=evil, environment={evil: evil}, summary=described,
        rows=[{"label": evil, "psnr": 1.0, "mae": 2.0}], pictures=[(evil, evil, b"")], curves={evil: [(0, 1.0)]},
        warnings=[evil + "2"],
    )  # fmt: skip
    reader = Reader(html)
    assert "script" not in {tag for tag, _ in reader.tags}
    assert reader.text.count(evil) >= 14


def test_warnings_of_summary_and_run_are_shown_once_and_only_if_there_are_any() -> None:
    assert "Warnings" not in page(summary=summary(cases=20))
    text = Reader(page(summary=summary(warnings=["lone", "twin"]), warnings=["twin", "tardy"])).text
    assert [text.count(word) for word in ("Warnings", "lone", "twin", "tardy")] == [1, 1, 1, 1]


def test_an_empty_run_and_scores_that_are_not_finite_still_give_a_page() -> None:
    text = Reader(page(summary=summary_of([], {}, COLUMNS), rows=[], pictures=[], curves={}, environment={})).text
    assert "scored on 0 test cases" in text
    assert not any(heading in text for heading in ("Pictures", "Every case", "Training"))
    perfect = [row(1, math.inf, 0.0), row(2, 31.0, math.nan)]
    shown = [{"label": one.label, **one.values} for one in perfect]
    text = Reader(page(summary=summary_of(perfect, {}, COLUMNS), rows=shown)).text
    for expected in ("case_0001∞0.0000", "case_000231.00–", "defined for 1 of 2 cases"):
        assert expected in text


def test_the_best_of_each_column_is_marked() -> None:
    html = page(summary=summary(psnr=28.0, mae=90.0))
    (model, linear, lut) = re.findall(r"<tr[^>]*><th[^>]*>(?:the model|source_\w+)</th>.*?</tr>", html, flags=re.DOTALL)
    assert [cells.count('class="best"') for cells in (model, linear, lut)] == [1, 0, 1]


# The verdict

BEST = "the mean training target at each of 64 source intensities"


def without(described: dict[str, Any], *, column: str = "", comparison: bool = True) -> dict[str, Any]:
    """A summary that lacks a column, or the comparison by case."""
    for scores in (described["metrics"], described["comparison"], *described["baselines"].values()):
        scores.pop(column, None)
    return described if comparison else {key: value for key, value in described.items() if key != "comparison"}


@pytest.mark.parametrize(
    ("found", "tone", "said"),
    [
        (lambda: summary(psnr=28.0), "good", (BEST, "2.65 dB", "6 of 6 cases")),
        (lambda: summary(psnr=22.0), "bad", (BEST, "3.35 dB", "0 of 6 cases")),
        (lambda: summary(psnr=25.35), "open", ("cannot be told", "gain −0.1", "3 of 6 cases", "6 test subjects")),
        (lambda: summary(psnr=28.0, cases=1), "open", ("better", BEST, "2.90 dB", "1 test subject,", "cannot be told")),
        (lambda: summary(psnr=20.0, cases=2), "open", ("worse", BEST, "5.15 dB", "2 test subjects", "cannot be told")),
        (lambda: summary_of(rows(28, 60), {}, COLUMNS), "open", ("no trivial baseline",)),
        (lambda: without(summary(), comparison=False), "open", ("better", BEST, "2.65 dB", "6 test cases")),
        (lambda: without(summary(), column="psnr"), "good", ("in mae",)),
        (lambda: without(summary(), column="psnr", comparison=False), "open", ("better", "HU in mae")),
    ],
)
def test_the_verdict_says_whether_the_model_beats_the_best_baseline(
    found: Callable[[], dict[str, Any]], tone: str, said: tuple[str, ...]
) -> None:
    (verdict,) = headlines(found())
    assert verdict.tone == tone
    assert [part for part in said if part not in verdict.text] == []


def test_each_target_gets_a_verdict() -> None:
    columns = {f"{name}_{target}": COLUMNS["psnr"] for target in ("ct", "t2") for name in ("psnr", "ssim")}
    scored = [CaseScores("case_0001", "a", "a", dict.fromkeys(columns, 1.0), "sha")]
    texts = [verdict.text for verdict in headlines(summary_of(scored, {"source_lut": scored}, columns))]
    assert [re.findall(r"psnr_\w+", text) for text in texts] == [["psnr_ct"], ["psnr_t2"]]


def test_the_verdict_is_data_and_a_subject_counts_once() -> None:
    visits = [replace(one, subject="one of three" if one.label < "case_0004" else one.subject) for one in rows(19, 60)]
    (verdict,) = summary_of(visits, {"source_lut": rows(25, 80)}, COLUMNS)["verdicts"]
    assert verdict.pop("sentence").startswith("The model is worse than the best trivial baseline")
    low, high = verdict.pop("ci95")
    assert low < -6 + 1e-9 < high + 1e-6 or low == pytest.approx(high) == pytest.approx(-6)
    assert verdict.pop("gain") == pytest.approx(-6)
    assert verdict == {
        "metric": "psnr", "unit": "dB", "baseline": "source_lut", "outcome": "worse", "better_in": 0, "cases": 6,
        "subjects": 4,
    }  # fmt: skip


@pytest.mark.parametrize("value", [3.0, -1234.5])
def test_the_verdict_comes_first_and_the_tables_fit_80_columns(value: float) -> None:
    columns = {f"{name}_synthetic_ct": COLUMNS["mae"] for name in ("psnr", "mae", "ssim_of_the_brain")}
    scored = [
        CaseScores(f"case_{number:04d}", f"{number}", f"{number}", dict.fromkeys(columns, value + number), "sha")
        for number in range(6)
    ]
    baselines = dict.fromkeys(("source_linear", "source_lut", "training_mean"), scored)
    console = Console(width=80, record=True, file=StringIO())
    console.print(summary_table(summary_of(scored, baselines, columns)))
    text = console.export_text()
    assert text.startswith("It cannot be told")
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text


# Numbers and charts


def test_numbers_have_four_digits_a_true_minus_and_a_dash_for_nothing() -> None:
    values = [None, math.nan, -math.inf, 28.3, -0.12345, 0.00012, 1234567.0]
    assert list(map(messages.number, values)) == ["–", "–", "−∞", "28.30", "−0.1235", "1.20e−04", "1234567"]
    assert list(map(messages.signed, values)) == ["–", "–", "−∞", "+28.3", "−0.123", "+0.00012", "+1234567"]
    assert (messages.between((1.0, 2.0)), messages.between(None)) == ("1.000 to 2.000", "")
    assert messages.signed_between((-1.0, 2.0)) == "−1.00 to +2.00"
    assert list(map(messages.probability, (None, 0.0001, 0.5))) == ["–", "< 0.001", "0.500"]
    assert list(map(messages.sides, (None, (1024, 3), (0.48828, 2.0)))) == ["?", "1024×3", "0.488×2"]


def test_a_curve_rises_to_the_right_and_of_many_points_some_hundreds_are_drawn() -> None:
    drawn = line_chart("psnr", [(step, math.log(step + 1)) for step in range(0, 5001, 5)])
    line = max(re.findall(r'd="([^"]*)"', drawn.svg), key=len)
    x, y = np.array(re.findall(r"[ML] ([\d.]+) ([\d.]+)", line), dtype=float).T
    assert 10 < len(x) <= 300
    assert (np.diff(x) >= 0).all()
    assert (np.diff(y) <= 0).all()  # counted from the top
    assert drawn.last == "8.517"
    assert re.findall(r"<text[^>]*>([^<]*)<", drawn.svg)[:6] == ["0", "1000", "2000", "3000", "4000", "5000"]


@pytest.mark.parametrize("values", [[], [math.nan], [3.0], [0.0, 0.0], [1.0, math.inf, 2.0], [-1e300, 1e300], [1e-30]])
def test_odd_curves_are_drawn_as_far_as_they_go(values: list[float]) -> None:
    drawn = line_chart("x", list(enumerate(values)))
    assert ("no finite value" in drawn.svg) == (not any(map(math.isfinite, values)))
    assert "nan" not in drawn.svg


def test_a_strip_has_a_named_dot_for_every_case_where_its_value_is() -> None:
    cases = [(f"case_{n:04d}", float(value)) for n, value in enumerate([1, 2, 3, 3, 3, 4, 9])]
    drawn = strip_chart("mae [HU]", {"": [*cases, ("case_0099", math.inf)]}, marks={"lut": 5.0, "none": None})
    dots = re.findall(r'<use [^>]*x="([\d.]+)" y="([\d.]+)"[^>]*><title>(\w+): ([\d.]+)</title>', drawn.svg)
    assert [(label, float(value)) for _, _, label, value in dots] == cases
    assert len({(x, y) for x, y, _, _ in dots}) == len(cases)
    assert np.corrcoef([float(x) for x, _, _, _ in dots], [value for _, value in cases])[0, 1] == pytest.approx(1)
    assert drawn.notes == ("1 lut", "1 case without a finite value.")


@pytest.mark.parametrize("cases", [1, 2, 12])
def test_bland_and_altman_s_plot_gives_bias_and_limits_where_there_are_any(cases: int) -> None:
    means = {f"case_{n:04d}": (10.0 + n + 2 * (-1) ** n + 3, 10.0 + n) for n in range(cases)}
    drawn = agreement_chart("ct [HU]", means)
    assert drawn.svg.count("<title>case_") == cases
    errors = np.array([made - true for made, true in means.values()])
    limits = [] if cases == 1 else errors.mean() + np.array([-1.96, 1.96]) * errors.std(ddof=1)
    values = [float(one.replace("−", "-")) for one in re.findall(r"−?[\d.]+\d", drawn.notes[0])]
    assert values == pytest.approx([errors.mean(), *limits], abs=0.01)


@pytest.mark.parametrize("counts", [[7], [1, 0, 0, 5], [1, *[0] * 300, 10**6, 10**6, *[0] * 50, 1]])
def test_a_histogram_shows_where_the_voxels_are_and_leaves_the_rarest_out(counts: list[int]) -> None:
    drawn = histogram_chart("ct [HU]", -100.0, 2.0, counts)
    bars = re.findall(r'<path d="[^"]*z[^"]*" [^>]*style="fill: var\(--accent\)', drawn.svg)
    assert 1 <= len(bars) <= 4
    assert "half of the voxels lie below" in drawn.svg


def test_errors_are_counted_where_the_mask_says_and_of_nothing_there_is_nothing() -> None:
    target = np.zeros((4, 4, 4), dtype=np.float32)
    mask = np.zeros(target.shape, dtype=bool)
    nothing = Agreement.of(target, target, mask, 10.0)
    mask[0] = True
    some = Agreement.of(np.where(mask, 2.0, -50.0).astype(np.float32), target, mask, 10.0)
    facts = agreement_facts({"case_0001": {"ct": some}, "case_0002": {"ct": nothing}}, {"ct": "HU"})["ct"]
    assert facts["counts"] == [16]
    assert facts["first"] <= 2 < facts["first"] + facts["bin"]
    assert facts["means"] == {"case_0001": [2.0, 0.0]}
    empty = agreement_facts({"case_0002": {"ct": nothing}}, {"ct": "HU"})
    assert "Errors" not in page(errors=empty)
    assert "Bland" in page(errors={"ct": facts})


def test_charts_say_what_they_show_in_the_colours_of_the_page_and_come_out_the_same_each_time() -> None:
    strips = {"a": [("x", 3.0)], "$^{ b <名": [("y", 4.0), ("z", 6.0)], "c": [], "d": [("", math.nan)]}
    for draw in (lambda: strip_chart("p & q", strips), lambda: line_chart("p & q", [(0, 1.0), (1, 2.0)])):
        svg = draw().svg
        assert svg.startswith('<svg role="img"')
        assert "<title>p &amp; q</title><desc>" in svg
        colours = {"none", "var(--accent)", "var(--rule)", "var(--soft)"}
        assert set(re.findall(r"(?:fill|stroke): ([^;\"]+)", svg)) <= colours
        assert svg == draw().svg
    assert "$^{ b &lt;名 2 cases, median 5.000" in strip_chart("p & q", strips).svg
