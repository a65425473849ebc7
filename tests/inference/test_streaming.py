"""An image translated in slabs, from file to file, is the image translated in memory."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import permutations, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nibabel.orientations import inv_ornt_aff

from medtrans.config.loading import load_config
from medtrans.data.preprocessing import make_preprocessing
from medtrans.errors import DataError, SetupError
from medtrans.inference import prediction
from medtrans.inference.streaming import NOT_COMPARED, refusal, translate_file
from medtrans.inference.translator import Translator
from medtrans.training.build import make_method
from medtrans.utils.memory import free_memory
from medtrans.volume import Grid, Volume, read, write
from medtrans.volume.planes import PlaneReader, written_planes
from tests.helpers.pairs import config_of

ORDERS = [
    np.column_stack([axes, signs]).astype(float)
    for axes in permutations(range(3))
    for signs in product((1, -1), repeat=3)
]
PERCENTILE = {"name": "percentile", "options": {"lower": 2.0, "upper": 98.0}}
WINDOW = {"name": "window", "options": {"range": [-50.0, 900.0]}}


def _translator(folder: Path, **changes: Any) -> Translator:
    usual = {
        "preprocess": {"intensity": {"t1": PERCENTILE, "t2": {"name": "zscore"}}},
        "inference": {"window": [8, 12, 8], "overlap": 0.3, "batch": 4},
    }
    experiment = load_config([config_of(folder, folder / "run"), usual, changes])
    torch.manual_seed(0)
    method = make_method(experiment, training_cases=None)
    with torch.no_grad():
        for head in method.networks()["generator"].heads:
            head.bias.fill_(0.5)  # an untrained network is near 0, where everything is clipped
    return Translator(experiment, method, make_preprocessing(experiment), {"t2": {"low": 10.0, "high": 400.0}})


def _head(order: np.ndarray, kind: type = np.float32, shape: tuple[int, int, int] = (19, 14, 23)) -> Volume:
    """A bright ellipsoid amid dark noise, stored in any of the 48 orders of axes."""
    rng = np.random.default_rng(3)
    middle = (np.indices(shape).T - (np.array(shape) - 1) / 2) / (np.array(shape) / 3)
    head = ((middle**2).sum(-1) < 1).T
    data = (head * rng.normal(600, 90, shape) + rng.normal(5, 2, shape)).clip(0, 2000).astype(kind)
    return Volume(data, np.diag([1.5, 2.0, 1.0, 1.0]) @ inv_ornt_aff(order, shape), 3)


def _assert_same_both_ways(translator: Translator, image: Volume, source: Path) -> None:
    write(image, source)
    whole = translator.translate(source)
    notes = translate_file(translator, source, {"t2": source.with_name("slabs.nii.gz")})
    assert notes == (*whole.notes, NOT_COMPARED)
    _assert_same(whole, read(source.with_name("slabs.nii.gz")))


def _assert_same(whole: Volume, slabs: Volume) -> None:
    assert np.ptp(whole.data) > 1
    np.testing.assert_allclose(slabs.data, whole.data, atol=1e-6 * float(np.abs(whole.data).max()) * 5, rtol=0)
    np.testing.assert_array_equal(slabs.affine, whole.affine.astype(np.float32))
    assert slabs.space_code == whole.space_code


def _named(order: np.ndarray) -> str:
    return "".join(f"{axis:+.0f}" for axis in (order[:, 0] + 1) * order[:, 1])


@pytest.fixture(scope="module")
def translator(tmp_path_factory: pytest.TempPathFactory) -> Translator:
    """Crops to the foreground and scales by percentiles, as runs do by default."""
    return _translator(tmp_path_factory.mktemp("percentile"))


USUAL = (0, 21, 46)


@pytest.mark.parametrize(
    "order",
    [pytest.param(one, marks=() if n in USUAL else pytest.mark.soak, id=_named(one)) for n, one in enumerate(ORDERS)],
)
def test_any_order_of_axes_goes_by_slabs(translator: Translator, tmp_path: Path, order: np.ndarray) -> None:
    _assert_same_both_ways(translator, _head(order), tmp_path / "head.nii")
    _assert_same_both_ways(translator, _head(order, np.int16), tmp_path / "packed.nii.gz")


@pytest.mark.parametrize(
    ("kind", "crop", "scaling"),
    [
        (np.float32, "none", {"name": "minmax"}),
        (np.int16, "foreground", {"name": "window", "options": {"range": [3.0, 80.0]}}),
        (np.uint8, "foreground", PERCENTILE),
    ],
)
def test_voxel_types_crops_and_scalings_go_by_slabs(tmp_path: Path, kind: type, crop: str, scaling: dict) -> None:
    image = _head(ORDERS[29])
    settings = {
        "crop": crop,
        "intensity": {"t1": scaling, "t2": {"name": "window", "options": {"range": [-99.0, 500.0]}}},
    }
    translator = _translator(tmp_path, preprocess=settings, inference={"overlap": None})  # measured on the network
    assert 0.25 <= translator.windows((19, 14, 23))["overlap"] <= 0.625
    small = Volume((image.data / 10).astype(kind), image.affine)
    _assert_same_both_ways(translator, small, tmp_path / "head.nii.gz")


def test_several_targets_are_written_at_once(tmp_path: Path) -> None:
    scalings = {"t1": PERCENTILE, "t2": WINDOW, "ct": {"name": "window"}}
    translator = _translator(tmp_path, target=["t2", "ct"], preprocess={"intensity": scalings})
    write(_head(ORDERS[11]), tmp_path / "head.nii")
    whole = translator.translate(tmp_path / "head.nii")
    outputs = {"t2": tmp_path / "t2.nii", "ct": tmp_path / "ct.nii"}
    translate_file(translator, tmp_path / "head.nii", outputs)
    for target, path in outputs.items():
        _assert_same(whole[target], read(path))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"preprocess": {"intensity": {"t1": {"name": "zscore"}}}}, "scaling of t1"),
        ({"preprocess": {"spacing_mm": [1.0, 1.0, 1.0]}}, "spacing_mm"),
        ({"source": ["t1", "pd"], "preprocess": {"intensity": {"pd": WINDOW}}}, "several sources"),
    ],
)
def test_what_does_not_go_by_slabs_is_said(tmp_path: Path, changes: dict, reason: str) -> None:
    write(_head(ORDERS[0]), tmp_path / "head.nii")
    translator = _translator(tmp_path, **changes)
    assert reason in (refusal(translator, tmp_path / "head.nii", masked=False) or "")
    with pytest.raises(SetupError, match="in slabs"):
        translate_file(translator, tmp_path / "head.nii", {"t2": tmp_path / "out.nii"})
    assert not (tmp_path / "out.nii").exists()


def test_an_image_goes_by_slabs_where_memory_is_too_small(translator, tmp_path, monkeypatch):
    image, output = tmp_path / "head.nii.gz", tmp_path / "out.nii.gz"
    monkeypatch.setattr(prediction, "load", lambda *given, plugins: translator)
    write(_head(ORDERS[0]), image)
    needed = prediction.VOLUMES_IN_MEMORY * 4 * 19 * 14 * 23
    for free, expected in ((needed, False), (needed - 1, True), (None, False)):
        monkeypatch.setattr(prediction, "free_memory", lambda free=free: free)
        list(prediction.predict(tmp_path, image, output, images={}, overwrite=True))
        assert (NOT_COMPARED in json.loads((tmp_path / "out.json").read_text())["notes"]) is expected
    monkeypatch.setattr(prediction, "free_memory", lambda: 10)
    with pytest.raises(SetupError, match="a mask is given"):
        list(prediction.predict(tmp_path, image, output, images={}, mask=image, overwrite=True))


@pytest.mark.parametrize("fault", ["constant", "weights", "cut"])
def test_a_fault_leaves_no_file(tmp_path: Path, fault: str) -> None:
    image, translator = _head(ORDERS[0]), _translator(tmp_path)
    if fault == "constant":
        image = Volume(np.full(image.shape, 7, np.float32), image.affine)
    write(image, tmp_path / "head.nii.gz")
    if fault == "cut":
        (tmp_path / "head.nii.gz").write_bytes((tmp_path / "head.nii.gz").read_bytes()[:-300])
    if fault == "weights":
        with torch.no_grad():
            translator.method.networks()["generator"].heads[0].bias.fill_(torch.nan)
    told = {"constant": "t1: every voxel is 7", "weights": "not finite", "cut": "incomplete|damaged|ends after"}
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match=told[fault]):
        translate_file(translator, tmp_path / "head.nii.gz", {"t2": tmp_path / "out" / "t2.nii.gz"})
    assert list((tmp_path / "out").iterdir()) == []


def test_predict_goes_by_slabs_where_it_is_asked_to(translator, tmp_path, medtrans, monkeypatch):
    monkeypatch.setattr("medtrans.inference.prediction.load", lambda *given, plugins: translator)
    source = tmp_path / "source"
    source.mkdir()
    write(_head(ORDERS[3], np.int16), source / "a.nii.gz")
    assert medtrans("predict", "run", str(source), str(tmp_path / "whole"))[0] == 0
    code, out, _ = medtrans("predict", "run", str(source), str(tmp_path / "slabs"), "--stream")
    assert (code, out.strip()) == (0, str(tmp_path / "slabs" / "a.nii.gz"))
    _assert_same(*(read(tmp_path / folder / "a.nii.gz") for folder in ("whole", "slabs")))
    facts = json.loads((tmp_path / "slabs" / "a.json").read_text())
    assert facts["ood"] is None
    assert NOT_COMPARED in facts["notes"]
    code, _, err = medtrans("predict", "run", str(source), str(tmp_path / "no"), "--stream", "--strict")
    assert (code, "--strict" in err) == (SetupError.exit_code, True)


def test_free_memory_is_that_of_the_machine_or_the_container(tmp_path: Path) -> None:
    machine, group = tmp_path / "meminfo", tmp_path / "cgroup"
    assert free_memory(machine, group) is None
    machine.write_text("MemTotal: 9000 kB\nMemAvailable:    4096 kB\n")
    assert free_memory(machine, group) == 4096 * 1024
    group.mkdir()
    (group / "memory.current").write_text("3000000\n")
    (group / "memory.stat").write_text("anon 1\ninactive_file 500000\nactive_file 200000\n")
    for limit, free in (("max\n", 4096 * 1024), ("4000000\n", 1_700_000), ("9999999999\n", 4096 * 1024)):
        (group / "memory.max").write_text(limit)
        assert free_memory(machine, group) == free


ROOT = Path(__file__).parents[2]
WINDOW_SIDE = 96  # of benchmarks/streaming.py
MIB = 2**20
ANYWAY = 128 * MIB  # what a window and a few planes take while they are translated
IN_MEMORY = 512  # the largest side that is translated in memory too


def _taken(way: str, folder: Path) -> int:
    """Bytes of anonymous memory beyond what the process had."""
    options = ["--way", way, "--folder", str(folder), "--crop", "foreground"]
    command = [sys.executable, "-m", "benchmarks.streaming", *options]
    found = json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return int(found["peak"] - found["before"])


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_slabs_take_memory_for_planes_and_not_for_the_volume(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    side = int(request.config.getoption("--streamed-side"))
    rng = np.random.default_rng(0)
    with written_planes(tmp_path / "source.nii", Grid((side,) * 3, np.eye(4))) as writer:
        for _ in range(side):
            writer.write(rng.random((1, side, side), dtype=np.float32) * np.float32(1000))
    slabs = _taken("slabs", tmp_path)
    assert slabs <= 2 * 4 * WINDOW_SIDE * side**2 + ANYWAY
    against = "source"
    if side <= IN_MEMORY:
        assert slabs <= 0.4 * _taken("memory", tmp_path)
        against = "memory"
    ways = [PlaneReader(tmp_path / f"{name}.nii").planes() for name in ("slabs", against)]
    pairs = zip(*ways, strict=True)
    assert max(float(np.abs(one - other).max()) for one, other in pairs) <= 1e-6 * 1000
