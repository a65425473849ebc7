"""Prediction killed (-9) at any moment: what has its final name is whole and right, and the rest is absent."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import medtrans
from medtrans.export import export
from medtrans.prediction import predict
from medtrans.volume import Volume, read, write

CASES = 4
KILL = """
import os, random, signal, sys, time, warnings
from pathlib import Path
warnings.simplefilter("ignore")
from medtrans import atomic, inference, prediction
model, images, root = map(Path, sys.argv[1:4])
trials, seed = int(sys.argv[4]), sys.argv[5]
translator = inference.load(model)
prediction.load = lambda run, plugins: translator
draw = random.Random(seed)


def begin(folder, before=lambda: None):
    folder.mkdir()
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        before()
        list(prediction.predict(model, images, folder, images={}))
        os._exit(0)
    return child


def kill_at(count):
    left = [count]

    def counted(real):
        def call(*args, **options):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **options)

        return call

    os.fsync = counted(os.fsync)
    Path.replace = counted(Path.replace)
    Path.open = counted(Path.open)


begun = time.monotonic()
os.waitpid(begin(root / "whole"), 0)
whole = time.monotonic() - begun
for trial in range(trials):
    if trial % 2:
        child = begin(root / f"aimed-{trial}", lambda: kill_at(draw.randrange(1, 60)))
    else:
        child = begin(root / f"random-{trial}")
        time.sleep(draw.uniform(0, whole))
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config: dict[str, Any] = {
        "output_dir": str(tmp_path_factory.mktemp("run") / "run"),
        "dataset": {"name": "phantom", "options": {"subjects": 3, "size": [16, 16, 16]}},
        "source": ["t1"],
        "target": ["t2"],
        "preprocess": {"intensity": {"t1": {"name": "percentile"}, "t2": {"name": "percentile"}}},
        "patch": {"size": [16, 16, 16]},
        "generator": {"name": "mdaunet", "options": {"preset": "fast", "width": 4, "growth": [4, 4]}},
        "discriminator": None,
        "losses": {"l1": {}},
        "split": {"by": "fractions", "train": 0.34, "validation": 0.33, "test": 0.33},
        "train": {"steps": 1, "batch": 1, "workers": 0},
    }
    return export(medtrans.run(config).path)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    phantom = medtrans.component("dataset", "phantom").factory(subjects=CASES, size=(20, 20, 20))
    for case in phantom.cases():
        write(case.images["t1"](), folder / f"{case.case}.nii.gz")
    return folder


def stopped_early(model: Path, images: Path, root: Path, trials: int) -> int:
    """Kill so many predictions and look at what each left; how many were stopped before their last file."""
    subprocess.run([sys.executable, "-c", KILL, model, images, root, str(trials), root.name], check=True)
    expected = {path.name: read(path).data.tobytes() for path in (root / "whole").glob("*.nii.gz")}
    sidecar = next((root / "whole").glob("*.json")).read_text()
    assert len(expected) == CASES
    early = 0
    for folder in sorted(root.iterdir()):
        final = [path for path in folder.iterdir() if not path.name.startswith(".")]
        for path in final:
            if path.suffix == ".json":
                assert path.read_text() == sidecar, path
                assert (folder / f"{path.stem}.nii.gz").exists(), path
            else:
                assert read(path).data.tobytes() == expected[path.name], path
        early += len(final) < 2 * CASES
    assert len(list(root.iterdir())) == trials + 1
    return early


def test_what_has_its_final_name_is_whole(model: Path, images: Path, tmp_path: Path) -> None:
    assert stopped_early(model, images, tmp_path, 20) >= 10


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_what_has_its_final_name_is_whole_two_hundred_times(model: Path, images: Path, tmp_path: Path) -> None:
    assert stopped_early(model, images, tmp_path, 200) >= 100


def test_what_a_killed_prediction_left_half_written_is_no_image_of_the_next(
    model: Path, images: Path, tmp_path: Path
) -> None:
    source = tmp_path / "images"
    source.mkdir()
    (source / ".part-abc.nii.gz").write_bytes(b"half")
    image = next(iter(sorted(images.iterdir())))
    (source / image.name).write_bytes(image.read_bytes())
    written = list(predict(model, source, tmp_path / "out", images={}))
    assert [path.name for path in written] == [image.name]
    assert isinstance(read(written[0]), Volume)
    assert json.loads((tmp_path / "out" / image.name.replace(".nii.gz", ".json")).read_text())["target"] == "t2"
