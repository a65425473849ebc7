"""Prediction killed (-9) at any moment: what has its final name is whole and right, and the rest is absent."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import medtrans
from medtrans.inference.export.writer import export
from medtrans.inference.prediction import predict
from medtrans.volume import read, write

pytest_plugins = ["tests.helpers.trained_runs"]

CASES = 3
KILL = """
import os, random, signal, sys, time, warnings
from pathlib import Path
warnings.simplefilter("ignore")
from medtrans.inference import loading, prediction
model, images, root = map(Path, sys.argv[1:4])
trials, seed = int(sys.argv[4]), sys.argv[5]
translator = loading.load(model)
prediction.load = lambda *given, plugins: translator
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
def model(done: medtrans.RunFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(done.path, tmp_path_factory.mktemp("exported") / "model")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for case in medtrans.component("dataset", "phantom").factory(subjects=CASES, size=(16, 16, 16)).cases():
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
    assert stopped_early(model, images, tmp_path, 8) >= 3


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_what_has_its_final_name_is_whole_two_hundred_times(model: Path, images: Path, tmp_path: Path) -> None:
    assert stopped_early(model, images, tmp_path, 200) >= 100


def test_what_a_killed_prediction_left_half_written_is_no_image_of_the_next(
    model: Path, images: Path, tmp_path: Path
) -> None:
    source = tmp_path / "images"
    source.mkdir()
    (source / ".part-abc.nii.gz").write_bytes(b"half")
    image = next(images.iterdir())
    (source / image.name).write_bytes(image.read_bytes())
    assert [path.name for path in predict(model, source, tmp_path / "out", images={})] == [image.name]
    assert read(tmp_path / "out" / image.name).shape == (16, 16, 16)
