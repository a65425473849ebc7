"""The report holds what a reader needs, in plain words, offline, and gives no name away."""

from __future__ import annotations

import base64
import math
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from medtrans import numerals
from medtrans.charts import line_chart, strip_chart
from medtrans.pictures import png_bytes
from medtrans.report import render, verdicts
from medtrans.statistics import CaseScores, Column, summary_of

COLUMNS = {
    "psnr": Column("dB", True, "10 log10(R^2 / MSE)"),
    "mae": Column("HU", False, "mean(|prediction - target|)"),
}


def rows(psnr: float, mae: float, cases: int = 6, spread: float = 0.1) -> list[CaseScores]:
    return [
        CaseScores(
            f"case_{number:04d}",
            f"Jane Doe {number}",
            f"patient {number}",
            {"psnr": psnr + spread * number, "mae": mae - spread * number**2},
            "sha",
        )
        for number in range(1, cases + 1)
    ]


def summary(psnr: float = 28.0, mae: float = 60.0, cases: int = 6, **options: Any) -> dict[str, Any]:
    baselines = {"source_linear": rows(21.0, 95.0, cases), "source_lut": rows(25.0, 80.0, cases, 0.2)}
    return summary_of(rows(psnr, mae, cases), baselines, COLUMNS, **options)


def page(**changes: Any) -> str:
    contents: dict[str, Any] = {
        "title": "t1_to_ct",
        "command": "medtrans run config.yaml",
        "config_text": "seed: 0\nsource: [t1]\n",
        "environment": {"medtrans": "0.1.0", "plugins": {"swin": "1.2"}, "devices": ["A100", "A100"]},
        "summary": summary(),
        "rows": [{"label": row.label, "case": row.case, "subject": row.subject, **row.values} for row in rows(28, 60)],
        "pictures": [("worst: case_0001", "psnr 28.10 dB", png_bytes(np.zeros((4, 4, 3), dtype=np.uint8)))],
        "curves": {"loss/l1": [(step, 1 / (step + 1)) for step in range(1000)]},
        "warnings": [],
        **changes,
    }
    return render(**contents)


