"""Every block of code in the documentation is of a kind that something checks, or is marked as shown only."""

from __future__ import annotations

import ast
import functools
import re
import tomllib
from typing import Any

import pytest
import yaml

from medtrans.config.loading import load_config
from tests.helpers.pages import DOCS, ROOT, Block, blocks

CHECKED_BY = {"quickstart": ".ci/run", "tests": ".ci/run", "new": "tests/cli/test_scaffold.py"}
"""Marks of single blocks, and what runs them by that name."""
KINDS = (
    r"(text|bibtex) ",
    r"text short",
    r"yaml (config( \S+)?|part of \S+)",
    r"python plugin \S+\.py",
    r"(bash|python) run",
    r"\w+ run by tests/[\w/]+\.py::test_\w+",
    r"\w+ shown: .+",
    rf"bash ({'|'.join(CHECKED_BY)})",
)
"""Languages and marks that go together; CONTRIBUTING.md says what each means."""
ALL = [block for block in blocks() if block.page == ROOT / "README.md" or block.page.is_relative_to(DOCS)]
PARTS = [block for block in ALL if block.mark.startswith("part of ")]


def test_every_block_is_of_a_kind_that_is_checked() -> None:
    for block in ALL:
        assert any(re.fullmatch(kind, f"{block.language} {block.mark}") for kind in KINDS), block
        if block.mark == "run":
            assert block.page.parent.name == "tutorials", f"{block}: only tutorials are followed; name its test: run by"
        if block.mark.startswith("run by "):
            text = (ROOT / block.mark.removeprefix("run by ").partition("::")[0]).read_text(encoding="utf-8")
            assert block.page.name in text, f"{block}: its test does not read the page"
        if block.mark in CHECKED_BY:
            assert block.mark in (ROOT / CHECKED_BY[block.mark]).read_text(encoding="utf-8"), block


@pytest.mark.parametrize("block", PARTS, ids=str)
def test_a_part_of_a_config_fits_the_config_it_is_a_part_of(block: Block) -> None:
    name = block.mark.removeprefix("part of ")
    assert load_config([name, yaml.safe_load(block.text)]).saved() != shipped(name)


@functools.cache
def shipped(name: str) -> dict[str, Any]:
    return load_config([name]).saved()


def test_every_block_of_code_is_code() -> None:
    for block in ALL:
        if block.language == "toml":
            assert tomllib.loads(block.text), block
        if block.language == "python":
            assert ast.parse(block.text).body, block
