"""The page of what can go wrong quotes messages that medtrans has, and names tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from .pages import DOCS, ROOT
from .test_reliability_page import TEST, names_in

PAGE = DOCS / "what-can-go-wrong.md"


def rows() -> list[list[str]]:
    """The cells of every row that promises something."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines if line.startswith("| ")]
    return [row for row in cells if row[0] not in ("What goes wrong", "---")]


def texts_in(folder: Path) -> str:
    """Every text that the code holds, whatever lines it is written over."""
    parsed = (ast.parse(path.read_text(encoding="utf-8")) for path in folder.rglob("*.py"))
    joined = (
        "".join(part.value for part in node.values if isinstance(part, ast.Constant))
        if isinstance(node, ast.JoinedStr)
        else node.value
        for tree in parsed
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))
    )
    return "\n".join(joined)


def test_every_row_has_a_proof_that_exists() -> None:
    found = rows()
    assert len(found) >= 20
    for row in found:
        assert len(row) == 4, row
        tests = TEST.findall(row[3])
        assert tests, row[0]
        for file, name in tests:
            assert name in names_in(ROOT / file), f"{file}::{name}"


def test_every_message_that_is_quoted_is_one_of_medtrans() -> None:
    held = texts_in(ROOT / "src" / "medtrans")
    quoted = [message for row in rows() for message in re.findall(r'"([^"]+)"', row[2])]
    assert len(quoted) >= 12
    assert [message for message in quoted if message not in held] == []
