"""The fenced blocks of the documentation: where they stand, what is said of each, and how a page is run."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md"))]
FENCE = re.compile(
    r"(?:<!-- (?P<mark>[^>]*?) -->\n)?^```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^```", re.MULTILINE | re.DOTALL
)
CONFIGURED = ("run", "check")
"""The verbs whose config takes overrides."""

Verb = Callable[..., tuple[int, str, str]]


@dataclass(frozen=True)
class Block:
    """A fenced block with the HTML comment right above it.

    Args:
        page: where it stands.
        mark: the comment's text; CONTRIBUTING.md says what there may be.
        language: as fenced.
        text: inside.
    """

    page: Path
    mark: str
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}: {self.text.strip().partition(chr(10))[0][:40]}"


def blocks(page: Path | None = None) -> list[Block]:
    """All blocks of a page, or of all of them."""
    return [
        Block(one, found["mark"] or "", found["language"], found["text"])
        for one in ([page] if page else PAGES)
        for found in FENCE.finditer(one.read_text(encoding="utf-8"))
    ]


def block_of(page: Path, mark: str) -> Block:
    """The one block of a page with this mark."""
    (found,) = [block for block in blocks(page) if block.mark == mark]
    return found


def shown_words(page: Path) -> list[str]:
    """The words of the page's short form."""
    return shlex.split(block_of(page, "short").text)


def follow(page: Path, medtrans: Verb) -> None:
    """Do what a page says, in the folder one is in: write its files, run its blocks, in order and in the short form.

    Lines that begin with `medtrans` are run in this process, since a process of its own takes seconds to start; all
    else is run by bash, or by Python.

    Args:
        page: whose blocks are followed.
        medtrans: runs a command; gives exit code, stdout and stderr.
    """
    short = shown_words(page)
    for block in blocks(page):
        kind, _, name = block.mark.partition(" ")
        if kind in ("config", "plugin", "file") and name:
            Path(name).write_text(block.text, encoding="utf-8")
        elif kind == "run" and block.language == "python":
            subprocess.run([sys.executable, "-c", block.text], check=True, env=environment())
        elif kind == "run":
            run_shell(block.text, short, medtrans)


def run_shell(text: str, short: Sequence[str], medtrans: Verb) -> None:
    """Run a shell block line by line where all it does is call medtrans, and by bash where it does more."""
    lines = text.strip().splitlines()
    if not all(line.startswith("medtrans ") and "||" not in line for line in lines):
        subprocess.run(["bash", "-euo", "pipefail", "-c", with_short(text, short)], check=True, env=environment())
        return
    for line in lines:
        words = shlex.split(with_short(line, short), comments=True)
        code, out, err = medtrans(*words[1:])
        assert code == 0, f"{line}\n{out}{err}"


def with_short(text: str, short: Sequence[str]) -> str:
    """The overrides behind each `medtrans run` and `medtrans check`, where they win."""
    behind = " ".join(map(shlex.quote, short))
    return re.sub(
        rf"^medtrans (?:{'|'.join(CONFIGURED)}) [^|&#\n]*[^|&#\s]", rf"\g<0> {behind}", text, flags=re.MULTILINE
    )


def environment() -> dict[str, str]:
    """That of this process, where `medtrans`, `python` and `torchrun` are this interpreter's, on one thread."""
    own = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": own, "OMP_NUM_THREADS": "1"}
