"""Each tutorial can be followed as it is printed, in the short form that it prints too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.conftest import Medtrans
from tests.helpers.pages import DOCS, blocks, follow, shown_words

TUTORIALS = sorted((DOCS / "tutorials").glob("*.md"))
LEAVES = {
    "quickstart": ["runs/quickstart/report.html", "runs/without_gan/report.html", "runs/t1_to_ct/report.html"],
    "own-data": ["runs/mine/report.html", "translated.nii.gz", "translated", "model/README.md", "again.nii.gz"],
    "mr-to-ct": ["runs/mr_to_ct/report.html", "runs/synthrad/report.html"],
    "first-plugin": ["runs/small_unet/plugins/small_unet.py", "runs/small_unet/report.html"],
    "compare": ["tables/comparison.tex", "comparison.html"],
    "cluster": [f"translated/head_00{n}.nii.gz" for n in range(1, 6)],
}
"""What lies there when a page has been followed."""


def test_every_tutorial_is_followed() -> None:
    assert {page.stem for page in TUTORIALS} == set(LEAVES)
    for page in TUTORIALS:
        assert [block for block in blocks(page) if block.mark == "run"], page
        assert all("=" in word for word in shown_words(page))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_a_tutorial_can_be_followed_as_it_is_printed(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, medtrans: Medtrans
) -> None:
    monkeypatch.chdir(tmp_path)
    follow(page, medtrans)
    for name in LEAVES[page.stem]:
        assert Path(name).exists(), name
    for status in Path("runs").glob("*/status.json"):
        assert json.loads(status.read_text())["state"] == "done", status
        config = yaml.safe_load(status.with_name("config.yaml").read_text())
        assert config["train"]["steps"] == 6, "the short form reached the run"
