"""What the documentation says is so: configs, commands, plugins, public names, links, and the tests it names."""

from __future__ import annotations

import ast
import functools
import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import torch
import typer
import yaml

import medtrans
from medtrans.cli.app import app
from medtrans.cli.scaffold import Scaffold
from medtrans.config.loading import load_config
from tests.helpers.pages import DOCS, FENCE, PAGES, ROOT, Block, blocks


def commands() -> Iterator[tuple[Path, list[str]]]:
    """Every medtrans command printed in a shell block, and those in running text."""
    for block in blocks():
        if block.language == "bash":
            lines = [part.strip() for line in block.text.splitlines() for part in line.split("&&")]
            yield from (
                (block.page, shlex.split(line, comments=True)) for line in lines if line.startswith("medtrans ")
            )
    for page in PAGES:
        text = FENCE.sub("", page.read_text(encoding="utf-8"))
        yield from ((page, found.split()) for found in re.findall(r"`(medtrans [^`]+)`", text))


CONFIGS = [block for block in blocks() if block.mark.partition(" ")[0] == "config"]
PLUGINS = [block for block in blocks() if block.mark.startswith("plugin ")]
PRINTED = {" ".join(words): page.name for page, words in commands()}
READ_BY_HAND = [*ROOT.glob("*.md"), *ROOT.glob("plugins/*/README.md"), *ROOT.glob("benchmarks/**/*.md")]
"""Pages that are no part of the site, which checks its own links."""


@pytest.fixture
def reference(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """What makes the pages of the reference."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts" / "docs"))
    return import_module("reference_pages")


def test_the_reference_is_made_from_the_code_and_every_key_has_a_meaning(reference: ModuleType) -> None:
    made = {place: make() for place, make in reference.PAGES.items()}

    assert all(text.startswith("# ") for text in made.values())
    rows = re.findall(r"^\| `[^`]+` \|.*\| (.*) \|$", made["reference/config.md"], re.MULTILINE)
    assert len(rows) > 50
    assert all(rows)


def test_every_public_name_is_documented(reference: ModuleType) -> None:
    pages = (DOCS / "reference" / "api.md").read_text(encoding="utf-8") + reference.PAGES["reference/hooks.md"]()

    documented = set(re.findall(r"^::: medtrans\.(\w+)$", pages, re.MULTILINE))
    assert set(medtrans.__all__) - {"__version__"} == documented


@pytest.mark.parametrize("block", CONFIGS, ids=str)
def test_a_printed_config_is_accepted(block: Block) -> None:
    assert load_config([yaml.safe_load(block.text)]).config.output_dir


def test_the_printed_commands_exist(reference: ModuleType, tmp_path: Path) -> None:
    files = [plugin_file(PLUGINS[0], tmp_path), new_plugin(tmp_path)]
    verbs = import_module("reference_pages.cli_page").verbs
    known = {" ".join(call): verb for call, verb in verbs(typer.main.get_command(app))}
    for line, page in PRINTED.items():
        words = line.split()
        call = next(" ".join(words[:n]) for n in (3, 2, 1) if " ".join(words[:n]) in known)
        assert call != "medtrans" or words[1].startswith("-"), f"{page}: {line}: no verb {words[1]}"
        options = {"--help"} | {option for parameter in known[call].params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options, f"{page}: {line}"
        config = words[2] if call in ("medtrans run", "medtrans check") and len(words) > 2 else ""
        if (ROOT / "configs" / f"{config}.yaml").is_file():
            examples = [ROOT / word for word in words if word.startswith("docs/examples/")]
            overrides = [word for word in words if "=" in word]
            assert load_config([config], overrides, plugins=[*files, *examples]).config


@pytest.mark.parametrize("block", PLUGINS, ids=str)
def test_a_printed_generator_can_be_named_in_a_config(block: Block, tmp_path: Path) -> None:
    chosen = ["generator.name=small_unet:unet", "generator.options.width=4"]
    experiment = load_config(["quickstart"], chosen, plugins=[plugin_file(block, tmp_path)])

    network = experiment.build("generator", in_channels=1, out_channels=1, patch_size=(16, 16, 16))

    assert network(torch.zeros(1, 1, 16, 16, 16)).shape == (1, 1, 16, 16, 16)


def plugin_file(block: Block, folder: Path) -> Path:
    file = folder / block.mark.removeprefix("plugin ")
    file.write_text(block.text, encoding="utf-8")
    return file


def new_plugin(folder: Path) -> Path:
    """What `medtrans plugins new swin` writes, as a file."""
    file = folder / "swin.py"
    file.write_text(Scaffold("swin", "generator").rendered("kinds/generator.py"), encoding="utf-8")
    return file


@pytest.mark.parametrize("page", READ_BY_HAND, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_pages_beside_the_site_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        if not target.startswith(("http", "#")):
            assert (page.parent / target.partition("#")[0]).exists(), target


def test_every_promise_names_a_test_and_every_test_that_a_page_names_exists() -> None:
    """So that no promise loses its test in silence when tests move."""
    rows = re.findall(r"^\| (?!Promise|---)(.*) \| (.*) \|$", (DOCS / "reliability.md").read_text(), re.MULTILINE)
    assert len(rows) >= 50
    assert [promise for promise, kept_by in rows if "::test_" not in kept_by] == []
    for page in PAGES:
        for file, name in re.findall(r"((?:tests|plugins)/[\w/.-]+\.py)::(test_\w+)", page.read_text(encoding="utf-8")):
            assert name in names_run_of(ROOT / file), f"{page.name}: {file}::{name}"


def test_every_file_that_the_map_of_the_code_names_is_there() -> None:
    names = re.findall(r"`((?:\w+/)+\w*|\w+\.py)(?:\.py)?`", (DOCS / "architecture.md").read_text(encoding="utf-8"))
    assert len(names) > 80
    package = ROOT / "src" / "medtrans"
    homes = (package, ROOT)
    assert not [
        name for name in names if not any((home / f"{name}.py").is_file() or (home / name).exists() for home in homes)
    ]


@functools.cache
def names_run_of(path: Path) -> set[str]:
    """The names of a file's tests that are run: not skipped, not expected to fail."""
    functions = [node for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)]
    return {
        one.name
        for one in functions
        if not re.search(r"mark\.(skip\b|xfail)", " ".join(map(ast.unparse, one.decorator_list)))
    }


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))

    assert citation["version"] == medtrans.__version__
    assert citation["preferred-citation"]["url"].endswith("2412.00575")
