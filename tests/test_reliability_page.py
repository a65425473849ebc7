"""Every promise of the reliability page names a test that exists; none is made without."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reliability.md"
TEST = re.compile(r"`((?:tests|plugins)/[\w/.-]+\.py)::(test_\w+)`")


@dataclass(frozen=True)
class Row:
    """A promise with the cell that says what keeps it."""

    promise: str
    kept_by: str


def rows(text: str) -> Iterator[Row]:
    """The rows of all tables, without headings."""
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("|") and cells != ["Promise", "Kept by"] and not set(line) <= set("|- "):
            yield Row(cells[0], cells[-1] if len(cells) == 2 else "")


def faults(text: str, root: Path = ROOT) -> list[str]:
    """Promises that no test keeps, and tests that do not exist."""
    found = []
    for row in rows(text):
        tests = TEST.findall(row.kept_by)
        found += [] if tests and row.promise else [f"no test: {row.promise}"]
        found += [f"no such test: {file}::{name}" for file, name in tests if name not in names_in(root / file)]
    return found


def names_in(path: Path) -> set[str]:
    """The names of a file's test functions that are run: not skipped, not expected to fail."""
    if not path.is_file():
        return set()
    nodes = ast.parse(path.read_text(encoding="utf-8")).body
    return {
        node.name
        for node in nodes
        if isinstance(node, ast.FunctionDef)
        and not any(re.search(r"mark\.(skip\b|xfail)", ast.unparse(mark)) for mark in node.decorator_list)
    }


def test_every_promise_has_a_test_that_exists() -> None:
    assert faults(PAGE.read_text(encoding="utf-8")) == []


def test_the_page_makes_promises_of_every_kind() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert len(list(rows(text))) >= 50
    assert len({file for file, _ in TEST.findall(text)}) >= 15
    assert len(re.findall(r"^\| Promise \| Kept by \|$", text, re.MULTILINE)) == len(
        re.findall("^## ", text, re.MULTILINE)
    )


@pytest.mark.parametrize(
    "line",
    [
        "| It never fails. | |",
        "| It never fails. | trust us |",
        "| It never fails. |",
        "| It never fails. | `tests/test_nothing.py::test_it` |",
        "| It never fails. | `tests/test_one.py::test_other` |",
        "| It never fails. | `tests/test_one.py::test_skipped` |",
        "| | `tests/test_one.py::test_it` |",
    ],
)
def test_a_promise_that_nothing_keeps_is_found(tmp_path: Path, line: str) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_one.py").write_text(
        "import pytest\n\ndef test_it(): ...\n\n@pytest.mark.skip\ndef test_skipped(): ...\n"
    )
    kept = "| Promise | Kept by |\n| --- | --- |\n| It works. | `tests/test_one.py::test_it` |\n"
    assert faults(kept, tmp_path) == []
    assert len(faults(kept + line, tmp_path)) == 1
