"""Every block of code in the documentation is of a kind that something checks, or is marked as shown only."""

from __future__ import annotations

import ast
import functools
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from medtrans.config import load_config

from .pages import DOCS, ROOT, Block, blocks
from .test_reliability_page import names_in

CHECKED_BY = {"quickstart": ".ci/run", "tests": ".ci/run", "new": "tests/test_scaffold.py"}
"""Marks of single blocks, and what runs them by that name."""
OUTPUT = ("text", "bibtex")
GENERATED = {DOCS / "reference" / name for name in ("cli.md", "components.md", "config.md", "hooks.md")}
ALL = [
    block
    for block in blocks()
    if (block.page == ROOT / "README.md" or block.page.is_relative_to(DOCS)) and block.page not in GENERATED
]
PARTS = [block for block in ALL if block.mark.startswith("part of ")]


def fault(block: Block) -> str:
    """Why nothing checks a block; empty where something does."""
    kind, _, rest = block.mark.partition(" ")
    if block.language in OUTPUT:
        return "" if block.mark in ("", "short") else "output is not run"
    if kind in ("config", "part") and block.language == "yaml":
        return "" if kind == "config" or rest.startswith("of ") else "of what?"
    if kind == "plugin" and block.language == "python":
        return ""
    if kind == "run" and block.language in ("bash", "python"):
        return "" if block.page.parent.name == "tutorials" else "only tutorials are followed; name its test: run by"
    if kind == "run" and not rest.startswith("by "):
        return f"a block of {block.language or 'no language'} cannot be run"
    if kind == "shown:" and rest:
        return "" if block.language else "it has no language"
    if block.mark in CHECKED_BY:
        return (
            "" if f"{block.mark}" in (ROOT / CHECKED_BY[block.mark]).read_text(encoding="utf-8") else "nobody runs it"
        )
    return "it has no mark; CONTRIBUTING.md lists them"


def run_by(block: Block) -> tuple[Path, str] | None:
    """The test that a mark names."""
    found = re.fullmatch(r"run by (tests/[\w/]+\.py)::(test_\w+)", block.mark)
    return (ROOT / found[1], found[2]) if found else None


@pytest.mark.parametrize("block", ALL, ids=str)
def test_a_block_is_of_a_kind_that_is_checked(block: Block) -> None:
    named = run_by(block)
    if named is None:
        assert fault(block) == "", block
        return
    file, name = named
    assert name in names_in(file)
    assert block.page.name in file.read_text(encoding="utf-8"), f"{file.name} does not read the page"


@pytest.mark.parametrize("block", PARTS, ids=str)
def test_a_part_of_a_config_fits_the_config_it_is_a_part_of(block: Block) -> None:
    name = block.mark.removeprefix("part of ")
    assert load_config([name, yaml.safe_load(block.text)]).saved() != shipped(name)


@functools.cache
def shipped(name: str) -> dict[str, Any]:
    return load_config([name]).saved()


@pytest.mark.parametrize("block", [block for block in ALL if block.language in ("python", "toml")], ids=str)
def test_a_block_of_code_is_code(block: Block) -> None:
    if block.language == "toml":
        assert tomllib.loads(block.text)
    else:
        assert ast.parse(block.text).body


@pytest.mark.parametrize(
    ("mark", "language"),
    [
        ("", "bash"), ("", "python"), ("", "yaml"), ("shown:", "bash"), ("run", "yaml"), ("part", "yaml"),
        ("plugin x.py", "bash"), ("run", "bash"), ("config", "bash"), ("run", "text"), ("shown: why", ""),
    ],
)  # fmt: skip
def test_a_block_that_nothing_checks_is_found(mark: str, language: str) -> None:
    assert fault(Block(DOCS / "index.md", mark, language, "x\n"))
