"""What README.md and the guides print runs: the commands on one short run, the Python with what its text speaks of."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import nibabel
import numpy as np
import pytest

import medtrans as package
from medtrans.volume import write
from tests.conftest import Medtrans
from tests.helpers.pages import DOCS, ROOT, block_of, blocks, run_shell, shown_words

TUTORIAL = DOCS / "tutorials" / "quickstart.md"
COMMANDS = "run by tests/docs/test_guides.py::test_the_commands_of_the_readme_and_the_guides_work"
SNIPPETS = "run by tests/docs/test_guides.py::test_the_python_of_a_guide_runs"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_commands_of_the_readme_and_the_guides_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, medtrans: Medtrans
) -> None:
    """Those of README.md, how-a-run-works.md and api.md, in the quickstart's short form."""
    monkeypatch.chdir(tmp_path)
    short = shown_words(TUTORIAL)
    run_shell("medtrans run quickstart", short, medtrans)
    phantom_file("t1", Path("scan.nii.gz"))
    plugin = block_of(ROOT / "README.md", "plugin small_unet.py")
    Path("small_unet.py").write_text(plugin.text)
    for page in (ROOT / "README.md", DOCS / "concepts" / "how-a-run-works.md"):
        for block in (block for block in blocks(page) if block.mark == COMMANDS):
            run_shell(block.text, short, medtrans)
    assert Path("translated.nii.gz").is_file()
    assert Path("runs/again/report.html").is_file()
    assert Path("runs/small_unet/report.html").is_file()

    (block,) = [block for block in blocks(DOCS / "reference" / "api.md") if block.mark == COMMANDS]
    phantom_file("t1", Path("t1.nii.gz"))
    run, shortened = package.run, [word for word in short if not word.startswith("train.steps")]
    monkeypatch.setattr(package, "run", lambda name, words: run(name, [*words, *shortened, "train.steps=6"]))
    names: dict[str, Any] = {}
    exec(compile(block.text, "api.md", "exec"), names)
    assert names["scores"]["psnr"]["mean"] > 0
    assert names["translated"].data.ndim == 3


def phantom_file(modality: str, path: Path) -> None:
    """An image of a phantom, as a file."""
    case = package.component("dataset", "phantom").factory(subjects=1, size=(24, 24, 24)).cases()[0]
    path.parent.mkdir(parents=True, exist_ok=True)
    write(case.images[modality](), path)


def small_unet() -> ModuleType:
    """The plugin of the tutorial, which plugin.md speaks of."""
    file = Path("small_unet.py")
    file.write_text(block_of(DOCS / "tutorials" / "first-plugin.md", "plugin small_unet.py").text, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("small_unet", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def of_plugins() -> dict[str, Any]:
    """What the reader of plugin.md has written so far, and two networks that it only names."""
    own = small_unet().SmallUNet
    return {
        "Component": package.Component,
        "SmallUNet": own,
        "LargeNet": type("LargeNet", (own,), {}),
        "Pretrained": type("Pretrained", (own,), {}),
    }


def of_preprocessing() -> dict[str, Any]:
    """The files that preprocessing.md names."""
    phantom_file("t1", Path("sub-01/t1.nii.gz"))
    phantom_file("mask", Path("sub-01/mask.nii.gz"))
    return {"medtrans": package, "my_subjects": list}


def of_volumes() -> dict[str, Any]:
    """A file that volumes.md mends."""
    phantom_file("t1", Path("scan.nii.gz"))
    return {}


def after_plugins(names: dict[str, Any]) -> None:
    assert names["network"].sizes == names["same"].sizes


def after_preprocessing(names: dict[str, Any]) -> None:
    assert set(names["case"].images) == {"t1", "mask"}
    np.testing.assert_allclose(names["back"].numpy()[0], names["image"].data)
    assert names["Mine"]().cases() == []


def after_volumes(names: dict[str, Any]) -> None:
    assert int(nibabel.load("scan_placed.nii.gz").header["qform_code"]) == 0


GUIDES: dict[str, tuple[Callable[[], dict[str, Any]], Callable[[dict[str, Any]], None]]] = {
    "plugin.md": (of_plugins, after_plugins),
    "preprocessing.md": (of_preprocessing, after_preprocessing),
    "reference/volumes.md": (of_volumes, after_volumes),
}


@pytest.mark.parametrize("page", GUIDES)
def test_the_python_of_a_guide_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before, after = GUIDES[page]
    names = before()
    for block in blocks(DOCS / page):
        if block.mark == SNIPPETS:
            exec(compile(block.text, page, "exec"), names)
    after(names)
