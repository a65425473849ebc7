"""Whatever cases are called, predictions stay in the run's folder, and each case has files of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import medtrans
from medtrans.config.loading import load_config
from medtrans.data.cohort import Cohort, Member
from medtrans.data.datamodule import DataModule
from medtrans.evaluation.evaluator import score_test_cases
from medtrans.evaluation.scorer import Scorer
from medtrans.inference.prediction import file_stems
from medtrans.inference.translator import Translator
from medtrans.plugins.interfaces import Case
from medtrans.runs.folder import RunFolder

NASTY = [
    "../", "../../etc/passwd", "..", ".", "/", "//", "/etc/passwd", "/tmp/absolute", "~", "~root/x", "a/b", "a\\b",
    "..\\..\\x", "C:\\x", "C:", "\\\\host\\share", "a\x00b", "\x00", "a\nb", "a\rb", "a\tb", "\x1b[31mred", "\x7f",
    "CON", "con", "PRN", "AUX.txt", "NUL", "COM1", "LPT9", "-rf", "--help", "-", "--", "_", "__", "_hidden", ".hidden",
    "x" * 300, "x" * 301, "x" * 61, "x" * 60, "é" * 200, "X" * 300, "x" * 300 + "/y", "\u202egpj.exe",
    "\u200f\u05d0\u05d1", "\ufeffbom", "\u200b", "a\u200bb", "😀", "病人一", "病人二", "é", "e\u0301", "É", "Å",
    "A\u030a", "\u212b", "case", "Case", "CASE", "cAsE", "ﬁ", "fi", "Straße", "STRASSE", "ı", "I", "i", "İ", "a b",
    "a  b", " a", "a ", "a", "A", "a.", "a..", "a.nii.gz", "a.json", "a_t2", "a-0001", "a_0002", "a-0003", "x-0041",
    "CON_t2", "$(id)", "`id`", "; rm -rf /", "| cat", "> x", "*", "?", "[a]", "{a}", "%00", "%2e%2e%2f", "&amp;",
    "<script>", "'", '"', "case_0001", "a:b", "file:///etc/passwd", "http://x/y", "0", "1", "01",
]  # fmt: skip

WRITTEN = [*NASTY[:16], "case", "Case", "é", "e\u0301", "a.nii.gz", "病人一"]
"""Those that a run is tried on: what leads out of a folder, and what differs by little."""


def members(names: list[str]) -> list[Member]:
    return [Member(number, Case(name, name, {}), "test") for number, name in enumerate(names, 1)]


@pytest.mark.parametrize("targets", [["t2"], ["t2", "T2", "../../t1", "b_c", "c"]], ids=len)
def test_every_name_is_safe_and_none_stands_twice(targets: list[str]) -> None:
    assert len(NASTY) == len(set(NASTY)) >= 100
    stems = file_stems(members(NASTY), targets)
    assert len({stem.casefold() for stem in stems.values()}) == len(NASTY) * len(targets)
    for stem in stems.values():
        assert stem.isascii()
        assert stem.replace("-", "").replace("_", "").isalnum()
        assert stem[0].isalnum()
        assert len(stem) <= 140
        assert stem.casefold() not in {"con", "prn", "aux", "nul"}


@given(names=st.lists(st.text(min_size=1, max_size=8, alphabet="aA_-/0123.é"), unique=True, max_size=40))
def test_no_set_of_names_collides(names: list[str]) -> None:
    stems = file_stems(members(names), ["t2", "a_t2"])
    assert len({stem.casefold() for stem in stems.values()}) == 2 * len(names)


def test_a_plain_name_is_kept_and_another_is_recognisable() -> None:
    stems = file_stems(members(["sub-01_ses-2", "sub 02/x", "病人"]), ["t2"])
    assert list(stems.values()) == ["sub-01_ses-2_t2", "sub_02_x-0002_t2", "0003_t2"]


def snapshot(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")}


def test_all_of_them_are_predicted_inside_the_run_and_nothing_is_written_outside(tiny, tmp_path, monkeypatch):
    """The part of a run that writes by case, on a cohort of nasty names, with a translator that answers its source."""
    monkeypatch.chdir(tmp_path)
    tiny["output_dir"] = str(tmp_path / "runs" / "deep" / "run")
    tiny["metrics"] = {"mae": {}}
    tiny["train"]["best"] = None
    image = next(iter(medtrans.component("dataset", "phantom").factory(subjects=1, size=(16, 16, 16)).cases())).images
    cases = [Case(name, f"subject {number}", image) for number, name in enumerate(WRITTEN)]
    training = Case("training", "another", image)
    cohort = Cohort(
        (*(Member(number, case, "test") for number, case in enumerate(cases, 1)), Member(900, training, "train"))
    )
    experiment = load_config([tiny])
    folder = RunFolder.claim(tiny["output_dir"], resume=False, overwrite=False)
    data = DataModule(experiment, cohort, folder.cache)

    class Copies(Translator):
        def predict(self, prepared: Any, advance: Any = None) -> np.ndarray:
            return np.asarray(prepared.source)

    before = snapshot(tmp_path)
    numbers = {"t2": {"low": 0.0, "high": 900.0}}
    answers = Copies(experiment, None, data.preprocessing, numbers)
    score_test_cases(data, Scorer.of(data), answers, folder, ())
    written = snapshot(tmp_path) - before
    assert written
    assert all(path.startswith("runs/deep/run/") for path in written)
    images = sorted(path.name for path in folder.predictions.glob("*.nii.gz"))
    assert len(images) == len({name.casefold() for name in images}) == len(WRITTEN)
    assert len(list(folder.predictions.glob("*.json"))) == len(WRITTEN)
    assert all(path.parent == folder.predictions for path in folder.predictions.rglob("*"))
    assert all(not path.is_symlink() for path in folder.path.rglob("*"))
