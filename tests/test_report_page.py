"""The report as a reader opens it: in a browser, offline, with all its parts, and small enough to be sent."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
from importlib.resources import files
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from matplotlib import image

import medtrans
from medtrans.errors import ConfigError, SetupError
from medtrans.runreport import write_report
from medtrans.strips import strip_chart
from medtrans.viewer import carried, viewer_script
from medtrans.volume import Volume

from .chromium import BINARY, opened

CASES = 10


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> medtrans.RunFolder:
    """A run with ten test cases and everything a report can show."""
    small = {"name": "unet", "options": {"width": 2, "levels": 2, "convs": 0}}
    window = {"name": "window", "options": {"range": [-1024.0, 2000.0]}}
    return medtrans.run(
        {
            "output_dir": str(tmp_path_factory.mktemp("report") / "run"),
            "dataset": {"name": "phantom", "options": {"subjects": 13, "size": [24, 28, 26], "lesions": True}},
            "source": ["t1"],
            "target": ["ct"],
            "split": {"by": "fractions", "train": 0.15, "validation": 0.08, "test": 0.77},
            "preprocess": {"intensity": {"t1": {"name": "percentile"}, "ct": window}},
            "patch": {"size": [16, 16, 16]},
            "generator": small,
            "discriminator": None,
            "losses": {"l1": {}},
            "callbacks": {},
            "metrics": {"psnr": {}, "mae": {}},
            "train": {
                "steps": 20, "batch": 1, "workers": 0, "validate_every": 10, "checkpoint_every": 20,
                "optimizer": {"name": "adam", "options": {"lr": 1e-2}},
            },
            "inference": {"window": [28, 28, 28]},
            "faithfulness": {"lesion_cases": 1, "lesions": [17]},
            "downstream": {
                "labels": {"bone": [4, 5]},
                "seeds": 1,
                "arms": ["tstr"],
                "segmenter": {"generator": small, "callbacks": {}, "train": {"steps": 1, "batch": 1}},
            },
        }
    )  # fmt: skip


def test_ten_cases_take_less_than_8_mb_without_the_viewer(done: medtrans.RunFolder) -> None:
    assert json.loads(done.summary.read_text())["cases"] == CASES
    assert write_report(done).stat().st_size < 8_000_000
    assert "niivue" not in done.report.read_text()


def test_the_viewer_that_is_carried_is_the_published_one_with_its_licences() -> None:
    folder = files("medtrans") / "templates" / "niivue"
    content = (folder / "niivue.umd.js").read_bytes()
    published = "47b896b77ec4a5be3ef1949c33ad393b6f45629921f326c279000bcf51bdb4af"
    assert hashlib.sha256(content).hexdigest() == published
    assert (folder / "SHA256SUMS").read_text() == f"{published}  niivue.umd.js\n"
    assert "BSD 2-Clause License" in (folder / "LICENSE").read_text()
    notices = (folder / "THIRD_PARTY_NOTICES").read_text()
    for package in ("fflate", "gl-matrix", "nifti-reader-js", "zarrita", "numcodecs", "@lukeed/uuid"):
        assert f"\n{package} " in notices, package
    assert viewer_script() == content.decode()


def test_a_changed_viewer_is_not_handed_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    niivue = tmp_path / "templates" / "niivue"
    shutil.copytree(str(files("medtrans") / "templates" / "niivue"), niivue)
    monkeypatch.setattr("medtrans.viewer.files", lambda package: tmp_path)
    assert viewer_script()
    with (niivue / "niivue.umd.js").open("a") as file:
        file.write("fetch('elsewhere')")
    with pytest.raises(SetupError, match="has been changed"):
        viewer_script()
    (niivue / "niivue.umd.js").unlink()
    with pytest.raises(SetupError, match="is missing"):
        viewer_script()


def test_a_carried_volume_lies_where_it_lay_and_keeps_its_intensities(tmp_path: Path) -> None:
    data = np.full((30, 28, 26), -1000.0, dtype=np.float32)
    data[10:20, 9:22, 8:16] = np.linspace(-200, 1500, 10 * 13 * 8).reshape(10, 13, 8)
    affine = np.array([[-2.0, 0, 0, 40], [0, 2.0, 0.1, -20], [0, 0, 3.0, 7], [0, 0, 0, 1]])
    path = tmp_path / "carried.nii.gz"
    path.write_bytes(carried(Volume(data, affine), (-1000.0, 1500.0)))
    stored = nibabel.load(path)
    assert np.prod(stored.shape) < data.size
    assert stored.get_data_dtype() == np.uint8
    assert (float(stored.header["cal_min"]), float(stored.header["cal_max"])) == (-1000, 1500)
    world = affine @ [15, 15, 12, 1]
    i, j, k, _ = np.rint(np.linalg.solve(stored.affine, world)).astype(int)
    np.testing.assert_allclose(stored.affine @ [i, j, k, 1], world, atol=1e-3)
    assert np.asarray(stored.dataobj)[i, j, k] == pytest.approx(data[15, 15, 12], abs=2500 / 255)


def test_large_volumes_are_carried_by_every_second_voxel() -> None:
    rng = np.random.default_rng(0)
    large = Volume(rng.random((140, 140, 140)).astype(np.float32), np.eye(4))
    assert len(gzip.decompress(carried(large, (0.0, 1.0)))) < 352 + 71**3


def test_a_run_that_kept_no_volumes_says_how_to_get_a_viewer(done: medtrans.RunFolder, tmp_path: Path) -> None:
    shutil.copytree(done.path, tmp_path / "copy")
    copy = medtrans.RunFolder(tmp_path / "copy")
    for path in copy.pictures.glob("*.nii.gz"):
        path.unlink()
    with pytest.raises(ConfigError, match="medtrans evaluate"):
        write_report(copy, viewer="inline")


def test_a_strip_has_a_dot_for_every_case_where_its_value_is() -> None:
    cases = [(f"case_{n:04d}", float(value)) for n, value in enumerate([1, 2, 3, 3, 3, 4, 9])]
    chart = strip_chart("mae [HU]", {"": [*cases, ("case_0099", float("inf"))]}, marks={"lut": 5.0, "none": None})
    (strip,) = chart.strips
    assert len(strip.dots) == len({(dot.x, dot.y) for dot in strip.dots}) == 7
    assert strip.missing == 1
    places = {dot.title.split(":")[0]: dot.x for dot in strip.dots}
    assert places["case_0002"] == places["case_0003"] == strip.median
    assert chart.left <= places["case_0000"] < places["case_0001"] < places["case_0006"] <= chart.right
    (mark,) = chart.marks
    assert mark.label == "lut"
    assert places["case_0005"] < mark.x < places["case_0006"]
    assert all(0 <= dot.y <= chart.bottom for dot in strip.dots)


def test_strips_of_nothing_and_of_one_value_can_be_drawn() -> None:
    nothing = strip_chart("psnr", {"a": [], "b": [("x", float("nan"))]})
    assert [strip.median for strip in nothing.strips] == [None, None]
    assert nothing.ticks == ()
    assert strip_chart("psnr", {"": [("x", 3.0)]}).strips[0].median is not None


def sections(page: Any) -> list[str]:
    found: list[str] = page.evaluate("[...document.querySelectorAll('h2')].map(one => one.textContent.trim())")
    return found


CANVAS = "document.querySelectorAll('.viewer canvas')[1]"
PLACES = "document.querySelector('.viewer').innerText.match(/[-0-9., ]+ mm:/g).map(one => one.trim())"

needs_chromium = pytest.mark.skipif(BINARY is None, reason="no Chromium is installed (apt-get install chromium)")


@needs_chromium
def test_a_browser_opens_the_report_and_its_viewer_without_an_error_or_a_request(
    done: medtrans.RunFolder, tmp_path: Path
) -> None:
    path = write_report(done, viewer="inline")
    with opened(path, tmp_path / "profile") as page:
        assert sections(page) == [
            "Scores", "Case by case", "Pictures", "Viewer", "Can it be trusted?", "Worth to a segmenter", "Every case",
            "Training", "Run it again", "Configuration", "Environment",
        ] or sections(page)[0] == "Warnings"  # fmt: skip
        assert page.evaluate("document.querySelectorAll('#pictures img').length") == 3
        assert page.evaluate("[...document.images].every(one => one.complete && one.naturalWidth >= 900)")
        assert page.evaluate("document.querySelectorAll('#cases circle').length") == 2 * CASES
        assert page.evaluate("document.querySelectorAll('#downstream tbody tr').length") == 2
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        page.evaluate("document.querySelector('.viewer button').click()")
        page.wait_for("document.querySelector('.viewer').dataset.state", seconds=120)
        assert page.evaluate("document.querySelector('.viewer').dataset.state") == "ready"
        said = page.evaluate("[...document.querySelectorAll('.viewer')][0].innerText")
        assert said.count(" mm: ") == 3
        assert "HU" in said
        before = page.evaluate(PLACES)
        assert len(set(before)) == 1
        page.evaluate(f"{CANVAS}.scrollIntoView({{block: 'center'}})")
        x, y, width = page.evaluate(f"(r => [r.x, r.y, r.width])({CANVAS}.getBoundingClientRect())")
        for kind in ("mousePressed", "mouseReleased"):
            page.call(
                "Input.dispatchMouseEvent", type=kind, x=x + 0.2 * width, y=y + 0.2 * width, button="left", clickCount=1
            )
        page.wait_for(f"JSON.stringify({PLACES}) !== JSON.stringify({json.dumps(before)})")
        assert len(set(page.evaluate(PLACES))) == 1  # the three crosshairs have moved together
        page.screenshot(tmp_path / "pane.png", left=x, top=page.evaluate("scrollY") + y, width=width, height=width)
        drawn = image.imread(tmp_path / "pane.png")[..., :3].max(axis=2)
        assert (drawn > 0.3).mean() > 0.05
        assert (drawn < 0.05).mean() > 0.05
        assert page.errors == []
        assert [url for url in page.requests if not url.startswith(("data:", "blob:", "file:"))] == []
        assert [url for url in page.requests if url.startswith("file:")] == [path.as_uri()]


@needs_chromium
def test_a_browser_opens_a_page_that_compares_runs(done: medtrans.RunFolder, tmp_path: Path) -> None:
    from medtrans.comparison_report import write_comparison

    other = tmp_path / "other"
    shutil.copytree(done.path, other)
    text = (other / "config.yaml").read_text()
    (other / "config.yaml").write_text(text.replace("seed: 0", "seed: 7", 1))
    path = write_comparison([done, medtrans.RunFolder(other)], tmp_path / "comparison.html")
    assert path.stat().st_size < 1_000_000
    with opened(path, tmp_path / "profile") as page:
        assert "Gains over run" in sections(page)
        text = page.evaluate("document.body.innerText")
        assert "seed: 0 -> 7" in text
        assert "better in 0 of 10" in text
        assert page.evaluate("document.querySelectorAll('#cases circle').length") == 2 * 2 * CASES
        assert page.errors == []
        assert page.requests == [path.as_uri()]


def test_runs_that_cannot_be_compared_are_refused_or_said_to_be(done: medtrans.RunFolder, tmp_path: Path) -> None:
    from medtrans.comparison_report import write_comparison

    with pytest.raises(ConfigError, match="given twice"):
        write_comparison([done, done], tmp_path / "comparison.html")
    other = tmp_path / "other"
    shutil.copytree(done.path, other)
    metrics = (other / "metrics.csv").read_text().splitlines()
    (other / "metrics.csv").write_text("\n".join(metrics[:-1]) + "\n")
    page = write_comparison([done, medtrans.RunFolder(other)], tmp_path / "comparison.html").read_text()
    assert "not compared: Only the same cases can be compared" in page
    summary = json.loads((other / "summary.json").read_text())
    for scores in summary["metrics"].values():
        scores["definition"] = "another"
    (other / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(ConfigError, match="share no score"):
        write_comparison([done, medtrans.RunFolder(other)], tmp_path / "comparison.html")
    assert "head_0" not in page
    assert str(tmp_path) not in page
