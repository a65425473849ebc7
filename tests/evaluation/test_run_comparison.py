"""Comparisons of runs: what is found, what is not, what is refused, and the tables that are left."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from medtrans.cli.app import app
from medtrans.cli.tables import as_latex, as_markdown
from medtrans.errors import ConfigError, DataError
from medtrans.evaluation.run_comparison import compare_runs
from medtrans.evaluation.scores import CaseScores, Column, read_metrics_csv, write_metrics_csv
from medtrans.evaluation.statistics import summary_of
from medtrans.utils.files import write_json

COLUMNS = {"psnr": Column("dB", True, "peak signal to noise"), "mae": Column("HU", False, "mean absolute error")}


def scored(folder: Path, psnr: np.ndarray, mae: np.ndarray, columns: dict[str, Column] | None = None) -> Path:
    folder.mkdir()
    rows = [
        CaseScores(f"case_{number:04d}", f"name {number}", f"subject {number}", {"psnr": one, "mae": other}, "a")
        for number, (one, other) in enumerate(zip(psnr, mae, strict=True), 1)
    ]
    columns = columns or COLUMNS
    write_metrics_csv(folder / "metrics.csv", rows)
    write_json(folder / "summary.json", summary_of(rows, {}, columns, scored_in={"ct": "[-1000, 2000] HU, clipped"}))
    return folder


@pytest.fixture
def scores() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(30, 3, 20), rng.normal(50, 9, 20)


def of(comparison: dict, metric: str, run: str | None = None) -> dict:  # type: ignore[type-arg]  # plain JSON
    return next(one for one in comparison["comparisons"] if one["metric"] == metric and run in (None, one["run"]))


def test_half_a_decibel_is_found_in_twenty_cases_and_nothing_between_equal_runs(
    tmp_path: Path, scores: tuple[np.ndarray, np.ndarray]
) -> None:
    (psnr, mae), rng = scores, np.random.default_rng(1)
    runs = [scored(tmp_path / "worse", psnr, mae)]
    # Cases differ by many dB: only pairing shows the half.
    runs.append(scored(tmp_path / "better", psnr + rng.normal(0.5, 0.2, 20), mae - rng.normal(5, 1, 20)))
    runs.append(scored(tmp_path / "again", psnr + rng.normal(0, 0.2, 20), mae + rng.normal(0, 1, 20)))
    found = compare_runs([*runs, runs[0]])
    assert found["reference"] == "run 1"
    assert (found["cases"], found["subjects"]) == (20, 20)
    gain = of(found, "psnr", "run 2")
    assert gain["gain"] == pytest.approx(0.5, abs=0.1)
    assert gain["gain"] == pytest.approx(gain["run_mean"] - gain["reference_mean"])
    assert gain["ci95"][0] > 0.3
    assert max(gain["wilcoxon_p_holm"], gain["permutation_p_holm"]) < 0.01
    low, high = gain["effect_ci95"]
    assert 1 < low < gain["effect"] < high
    lower = of(found, "mae", "run 2")
    assert lower["gain"] == pytest.approx(lower["reference_mean"] - lower["run_mean"])
    assert lower["gain"] > 4
    by_chance = of(found, "psnr", "run 3")
    assert by_chance["ci95"][0] < 0 < by_chance["ci95"][1]
    assert min(by_chance["wilcoxon_p_holm"], by_chance["permutation_p_holm"]) > 0.05
    equal = of(found, "psnr", "run 4")
    assert (equal["gain"], equal["wilcoxon_p"], equal["permutation_p"], equal["better"]) == (0, 1, 1, 0)
    json.dumps(found, allow_nan=False)
    assert {one["metric"] for one in compare_runs(runs, ["mae"])["comparisons"]} == {"mae"}


def test_all_comparisons_of_a_table_are_corrected_together(
    tmp_path: Path, scores: tuple[np.ndarray, np.ndarray]
) -> None:
    psnr, mae = scores
    rng = np.random.default_rng(2)
    runs = [scored(tmp_path / "first", psnr, mae)]
    runs += [scored(tmp_path / f"run{one}", psnr + rng.normal(0.3, 1, 20), mae) for one in range(2)]
    found = compare_runs(runs)
    assert len(found["comparisons"]) == 4
    smallest = min(found["comparisons"], key=lambda one: one["wilcoxon_p"])
    assert smallest["wilcoxon_p_holm"] == pytest.approx(min(1, 4 * smallest["wilcoxon_p"]))


def test_cases_of_one_subject_count_once(tmp_path: Path, scores: tuple[np.ndarray, np.ndarray]) -> None:
    psnr, mae = scores
    gains = np.random.default_rng(3).normal(0.2, 0.5, 20)
    once = compare_runs([scored(tmp_path / "a", psnr, mae), scored(tmp_path / "b", psnr + gains, mae)])
    folders = []
    for name, values in (("c", psnr), ("d", psnr + gains)):
        folder = scored(tmp_path / name, np.repeat(values, 4), np.repeat(mae, 4))
        rows = [
            replace(row, subject=f"subject {number // 4:02d}")
            for number, row in enumerate(read_metrics_csv(folder / "metrics.csv"))
        ]
        write_metrics_csv(folder / "metrics.csv", rows)
        folders.append(folder)
    visits = compare_runs(folders)
    assert visits["subjects"] == 20
    for key in ("gain", "wilcoxon_p", "effect"):
        assert of(visits, "psnr")[key] == pytest.approx(of(once, "psnr")[key], abs=1e-9)
    # The subjects stand in another order, and random signs fall otherwise on them.
    assert of(visits, "psnr")["permutation_p"] == pytest.approx(of(once, "psnr")["permutation_p"], abs=0.02)


def test_scores_that_are_not_finite_are_not_tested(tmp_path: Path, scores: tuple[np.ndarray, np.ndarray]) -> None:
    psnr, mae = scores
    perfect, undefined = psnr.copy(), mae.copy()
    perfect[0], undefined[0] = math.inf, math.nan
    found = compare_runs([scored(tmp_path / "a", psnr, mae), scored(tmp_path / "b", perfect, undefined)])
    assert (of(found, "psnr")["gain"], of(found, "psnr")["wilcoxon_p_holm"]) == (None, None)
    assert (of(found, "mae")["n"], of(found, "mae")["gain"]) == (19, 0)
    json.dumps(found, allow_nan=False)


def test_runs_that_differ_are_refused_and_all_that_differs_is_named(
    tmp_path: Path, scores: tuple[np.ndarray, np.ndarray]
) -> None:
    psnr, mae = scores
    first = scored(tmp_path / "first", psnr, mae)
    other = scored(tmp_path / "other", psnr, mae, {**COLUMNS, "psnr": Column("dB", True, "another peak")})
    rows = read_metrics_csv(other / "metrics.csv")
    rows = [replace(rows[0], case="name 99"), replace(rows[1], target_sha="b"), *rows[2:]]
    write_metrics_csv(other / "metrics.csv", rows)
    summary = json.loads((other / "summary.json").read_text())
    summary["scored_in"]["ct"] = "[-1024, 3000] HU, clipped"
    summary["protocol"]["name"] = "mdaunet"
    del summary["metrics"]["mae"]
    write_json(other / "summary.json", summary)
    with pytest.raises(DataError) as refused:
        compare_runs([first, other])
    text = "\n".join(refused.value.faults)
    for words in (
        f"missing in {other}: name 1", f"missing in {first}: name 99", "against different targets: name 2",
        "protocol differs: native and mdaunet", "scored_in differs: [-1000, 2000] HU", "psnr is not the same score",
        f"{other} has no mae",
    ):  # fmt: skip
        assert words in text
    assert len(refused.value.faults) == 7


def test_folders_without_scores_and_unknown_columns_are_refused(
    tmp_path: Path, scores: tuple[np.ndarray, np.ndarray]
) -> None:
    run = scored(tmp_path / "run", *scores)
    for folders, metrics, message in (
        ([run], [], "at least two runs"),
        ([run, tmp_path], [], r"no scores, metrics\.csv and summary\.json missing"),
        ([run, run], ["psnrr"], "--metric psnrr.*did you mean 'psnr'"),
    ):
        with pytest.raises(ConfigError, match=message):
            compare_runs(folders, metrics)
    (run / "summary.json").write_text("{")
    with pytest.raises(ConfigError, match="is damaged"):
        compare_runs([run, run])


def test_the_tables_hold_every_comparison_and_what_it_means(
    tmp_path: Path, scores: tuple[np.ndarray, np.ndarray]
) -> None:
    psnr, mae = scores
    first = scored(tmp_path / "first", psnr, mae)
    other = scored(tmp_path / "other", psnr + np.random.default_rng(0).normal(1, 0.1, 20), mae)
    (other / "config.yaml").write_text("{generator: {name: 50%_data}, method: {name: 'builtin:paired'}}")
    found = compare_runs([first, other])
    markdown = as_markdown(found)
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 4
    assert len({line.count("|") for line in lines}) == 1
    assert "| 20 of 20 | < 0.001 | < 0.001 |" in markdown
    for told in ("Holm", "Scored in (ct): [-1000, 2000] HU, clipped", "psnr: peak signal to noise"):
        assert told in markdown
    latex = as_latex(found)
    rows = [line for line in latex.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 1 + 4
    assert {row.count("&") - row.count(r"\&") for row in rows} == {9}
    assert r" & run 2 (50\%\_data, paired) & " in latex
    assert r"\textless{} 0.001" in latex
    assert latex.count("{") == latex.count("}")


HOSTILE = "a\n\\input{x}\n# b <script>c</script> [d](e) ![f](g) https://h www.i |j| `k` *l* &lt; $m$"


def test_what_a_metric_says_of_itself_runs_nothing_in_the_tables(
    tmp_path: Path, scores: tuple[np.ndarray, np.ndarray]
) -> None:
    columns = {"psnr": Column(HOSTILE, True, HOSTILE), "mae": Column("", False, HOSTILE)}
    found = compare_runs([scored(tmp_path / f"run_{name}", *scores, columns) for name in "ab"])
    markdown, latex = as_markdown(found), as_latex(found)
    assert not re.search(r"(?<!\\)(<script|\]\(|://|\||`|\*|&lt;|\$)", re.sub(r" ?\| ?|\|?---:?\|?", "", markdown))
    assert not re.search(r"^#", markdown, flags=re.MULTILINE)
    assert not re.search(r"^(?!%).*\\input", latex, flags=re.MULTILINE)
    assert len(latex.splitlines()) == 5 + 2 + 4 + 4 + 2


@pytest.mark.parametrize(
    "config", [None, "[]", "{", "generator: unet", "{generator: {name: unet}, method: {name: [1]}}"]
)
def test_the_tables_name_no_folder_and_the_terminal_says_which_run_is_which(
    tmp_path: Path, scores: tuple[np.ndarray, np.ndarray], config: str | None
) -> None:
    runs = [scored(tmp_path / name, *scores) for name in ("CanaryJane", "CanaryHospital")]
    if config is not None:
        (runs[0] / "config.yaml").write_text(config)
    told = CliRunner().invoke(app, ["compare", *map(str, runs), "--output", str(tmp_path / "tables")])
    assert told.stderr.splitlines() == [f"run {place}: {run}" for place, run in enumerate(runs, 1)]
    written = [path.read_text() for path in (tmp_path / "tables").iterdir()]
    assert len(written) == 3
    assert all("run 2" in text and "Canary" not in text for text in [*written, told.stdout])


def test_tables_that_are_there_are_kept(tmp_path: Path, scores: tuple[np.ndarray, np.ndarray]) -> None:
    runs = [str(scored(tmp_path / name, *scores)) for name in ("one", "two")]
    kept = tmp_path / "out" / "comparison.md"
    kept.parent.mkdir()
    kept.write_text("mine")
    command = ["compare", *runs, "--output", str(kept.parent)]
    refused = CliRunner().invoke(app, command)
    assert refused.exit_code != 0
    assert [path.read_text() for path in kept.parent.iterdir()] == ["mine"]
    assert CliRunner().invoke(app, [*command, "--overwrite"]).exit_code == 0
    assert len(list(kept.parent.iterdir())) == 3
