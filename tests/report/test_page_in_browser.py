"""The report as a reader opens it: in a browser, offline, with all its parts, and small enough to be sent."""

from __future__ import annotations

import itertools
import json
import re
import shlex
import shutil
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import medtrans
from medtrans.config.loading import load_config
from medtrans.errors import ConfigError
from medtrans.evaluation.pictures import ROLES, for_viewing
from medtrans.evaluation.scores import read_metrics_csv, write_metrics_csv
from medtrans.report.comparison import write_comparison
from medtrans.report.run_report import write_report
from medtrans.report.viewer import ViewedCase
from medtrans.utils.files import write_json
from medtrans.volume import Volume
from tests.helpers.chromium import BINARY, Page, opened
from tests.report.test_page import page as rendered

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


def test_ten_cases_take_less_than_8_mb_and_carry_no_volume_unless_asked(done: medtrans.RunFolder) -> None:
    assert json.loads(done.summary.read_text())["cases"] == CASES
    assert write_report(done).stat().st_size < 8_000_000
    assert "<script" not in done.report.read_text()


def test_small_volumes_lie_where_they_lay_and_of_large_ones_every_second_voxel_is_taken_along_the_finest_axes() -> None:
    target = np.full((30, 28, 26), -1000.0, dtype=np.float32)
    target[10:20, 9:22, 8:16] = np.linspace(-200, 3000, 10 * 13 * 8).reshape(10, 13, 8)
    affine, turn = (
        np.array([[-2.0, 0, 0, 40], [0, 2.0, 0.1, -20], [0, 0, 3.0, 7], [0, 0, 0, 1]]),
        np.diag([1, -1, 1, 1]),
    )
    turn[1, 3] = 27
    turned = Volume(np.flip(target, 1).astype(np.int16), affine @ turn)
    small = for_viewing({"source": Volume(target / 2, affine), "prediction": turned, "target": Volume(target, affine)})
    assert {volume.shape for volume in small.values()} == {(14, 17, 12)}  # two voxels around what is not empty
    i, j, k, _ = np.rint(np.linalg.solve(small["target"].affine, affine @ [15, 15, 12, 1])).astype(int)
    assert small["target"].data[i, j, k] == target[15, 15, 12]
    assert small["prediction"].data[i, j, k] == pytest.approx(target[15, 15, 12], abs=1)
    large = Volume(np.random.default_rng(0).random((256, 256, 40)).astype(np.float32), np.diag([1.0, 1.0, 3.0, 1.0]))
    small = for_viewing(dict.fromkeys(ROLES, large))
    np.testing.assert_array_equal(small["target"].data, large.data[::2, ::2])
    assert small["target"].spacing_mm == (2, 2, 3)


def test_a_run_that_kept_no_volumes_says_how_to_get_a_viewer(done: medtrans.RunFolder, tmp_path: Path) -> None:
    shutil.copytree(done.path, tmp_path / "copy")
    copy = medtrans.RunFolder(tmp_path / "copy")
    for path in copy.pictures.glob("*.nii.gz"):
        path.unlink()
    with pytest.raises(ConfigError, match="medtrans evaluate"):
        write_report(copy, viewer="inline")


SECTIONS = "[...document.querySelectorAll('h2')].map(one => one.textContent.trim())"

needs_chromium = pytest.mark.skipif(BINARY is None, reason="no Chromium is installed (apt-get install chromium)")


