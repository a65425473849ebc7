"""What the documentation says is so: pages made from the code, configs, commands, plugins, names and links."""

from __future__ import annotations

import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import typer
import yaml
from PIL import Image

import medtrans
from medtrans.cli import app
from medtrans.config import load_config
from medtrans.pictures import png_bytes
from medtrans.scaffold import Scaffold

from .pages import DOCS, FENCE, PAGES, ROOT, Block, blocks

GENERATED = ("cli.md", "components.md", "config.md", "hooks.md")


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
COMMANDS = [pytest.param(words, id=f"{page.name}: {' '.join(words)}") for page, words in commands()]


@pytest.fixture
def generate(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """`docs/generate.py` as a module."""
    monkeypatch.syspath_prepend(str(DOCS))
    yield import_module("generate")
    for name in [name for name in sys.modules if name.partition(".")[0] in ("generate", "generators")]:
        del sys.modules[name]


def test_the_generated_pages_say_what_the_code_says(generate: ModuleType) -> None:
    assert generate.stale_pages() == [], "run python docs/generate.py"


def test_a_page_that_differs_from_the_code_is_named(
    generate: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in GENERATED:
        (tmp_path / name).write_text((DOCS / "reference" / name).read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "config.md").write_text("train.steps: 7\n", encoding="utf-8")
    monkeypatch.setattr(generate, "REFERENCE", tmp_path)
    monkeypatch.setattr(sys, "argv", ["generate.py", "--check"])

    assert generate.main() == 1
    said = capsys.readouterr().out
    assert "docs/reference/config.md: is out of date" in said
    assert said.count("\n") == 1


def test_every_key_has_a_meaning(generate: ModuleType) -> None:
    rows = re.findall(r"^\| `[^`]+` \|.*\| (.*) \|$", generate.pages()["config.md"], re.MULTILINE)

    assert len(rows) > 50
    assert all(rows)


@pytest.mark.parametrize("block", CONFIGS, ids=str)
def test_a_printed_config_is_accepted(block: Block) -> None:
    assert load_config([yaml.safe_load(block.text)]).config.output_dir


def test_the_pages_print_configs_and_plugins() -> None:
    assert {block.page.name for block in CONFIGS} >= {"own-data.md", "mr-to-ct.md", "phantom.md"}
    assert {block.page.name for block in PLUGINS} == {"README.md", "first-plugin.md"}


def test_the_config_of_the_real_scans_is_accepted() -> None:
    assert load_config([DOCS / "real_scans.yaml"]).config.dataset.name == "paired_folders"


@pytest.mark.parametrize("words", COMMANDS)
def test_a_printed_command_exists(words: list[str], generate: ModuleType, tmp_path: Path) -> None:
    known = {
        " ".join(call): verb for call, verb in import_module("generators.cli_page").verbs(typer.main.get_command(app))
    }
    call = next(" ".join(words[:n]) for n in (3, 2, 1) if " ".join(words[:n]) in known)
    assert call != "medtrans" or words[1].startswith("-"), f"no verb {words[1]}"
    options = {"--help"} | {option for parameter in known[call].params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options

    shipped = ROOT / "configs" / f"{words[2] if len(words) > 2 else ''}.yaml"
    if call in ("medtrans run", "medtrans check") and shipped.is_file():
        overrides = [word for word in words if "=" in word]
        files = [plugin_file(PLUGINS[0], tmp_path), new_plugin(tmp_path)]
        files += [ROOT / word for word in words if word.startswith("docs/examples/")]
        assert load_config([words[2]], overrides, plugins=files).config


@pytest.mark.parametrize("block", PLUGINS, ids=str)
def test_a_printed_generator_can_be_named_in_a_config(block: Block, tmp_path: Path) -> None:
    chosen = ["generator.name=small_unet:unet", "generator.options.width=4"]
    experiment = load_config(["quickstart"], chosen, plugins=[plugin_file(block, tmp_path)])

    network = experiment.build("generator", in_channels=1, out_channels=1, patch_size=(16, 16, 16))

    assert network(torch.zeros(1, 1, 16, 16, 16)).shape == (1, 1, 16, 16, 16)
    assert len(block.text.splitlines()) <= 45


def plugin_file(block: Block, folder: Path) -> Path:
    file = folder / block.mark.removeprefix("plugin ")
    file.write_text(block.text, encoding="utf-8")
    return file


def new_plugin(folder: Path) -> Path:
    """What `medtrans plugins new swin` writes, as a file."""
    file = folder / "swin.py"
    file.write_text(Scaffold("swin", "generator").rendered("kinds/generator.py"), encoding="utf-8")
    return file


def test_the_readme_has_the_two_commands() -> None:
    marked = {block.mark: block for block in blocks() if block.page == ROOT / "README.md" and block.language == "bash"}

    endings = {"quickstart": "medtrans run configs/quickstart.yaml", "tests": "python -m pytest -n 2 --dist worksteal"}
    for mark, ending in endings.items():
        command = marked[mark].text.strip()
        assert "\n" not in command
        assert command.endswith(ending)
    assert (ROOT / "configs" / "quickstart.yaml").is_file()


def test_every_public_name_is_documented() -> None:
    pages = "".join((DOCS / "reference" / name).read_text(encoding="utf-8") for name in ("api.md", "hooks.md"))
    documented = set(re.findall(r"^::: medtrans\.(\w+)$", pages, re.MULTILINE))

    assert set(medtrans.__all__) - {"__version__"} == documented


def test_every_core_dependency_has_a_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {re.split(r"[<>=\[ ]", dependency)[0] for dependency in project["dependencies"]}
    given = "".join(path.read_text(encoding="utf-8") for path in (DOCS / "changelog").glob("*.md"))
    reasons = {
        name for row in re.findall(r"^\| (`.*`) \|", given, re.MULTILINE) for name in re.findall(r"`([^`]+)`", row)
    }

    assert names == reasons


@pytest.mark.parametrize("page", [page for page in PAGES if page.parent == ROOT], ids=lambda page: page.name)
def test_links_of_the_top_level_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (ROOT / target.partition("#")[0]).exists(), target


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))

    assert citation["version"] == medtrans.__version__
    assert citation["preferred-citation"]["url"].endswith("2412.00575")


def test_the_readmes_picture_is_the_one_a_run_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(DOCS))
    (tmp_path / "pictures").mkdir()
    drawn = np.random.default_rng(0).integers(0, 255, (8, 12, 4), dtype=np.uint8)
    (tmp_path / "pictures" / "median_case_0001.png").write_bytes(png_bytes(drawn[..., :3]))
    import_module("quickstart_picture").main(tmp_path, tmp_path / "small.png")
    sys.modules.pop("quickstart_picture")

    with Image.open(tmp_path / "small.png") as made, Image.open(DOCS / "quickstart.png") as shown:
        assert made.size == (12, 8)
        assert shown.mode == made.mode == "P"
    assert (DOCS / "quickstart.png").stat().st_size < 150_000
