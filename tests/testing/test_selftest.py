"""The self-test is made of real checks: each passes here, each fails when what it looks at is broken, and figures and
exit code say so."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from medtrans.builtin.methods.paired import PairedMethod
from medtrans.builtin.transforms import Window
from medtrans.cli.app import main
from medtrans.data.preprocessing import Preprocessing
from medtrans.runs import checkpoint
from medtrans.runs import lock as run_lock
from medtrans.runs.folder import RunFolder
from medtrans.testing.selftest import runs, suite, translation
from medtrans.volume import io, nifti_writer

CHECKS = {name: check for name, _, check in suite.CHECKS if name not in ("resume", "kill")}


def leaking(right: Any) -> Any:
    def write_translation(*given: Any) -> Path:
        written: Path = right(*given)
        (written.parent / "notes.json").write_text('{"from": "CanaryPatient"}')
        return written

    return write_translation


BROKEN: dict[str, tuple[str, Any, str, Callable[[Any], Any]]] = {
    "flipped": ("orientation", Preprocessing, "to_native", lambda right: lambda *given: right(*given)[:, ::-1]),
    "half a voxel off": (
        "orientation",
        nifti_writer,
        "header_bytes",
        lambda right: lambda path, values, affine, *rest: right(path, values, affine + np.eye(4, k=3) * 0.45, *rest),
    ),
    "256 values": ("intensities", Window, "apply", lambda right: lambda *given: np.round(right(*given) * 255) / 255),
    "a name beside it": ("headers", translation, "write_translation", leaking),
    "unread digests": ("checkpoint", checkpoint, "_digest", lambda _: lambda _: "00"),
    "shared folders": ("lock", run_lock, "take", lambda _: lambda _: None),
    "followed links": ("lock", RunFolder, "_check_links", lambda _: lambda _: None),
}
"""By what is wrong: the check that finds it, and what is put in whose place."""


@pytest.mark.parametrize("name", CHECKS)
def test_a_check_passes_here(tmp_path: Path, name: str) -> None:
    passed, figure = CHECKS[name](tmp_path)
    assert passed, figure


@pytest.mark.parametrize(("name", "owner", "attribute", "change"), BROKEN.values(), ids=BROKEN)
def test_a_check_fails_when_what_it_looks_at_is_broken(
    monkeypatch: pytest.MonkeyPatch, name: str, owner: Any, attribute: str, change: Callable[[Any], Any]
) -> None:
    monkeypatch.setattr(io, "check_reads_back", lambda *_: None)  # else the writer itself refuses a header that is off
    monkeypatch.setattr(owner, attribute, change(getattr(owner, attribute)))
    (outcome,) = suite.run_checks([(name, "a promise", CHECKS[name])])
    assert not outcome.passed


@pytest.mark.slow
def test_a_resume_that_differs_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The average begins anew, as if it were not part of the state."""
    home = tmp_path / "resume"
    home.mkdir()
    right = PairedMethod.load_state_dict

    def forget(self: Any, state: Any) -> None:
        right(self, {**state, "average_updates": 0})

    monkeypatch.setattr(PairedMethod, "load_state_dict", forget)
    passed, figure = runs.check_resume(home)
    assert not passed
    assert "tensors bit-identical" in figure


def outcomes(*passed: bool) -> list[suite.Outcome]:
    return [suite.Outcome(f"check {number}", "a promise", "3 of 4 [x]", one, 1.25) for number, one in enumerate(passed)]


@pytest.mark.parametrize("terminal", [True, False])
def test_outcomes_are_shown_with_their_figures(terminal: bool) -> None:
    text = StringIO()
    console = Console(file=text, force_terminal=terminal, width=160)
    assert not suite.show(outcomes(True, False), console)
    assert suite.show(outcomes(True), console)
    for expected in ("check 0", "check 1", "a promise", "3 of 4", "kept", "BROKEN"):
        assert expected in text.getvalue()
    assert ("\x1b[" in text.getvalue()) == terminal


@pytest.mark.parametrize(("passed", "code"), [(True, 0), (False, 5)])
@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_the_exit_code_says_whether_all_promises_are_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], passed: bool, code: int, flags: list[str]
) -> None:
    monkeypatch.setattr(suite, "run_checks", lambda: iter(outcomes(True, passed)))
    monkeypatch.setattr(sys, "argv", ["medtrans", "selftest", *flags])
    with pytest.raises(SystemExit) as ended:
        main()
    assert (ended.value.code or 0) == code
    said = capsys.readouterr().out
    if flags:
        told = json.loads(said)
        assert told["passed"] is passed
        assert [one["passed"] for one in told["checks"]] == [True, passed]
    else:
        assert "2 checks in 2 s" in said


def test_a_check_that_stops_is_a_broken_promise_and_the_next_is_run() -> None:
    def stops(folder: Path) -> tuple[bool, str]:
        raise RuntimeError("no such thing")

    def writes(folder: Path) -> tuple[bool, str]:
        (folder / "x").touch()
        return True, str(folder)

    first, second = suite.run_checks([("one", "a", stops), ("two words", "b", writes)])
    assert (first.passed, second.passed) == (False, True)
    assert first.figure == "stopped: RuntimeError: no such thing"
    assert not Path(second.figure).exists()


@pytest.mark.slow
def test_all_promises_are_kept_here_within_a_minute() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "medtrans", "selftest", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    told = json.loads(done.stdout)
    assert done.returncode == 0, told
    assert len(told["checks"]) == len(suite.CHECKS)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 60