@needs_chromium
def test_a_browser_opens_the_report_and_its_viewer_without_an_error_or_a_request(
    done: medtrans.RunFolder, tmp_path: Path
) -> None:
    path = write_report(done, viewer="inline")
    with opened(path, tmp_path / "profile") as page:
        sections = page.evaluate(SECTIONS)
        assert sections[sections.index("Scores") :] == [
            "Scores", "Case by case", "Errors", "Pictures", "Viewer", "Can it be trusted?", "Worth to a segmenter",
            "Every case", "Training", "Data", "Methods, to paste", "Run it again", "Configuration", "Environment",
        ]  # fmt: skip
        assert page.evaluate("document.querySelectorAll('#pictures img').length") == 2
        assert (
            page.evaluate("document.querySelector('#first figcaption').innerText").count("median test case by psnr")
            == 1
        )
        assert page.evaluate("[...document.querySelectorAll('th')].every(one => one.scope)")
        assert page.evaluate("[...document.querySelectorAll('.scroll, pre')].every(one => one.tabIndex == 0)")
        assert page.evaluate("[...document.querySelectorAll('nav a')].every(one => document.querySelector(one.hash))")
        assert page.evaluate("[...document.images].every(one => one.complete && one.naturalWidth >= 900)")
        assert page.evaluate("document.querySelectorAll('#cases use title').length") == 2 * CASES
        assert page.evaluate("document.querySelectorAll('#downstream tbody tr').length") == 2
        for number in range(3):
            Viewer(page, number)
        assert page.evaluate("document.querySelector('.viewer output').innerText").count("HU") == 3
        for width in (1200, 390):
            page.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=True)
            assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        page.call("Emulation.setEmulatedMedia", media="print")
        page.call("Emulation.setDeviceMetricsOverride", width=720, height=900, deviceScaleFactor=1, mobile=False)
        boxes = "[...document.querySelectorAll('.scroll, pre')]"
        assert page.evaluate(f"{boxes}.every(one => one.scrollWidth <= one.clientWidth)")
        assert page.errors == []
        assert [url for url in page.requests if not url.startswith("data:")] == [path.as_uri()]


# The viewer shows the voxels of the volumes

OBLIQUE = [[0.0, -1.98, 0.4, 9], [-2.0, 0, 0, 31], [0, -0.28, -2.97, -4], [0, 0, 0, 1]]
AFFINES = (np.diag([2.0, 2.0, 3.0, 1.0]), np.array(OBLIQUE))  # the second counts to the back, left and down
SAID = (
    r"(.*) mm \(RAS\)\s+source (\S+) as in its file\s+prediction (\S+) HU\s+target (\S+) HU\s+"
    r"prediction - target (\S+) HU"
)
CROSSHAIR = """.querySelectorAll('.screen').values().map(screen => {
  const [canvas, upright, level] = screen.children;
  const [x, y] = [parseFloat(upright.style.left) / 100, parseFloat(level.style.top) / 100];
  const pixel = canvas.getContext('2d').getImageData(x * canvas.width, y * canvas.height, 1, 1).data;
  return {x, y, colour: [...pixel].slice(0, 3)};
}).toArray()"""


def planted(affine: np.ndarray) -> tuple[ViewedCase, dict[str, np.ndarray]]:
    """Noise with one brightest voxel in each image, and an empty border that is cut off."""
    data = {}
    for number, role in enumerate(ROLES):
        data[role] = np.random.default_rng(number).integers(0, 500, (20, 24, 16)).astype(np.float32)
        data[role][:3] = data[role][:, :, -2:] = 0
        data[role][9 + number, 8 + number, 5 + number] = 1023  # so that whole numbers are carried as they are
    return ViewedCase(
        "case_0001", "", for_viewing({role: Volume(one, affine) for role, one in data.items()}), "HU"
    ), data


class Viewer:
    """One case's viewer in a page, opened by its button."""

    def __init__(self, page: Page, number: int) -> None:
        self._page, self._card = page, f"document.querySelectorAll('.viewer')[{number}]"
        self.evaluate(".querySelector('button').click()")
        page.wait_for(f"{self._card}.dataset.state")
        assert self.evaluate(".dataset.state") == "ready"

    def evaluate(self, script: str) -> Any:
        return self._page.evaluate(self._card + script)

    def said(self) -> tuple[np.ndarray, list[float]]:
        """The position in mm, and the values under the crosshair."""
        found = re.fullmatch(SAID, self.evaluate(".querySelector('output').innerText").replace("−", "-"))
        assert found
        return np.array(found[1].split(","), dtype=float), [float(value) for value in found.groups()[1:]]

    def press(self, key: str, times: int) -> None:
        for _ in range(times):
            self._page.call("Input.dispatchKeyEvent", type="keyDown", key=key)

    def mouse(self, kind: str, number: int, right: float, down: float, **more: float | str) -> None:
        """An event of the mouse in a picture, in parts of its width and height."""
        canvas = f".querySelectorAll('canvas')[{number}]"
        self.evaluate(f"{canvas}.scrollIntoView({{block: 'center'}})")
        box = self.evaluate(f"{canvas}.getBoundingClientRect().toJSON()")
        x, y = box["x"] + right * box["width"], box["y"] + down * box["height"]
        self._page.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)


