"""What a run keeps, damaged: a verb that reads it refuses by one message that names the file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from medtrans import MedtransError
from medtrans.cli.app import app

_CONTENTS = {
    "empty": b"",
    "zeros": bytes(200),
    "a list": b"[1, 2]",
    "a number": b"12",
    "deep": b'{"a": ' * 5_000,
    "no text": b"\xff\xfe\x80abc",
    "a long field": b"case,label,subject,target_sha\n" + b"x" * 200_000,
}


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    """Two folders with what evaluated runs keep of their config and scores."""
    folders = [tmp_path / name for name in ("first", "second")]
    for folder in folders:
        folder.mkdir()
        (folder / "config.yaml").write_text("generator: {name: unet}\nmethod: {name: paired}\n")
        (folder / "status.json").write_text(json.dumps({"state": "done"}))
        (folder / "summary.json").write_text(json.dumps({"metrics": {}, "baselines": {}, "cases": 1}))
        (folder / "metrics.csv").write_text("case,label,subject,target_sha\na,case_0001,a,00\n")
    return folders


@pytest.mark.parametrize("verb", ["report", "report of several", "compare"])
@pytest.mark.parametrize("name", ["config.yaml", "summary.json", "metrics.csv"])
@pytest.mark.parametrize("damage", [*_CONTENTS, "a folder"])
def test_a_damaged_file_is_refused_by_name(verb: str, name: str, damage: str, runs: list[Path], tmp_path: Path) -> None:
    path = runs[1] / name
    path.unlink()
    if damage == "a folder":
        path.mkdir()
    else:
        path.write_bytes(_CONTENTS[damage])
    folders = [str(runs[1])] if verb == "report" else [str(run) for run in runs]
    output = ["--output", str(tmp_path / "page.html")] if verb == "report of several" else []
    error = CliRunner().invoke(app, [verb.split()[0], *folders, *output]).exception
    if (verb, name) == ("compare", "config.yaml"):  # gives a run's name alone
        assert error is None
        return
    assert isinstance(error, MedtransError), repr(error)
    assert error.exit_code in (2, 3)
    assert any(name in fault for fault in error.faults)
    assert not (tmp_path / "page.html").exists()