class Reader(HTMLParser):
    """Collects tags, attributes and visible text, and checks that tags close in order."""

    VOID = frozenset({"meta", "img", "line", "polyline", "br"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self._open or self._open[-1] != "style":
            self.text += data


def test_the_page_holds_everything() -> None:
    text = " ".join(Reader(page()).text.split())
    for expected in (
        "t1_to_ct",
        "Research use only, not for diagnosis",
        "scored on 6 test cases",
        "psnr [dB] ↑",
        "mae [HU] ↓",
        "28.35 ± 0.19",
        "10 log10(R^2 / MSE)",
        "source_lut",
        "trivial baseline: a linear fit of the source",
        "worst: case_0001",
        "psnr 28.10 dB",
        "case_0006",
        "loss/l1",
        "medtrans run config.yaml",
        "source: [t1]",
        "plugins.swin1.2",
        "devicesA100, A100",
    ):
        assert expected in text, expected


def test_a_picture_is_carried_inside_the_page() -> None:
    content = png_bytes(np.full((4, 4, 3), 7, dtype=np.uint8))
    (attributes,) = [found for tag, found in Reader(page(pictures=[("best", "caption", content)])).tags if tag == "img"]
    assert attributes["src"] == "data:image/png;base64," + base64.b64encode(content).decode()
    assert attributes["alt"]


def test_nothing_is_fetched_and_nothing_runs() -> None:
    html = page()
    assert "://" not in html
    assert "url(" not in html
    assert "@import" not in html
    tags = Reader(html).tags
    assert not {tag for tag, _ in tags} & {"script", "link", "iframe", "object", "embed", "form", "a", "base"}
    for _, attributes in tags:
        assert not any(name.startswith("on") or name == "href" for name in attributes)
        assert (attributes.get("src") or "data:").startswith("data:")
    policies = [attributes["content"] for _, attributes in tags if "http-equiv" in attributes]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_names_of_cases_and_subjects_stay_with_the_data() -> None:
    html = page()
    assert "Jane" not in html
    assert "patient 1" not in html


def test_texts_are_escaped() -> None:
    evil = "<script>alert('x')</script>\"&"
    described = summary(warnings=[evil])
    described["metrics"]["psnr"]["definition"] = evil
    html = page(
        title=evil,
        command=evil,
        config_text=evil,
        environment={evil: evil},
        summary=described,
        rows=[{"label": evil, "psnr": 1.0, "mae": 2.0}],
        pictures=[(evil, evil, b"")],
        curves={evil: [(0, 1.0)]},
        warnings=[evil + "2"],
    )
    reader = Reader(html)
    assert "script" not in {tag for tag, _ in reader.tags}
    assert reader.text.count(evil) >= 11


def test_warnings_of_summary_and_run_are_shown_once_and_only_if_there_are_any() -> None:
    assert "Warnings" not in page(summary=summary(cases=20))
    text = Reader(page(summary=summary(warnings=["lone", "twin"]), warnings=["twin", "tardy"])).text
    assert [text.count(word) for word in ("Warnings", "lone", "twin", "tardy")] == [1, 1, 1, 1]


def test_an_empty_run_still_gives_a_page() -> None:
    nothing = summary_of([], {}, COLUMNS)
    text = Reader(page(summary=nothing, rows=[], pictures=[], curves={}, environment={})).text
    assert "scored on 0 test cases" in text
    for heading in ("Pictures", "Every case", "Training"):
        assert heading not in text


def test_scores_that_are_not_finite_are_shown_as_such() -> None:
    perfect = [
        CaseScores("case_0001", "a", "a", {"psnr": math.inf, "mae": 0.0}, "sha"),
        CaseScores("case_0002", "b", "b", {"psnr": 31.0, "mae": math.nan}, "sha"),
    ]
    shown = [{"label": row.label, **row.values} for row in perfect]
    text = " ".join(Reader(page(summary=summary_of(perfect, {}, COLUMNS), rows=shown)).text.split())
    assert "case_0001∞0.0000" in text
    assert "case_000231.00–" in text
    assert "defined for 1 of 2 cases" in text


def test_the_best_of_each_column_is_marked() -> None:
    html = page(summary=summary(psnr=28.0, mae=90.0))
    (model, linear, lut) = re.findall(r"<tr[^>]*><th>(?:the model|source_\w+)</th>.*?</tr>", html, flags=re.DOTALL)
    assert [cells.count('class="best"') for cells in (model, linear, lut)] == [1, 0, 1]


# The verdict


def test_a_model_that_is_clearly_better_beats_the_best_baseline() -> None:
    (verdict,) = verdicts(summary(psnr=28.0))
    assert verdict.tone == "good"
    assert re.fullmatch(
        r"The model beats the best trivial baseline \(the mean training target at each of 64 source intensities\) by "
        r"2\.65 dB in psnr \(95 % interval 2\.5\d to 2\.7\d; better in 6 of 6 cases\)\.",
        verdict.text,
    )


def test_a_model_that_is_clearly_worse_is_said_to_be() -> None:
    (verdict,) = verdicts(summary(psnr=22.0))
    assert verdict.tone == "bad"
    assert "worse than the best trivial baseline" in verdict.text
    assert "by 3.35 dB" in verdict.text
    assert re.search(r"interval 3\.2\d to 3\.4\d; better in 0 of 6 cases", verdict.text)


def test_a_gain_within_chance_is_no_gain() -> None:
    (verdict,) = verdicts(summary(psnr=25.35))
    assert verdict.tone == "open"
    assert "not clearly better" in verdict.text
    assert re.search(r"gain −0\.1\d+ to 0\.1\d+ dB; better in 3 of 6 cases", verdict.text)


def test_too_few_cases_give_no_interval() -> None:
    (verdict,) = verdicts(summary(psnr=28.0, cases=1))
    assert verdict.tone == "open"
    assert "2.90 dB above" in verdict.text
    assert "over 1 case, with no interval" in verdict.text
    (verdict,) = verdicts(summary(psnr=20.0, cases=2))
    assert "below that of the best trivial baseline" in verdict.text


def test_without_baselines_the_page_says_that_it_cannot_tell() -> None:
    (verdict,) = verdicts(summary_of(rows(28, 60), {}, COLUMNS))
    assert verdict.tone == "open"
    assert "no trivial baseline was scored" in verdict.text


def test_a_summary_without_comparison_is_judged_by_its_means() -> None:
    described = summary(psnr=28.0)
    del described["comparison"]
    (verdict,) = verdicts(described)
    assert "2.65 dB above that of the best trivial baseline (the mean training target at each" in verdict.text
    assert "no interval" in verdict.text


def test_a_metric_where_less_is_better_is_judged_that_way() -> None:
    described = summary(mae=60.0)
    for scores in (described["metrics"], described["comparison"], *described["baselines"].values()):
        del scores["psnr"]
    (verdict,) = verdicts(described)
    assert verdict.tone == "good"
    assert "in mae" in verdict.text
    del described["comparison"]
    assert "HU below that of the best" in verdicts(described)[0].text


def test_each_target_gets_a_verdict() -> None:
    columns = {f"{name}_{target}": COLUMNS["psnr"] for target in ("ct", "t2") for name in ("psnr", "ssim")}
    scored = [CaseScores("case_0001", "a", "a", dict.fromkeys(columns, 1.0), "sha")]
    texts = [verdict.text for verdict in verdicts(summary_of(scored, {"source_lut": scored}, columns))]
    assert len(texts) == 2
    assert "psnr_ct" in texts[0]
    assert "psnr_t2" in texts[1]


# Numbers and charts


@pytest.mark.parametrize(
    ("value", "number", "signed"),
    [
        (None, "–", "–"),
        (math.nan, "–", "–"),
        (-math.inf, "−∞", "−∞"),
        (28.3, "28.30", "+28.3"),
        (-0.12345, "−0.1235", "−0.123"),
        (0.00012, "1.20e−04", "+0.00012"),
        (1234567.0, "1234567", "+1234567"),
    ],
)
def test_numbers_have_four_digits_a_true_minus_and_a_dash_for_nothing(
    value: float | None, number: str, signed: str
) -> None:
    assert (numerals.number(value), numerals.signed(value)) == (number, signed)


def test_intervals_probabilities_and_sides_are_written_one_way() -> None:
    assert (numerals.between((1.0, 2.0)), numerals.between(None)) == ("1.000 to 2.000", "")
    assert numerals.signed_between((-1.0, 2.0)) == "−1.00 to +2.00"
    assert [numerals.probability(p) for p in (None, 0.0001, 0.5)] == ["–", "< 0.001", "0.500"]
    assert [numerals.sides(one) for one in (None, (1024, 512, 3), (0.48828, 2.0, 3.0))] == [
        "?",
        "1024×512×3",
        "0.488×2×3",
    ]


def numbers(pattern: str, svg: str) -> list[float]:
    return [float(found) for found in re.findall(pattern, svg)]


def test_a_curve_rises_to_the_right_and_of_many_points_some_hundreds_are_drawn() -> None:
    drawn = line_chart("psnr", [(step, math.log(step + 1)) for step in range(0, 5001, 5)])
    line = max(re.findall(r'd="([^"]*)"', drawn.svg), key=len)
    x, y = (np.array(numbers(pattern, line)) for pattern in (r"[ML] ([\d.]+) ", r"[ML] [\d.]+ ([\d.]+)"))
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
    places = [float(x) for x, _, _, _ in dots]
    assert np.corrcoef(places, [value for _, value in cases])[0, 1] == pytest.approx(1)
    assert drawn.notes == ("1 lut", "1 case without a finite value.")


def test_charts_say_what_they_show_and_take_the_colours_of_the_page() -> None:
    strip = strip_chart(
        "psnr & co", {"a": [("x", 3.0)], "$^{ b <名": [("y", 4.0), ("z", 6.0)], "c": [], "d": [("", math.nan)]}
    )
    for drawn in (strip, line_chart("psnr & co", [(0, 1.0), (1, 2.0)])):
        assert drawn.svg.startswith('<svg role="img"')
        assert "<title>psnr &amp; co</title><desc>" in drawn.svg
        assert "var(--accent)" in drawn.svg
        assert "#0" not in re.sub(r'href="[^"]*"', "", drawn.svg)
    assert "$^{ b &lt;名" in strip.svg
    assert "median 5.000" in strip.svg


def test_the_same_data_give_the_same_chart() -> None:
    first, second = (strip_chart("mae", {"": [("a", 1.0), ("b", 2.0)]}, marks={"m": 1.5}) for _ in range(2))
    assert first == second