@needs_chromium
def test_the_viewer_shows_the_voxels_of_the_volumes_where_its_letters_say(tmp_path: Path) -> None:
    path, cases = tmp_path / "report.html", [planted(affine) for affine in AFFINES]
    path.write_text(rendered(viewed=[case for case, _ in cases]))
    with opened(path, tmp_path / "profile") as page:
        for number, (affine, (case, data)) in enumerate(zip(AFFINES, cases, strict=True)):
            viewer = Viewer(page, number)
            sides = "['left', 'right', 'top', 'bottom'].map(side => one.querySelector('.' + side).textContent).join('')"
            letters = viewer.evaluate(f".querySelectorAll('.screen').values().map(one => {sides}).toArray()")
            assert letters == ["RLAP"] * 4 + ["RLSI"] * 4 + ["APSI"] * 4
            box = viewer.evaluate(".querySelectorAll('.screen')[4].getBoundingClientRect().toJSON()")
            wide, _, high = np.multiply(case.volumes["target"].shape, case.volumes["target"].spacing_mm)
            assert box["height"] / box["width"] == pytest.approx(high / wide, rel=0.02)

            nearest = affine[:3, np.abs(affine[:3, :3]).argmax(axis=1)]
            towards_ras = nearest * np.sign(np.diag(nearest))  # where the keys lead, however the file counts its voxels
            for image, role in enumerate(ROLES):
                marker = np.unravel_index(data[role].argmax(), data[role].shape)
                place = affine[:3] @ [*marker, 1]
                steps = np.rint(np.linalg.solve(towards_ras, place - viewer.said()[0])).astype(int)
                for plus, minus, count in zip(
                    ("ArrowLeft", "ArrowUp", "PageUp"), ("ArrowRight", "ArrowDown", "PageDown"), steps, strict=True
                ):
                    viewer.press(plus if count > 0 else minus, abs(count))
                position, values = viewer.said()
                np.testing.assert_allclose(position, place, atol=0.06)
                source, prediction, target = (float(data[role][marker]) for role in ROLES)
                assert values == [source, prediction, target, prediction - target]
                drawn = [one["colour"] for one in viewer.evaluate(CROSSHAIR)]
                assert drawn[image::4] == [[255, 255, 255]] * 3  # axial, coronal, sagittal
                assert [np.sign(red - blue) for red, _, blue in drawn[3::4]] == [np.sign(prediction - target)] * 3

            for kind in ("mousePressed", "mouseReleased"):
                viewer.mouse(kind, 6, 0.3, 0.4, button="left")  # in the target's coronal slice
            drawn = viewer.evaluate(CROSSHAIR)[4]
            assert (drawn["x"], drawn["y"]) == (pytest.approx(0.3, abs=0.04), pytest.approx(0.4, abs=0.05))
            position, values = viewer.said()
            voxel = tuple(np.rint(np.linalg.solve(affine, [*position, 1])).astype(int)[:3])
            assert values[:3] == [data[role][voxel] for role in ROLES]
            viewer.mouse("mouseWheel", 6, 0.3, 0.4, deltaX=0, deltaY=80)  # two slices to the back
            np.testing.assert_allclose(viewer.said()[0], position - 2 * towards_ras[:, 1], atol=0.11)
        assert page.errors == []


def test_headings_go_down_by_one_step_at_a_time(done: medtrans.RunFolder, tmp_path: Path) -> None:
    """As those who move by headings need it: one h1, and below each heading none that leaves a level out."""
    other = medtrans.RunFolder(Path(shutil.copytree(done.path, tmp_path / "other")))
    for page in (write_report(done, viewer="inline"), write_comparison([done, other], tmp_path / "comparison.html")):
        levels = [int(level) for level in re.findall(r"<h([1-6])[ >]", page.read_text())]
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
        assert len(levels) > 8


@needs_chromium
def test_a_browser_opens_a_page_that_compares_runs(done: medtrans.RunFolder, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(done.path, other)
    text = (other / "config.yaml").read_text()
    (other / "config.yaml").write_text(text.replace("seed: 0", "seed: 7", 1))
    path = write_comparison([done, medtrans.RunFolder(other)], tmp_path / "comparison.html")
    assert path.stat().st_size < 1_500_000
    with opened(path, tmp_path / "profile") as page:
        assert (
            page.evaluate("[...document.querySelectorAll('#pictures .beside')].map(one => one.children.length)")
            == [2] * 3
        )
        assert len(page.evaluate("[...document.querySelectorAll('.verdict.open')].map(one => one.innerText)")) == 2
        assert "Gains over run 1 (unet, paired)" in page.evaluate(SECTIONS)
        text = page.evaluate("document.body.innerText")
        assert "seed: 0 -> 7" in text
        assert "better in 0 of 10" in text
        assert page.evaluate("document.querySelectorAll('#cases use title').length") == 2 * 2 * CASES
        assert page.errors == []
        assert [one for one in page.requests if not one.startswith("data:image/png")] == [path.as_uri()]


def test_runs_that_cannot_be_compared_are_refused_or_said_to_be(done: medtrans.RunFolder, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="given twice"):
        write_comparison([done, done], tmp_path / "comparison.html")
    other = tmp_path / "other"
    shutil.copytree(done.path, other)
    metrics = (other / "metrics.csv").read_text().splitlines()
    (other / "metrics.csv").write_text("\n".join(metrics[:-1]) + "\n")
    page = write_comparison([done, medtrans.RunFolder(other)], tmp_path / "comparison.html").read_text()
    assert "not compared: other cases, targets, protocol or intensities" in page
    summary = json.loads((other / "summary.json").read_text())
    for scores in summary["metrics"].values():
        scores["definition"] = "another"
    (other / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(ConfigError, match="share no score"):
        write_comparison([done, medtrans.RunFolder(other)], tmp_path / "comparison.html")
    assert "head_0" not in page
    assert str(tmp_path) not in page


def test_the_page_describes_the_data_and_the_methods_and_links_files_by_number(done: medtrans.RunFolder) -> None:
    text = unescape(write_report(done, viewer="none").read_text())
    for told in (
        "10 cases of 10 subjects", "24×28×26 voxels (median of 2 training cases)", "8.33×8.86×8.31 mm",
        "at percentiles 0.5, 50 and 99.5", "[-1024, 2000] HU, clipped", "from t1 to ct by a 3D unet",
        "The weights of step 20, the best psnr in validation, were tested.",
        "20 steps of 1 patch of 16×16×16 voxels", "Isola et al.", "Training took", "Translating one volume took",
    ):  # fmt: skip
        assert told in text, told
    links = [link for link in re.findall(r'href="([^"]*)"', text) if not link.startswith("#")]
    assert len(links) == 3 * 4 + 1
    assert all((done.path / link).exists() for link in links)
    cases = [row.case for row in read_metrics_csv(done.metrics)]
    assert not any(case in link for case in cases for link in links)


def test_errors_are_counted_over_all_voxels_that_count_and_kept_by_number(done: medtrans.RunFolder) -> None:
    found = done.read_json(done.errors)["ct"]
    assert found["unit"] == "HU"
    rows = {row.label: row for row in read_metrics_csv(done.metrics)}
    assert set(found["means"]) == set(rows)
    counts = np.array(found["counts"])
    assert counts[0] > 0 < counts[-1]
    middles = found["first"] + found["bin"] * (np.arange(len(counts)) + 0.5)
    # Without masks every voxel counts in both, and the mean over cases is that over voxels.
    mae = np.mean([row.values["mae"] for row in rows.values()])
    assert np.abs(middles) @ counts / counts.sum() == pytest.approx(mae, abs=found["bin"])
    bias = np.mean([made - true for made, true in found["means"].values()])
    assert middles @ counts / counts.sum() == pytest.approx(bias, abs=found["bin"])


def test_a_run_of_an_earlier_version_is_reported_without_what_it_did_not_keep(
    done: medtrans.RunFolder, tmp_path: Path
) -> None:
    old = medtrans.RunFolder(Path(shutil.copytree(done.path, tmp_path / "old")))
    old.errors.unlink()
    for path in old.pictures.glob("*.nii.gz"):
        path.unlink()
    shutil.rmtree(old.checkpoints)
    summary = old.read_json(old.summary)
    write_json(old.summary, {key: value for key, value in summary.items() if key not in ("scored_in", "verdicts")})
    text = write_report(old).read_text()
    assert "Bland" not in text
    assert "voxel size" not in text
    assert "10 cases of 10 subjects" in text


def test_a_comparison_says_in_words_with_corrected_p_which_run_is_better_and_names_no_folder(
    done: medtrans.RunFolder, tmp_path: Path
) -> None:
    """Ten subjects: 2 / 2^10 is the least p of a permutation test, and Holm's correction multiplies it by 4."""
    folders = [medtrans.RunFolder(Path(shutil.copytree(done.path, tmp_path / f"Canary{n}"))) for n in range(3)]
    for folder, psnr in zip(folders[1:], (2.0, 0.0), strict=True):
        rows = read_metrics_csv(folder.metrics)
        rows = [
            replace(row, values={"psnr": row.values["psnr"] + psnr, "mae": row.values["mae"] + (-1) ** place})
            for place, row in enumerate(rows)
        ]
        write_metrics_csv(folder.metrics, rows)
    # The third keeps pictures of other cases than the first two.
    for path in folders[2].pictures.glob("*.png"):
        path.unlink()
    text = unescape(write_comparison(folders, tmp_path / "comparison.html").read_text())
    verdicts = re.findall(r'class="verdict (\w+)">(.*?)</p>', text)
    assert [tone for tone, _ in verdicts] == ["good", "open", "open", "open"]
    assert "run 2 (unet, paired) is better than run 1 (unet, paired) in psnr" in verdicts[0][1]
    assert "p 0.008 after Holm" in verdicts[0][1]
    assert "cannot be told whether run 3" in verdicts[2][1]
    assert text.count("p 0.008</span>") == 1
    beside = re.findall(r'<div class="beside">(.*?)</div>', text, re.DOTALL)
    assert [re.findall("<figcaption>(run .)", one) for one in beside] == [["run 1", "run 2"]] * 3
    assert "Canary" not in text


def test_the_page_written_again_keeps_its_viewer_until_told_otherwise(done: medtrans.RunFolder, tmp_path: Path) -> None:
    copy = medtrans.RunFolder(Path(shutil.copytree(done.path, tmp_path / "copy")))
    carried = []
    for viewer in ("none", None, "inline", None, "none", None):
        write_report(copy, viewer=viewer)  # type: ignore[arg-type]  # the two words and None
        carried.append('<section id="viewer">' in copy.report.read_text())
    assert carried == [False, False, True, True, False, False]


def test_what_the_page_says_to_run_again_gives_the_same_experiment(done: medtrans.RunFolder, tmp_path: Path) -> None:
    config = yaml.safe_load(done.config.read_text())
    options = {"root": "/data/Jane", "images": {"t1": "{subject}/t1.nii.gz", "ct": "{subject}/ct.nii.gz"}}
    config["dataset"] = {"name": "paired_folders", "options": options}
    copy = medtrans.RunFolder(Path(shutil.copytree(done.path, tmp_path / "copy")))
    copy.config.write_text(yaml.safe_dump(config))
    write_report(copy)
    command, *_, text = (
        unescape(one) for one in re.findall("<pre[^>]*>(.*?)</pre>", copy.report.read_text(), re.DOTALL)
    )
    assert "Jane" not in text + command
    saved = tmp_path / "config.yaml"
    saved.write_text(text)
    kept_back = {"OUTPUT_DIR": str(tmp_path / "again"), "ROOT": options["root"], **{
        name.upper(): path for name, path in options["images"].items()
    }}  # fmt: skip
    program, verb, file, *overrides = shlex.split(command.replace("\\\n", " "))
    assert (program, verb, file) == ("medtrans", "run", "config.yaml")
    given = [re.sub(r'"(\w+)"$', lambda word: f'"{kept_back[word[1]]}"', one) for one in overrides]
    again = load_config([saved], given).config
    assert again == load_config([copy.config], [f"output_dir={tmp_path / 'again'}"]).config
