"""A whole run on a tiny phantom: what it leaves behind, and that stopping and swapping cost nothing."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import yaml
from torch import Tensor

import medtrans
from medtrans import checkpoint
from medtrans.errors import ConfigError, DataError, SetupError
from medtrans.types import Batch
from medtrans.volume import Volume, read, write

from .conftest import GENERATOR_PLUGIN, Install


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> medtrans.RunFolder:
    """One finished run that tests look at and do not change."""
    return medtrans.run(tiny_config(tmp_path_factory.mktemp("done") / "run"))


def tiny_config(folder: Path) -> dict[str, Any]:
    return {
        "output_dir": str(folder),
        "dataset": {"name": "phantom", "options": {"subjects": 5, "size": [24, 24, 24]}},
        "source": ["t1"],
        "target": ["t2"],
        "preprocess": {"intensity": {"t1": {"name": "percentile"}, "t2": {"name": "percentile"}}},
        "patch": {"size": [16, 16, 16]},
        "generator": {"name": "mdaunet", "options": {"preset": "fast", "width": 4, "growth": [4, 4]}},
        "discriminator": {"name": "multires_unet", "options": {"width": 2, "convs": 1}},
        "losses": {"l1": {}, "relativistic": {"weight": 1e-4}},
        "method": {"name": "paired", "options": {"ema": 0.9}},
        "train": {"steps": 4, "batch": 2, "workers": 0, "validate_every": 2, "checkpoint_every": 2},
        "inference": {"overlap": 0.25, "batch": 4},
    }


def final_weights(folder: medtrans.RunFolder) -> dict[str, bytes]:
    newest = checkpoint.newest(folder.checkpoints)
    assert newest is not None
    return {path.name: path.read_bytes() for path in newest.folder.glob("*.safetensors")}


def test_a_run_leaves_behind_what_the_docs_say(done: medtrans.RunFolder) -> None:
    left = {path.name for path in done.path.iterdir()}
    assert left >= {
        "config.yaml", "cases.csv", "environment.json", "log.txt", "status.json", "checkpoints", "tensorboard",
        "predictions", "metrics.csv", "summary.json", "report.html",
    }  # fmt: skip
    assert "run.lock" not in left
    assert json.loads(done.status.read_text())["state"] == "done"
    assert not list(done.path.rglob(".part-*"))


def test_a_run_keeps_what_it_cost_and_its_report_tells(done: medtrans.RunFolder) -> None:
    found = json.loads(done.costs.read_text())

    networks = medtrans.load(done.path).method.networks()
    assert found["parameters"] == {
        name: sum(one.numel() for one in networks[name].parameters()) for name in ("generator", "discriminator")
    }
    assert 0 < found["training"]["steps"] < yaml.safe_load(done.config.read_text())["train"]["steps"]
    assert found["training"]["seconds_per_step"] > 0
    assert found["training"]["memory_bytes"] > 2**20
    assert found["translation"]["volumes"] == done.read_json(done.summary)["cases"]
    assert found["translation"]["seconds_per_volume"] > 0
    assert f"{found['training']['seconds_per_step']:.3g} s a step" in done.report.read_text()


def test_the_summary_has_the_model_beside_the_three_trivial_baselines(done: medtrans.RunFolder) -> None:
    summary = json.loads(done.summary.read_text())
    assert set(summary["baselines"]) == {"source_linear", "source_lut", "training_mean"}
    for scores in (summary["metrics"], *summary["baselines"].values()):
        assert set(scores) == {"psnr", "ssim", "nmse", "mae"}
        assert {"mean", "sd", "median", "ci95", "n", "unit", "higher_is_better", "definition"} <= set(scores["psnr"])
    assert summary["cases"] == 1


def test_predictions_lie_on_their_sources_own_grid_and_say_what_they_are(done: medtrans.RunFolder) -> None:
    (path,) = done.predictions.glob("*.nii.gz")
    case = path.name.removesuffix("_t2.nii.gz")
    config = yaml.safe_load(done.config.read_text())
    dataset = medtrans.component("dataset", "phantom").factory(subjects=5, size=(24, 24, 24))
    source = next(one for one in dataset.cases() if one.case == case).images["t1"]()
    written = nibabel.load(path)
    assert written.shape == source.shape
    np.testing.assert_allclose(written.affine, source.affine, atol=1e-4)
    sidecar = json.loads(path.with_name(f"{case}_t2.json").read_text())
    assert "not for diagnosis" in sidecar["notice"]
    assert sidecar["intensities"].startswith("scaled with the median numbers")
    assert sidecar["numbers"]["high"] > sidecar["numbers"]["low"]
    assert float(np.asarray(written.dataobj).max()) <= sidecar["numbers"]["high"] * 1.001
    assert config["generator"]["name"] == "builtin:mdaunet"


def test_metrics_are_a_row_a_case_with_the_targets_hash(done: medtrans.RunFolder) -> None:
    with done.metrics.open() as file:
        (row,) = list(csv.DictReader(file))
    assert row["case"].startswith("head_")
    assert row["label"].startswith("case_")
    assert len(row["target_sha"]) == 64
    assert float(row["psnr"]) > 0


def test_what_is_shared_names_no_case_and_no_folder(done: medtrans.RunFolder) -> None:
    for path in (done.report, done.log, *done.path.rglob("manifest.json"), *done.path.rglob("events*")):
        content = path.read_bytes()
        assert b"head_00" not in content, path
        assert str(done.path).encode() not in content, path


def test_the_saved_config_runs_again_and_gives_the_same_weights(done: medtrans.RunFolder, tmp_path: Path) -> None:
    again = medtrans.run(done.config, [f"output_dir={tmp_path / 'again'}"])
    assert final_weights(again) == final_weights(done)
    assert (again.predictions / "x").parent.is_dir()
    assert again.metrics.read_text() == done.metrics.read_text()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_cut_short_and_resumed_ends_bit_for_bit_as_the_one_left_alone(
    done: medtrans.RunFolder, tmp_path: Path, workers: int
) -> None:
    config = tiny_config(tmp_path / "cut")
    config["train"] |= {"workers": workers}
    medtrans.run(config, ["train.steps=2"])
    resumed = medtrans.run(config, resume=True)
    assert final_weights(resumed) == final_weights(done)
    assert resumed.metrics.read_text() == done.metrics.read_text()


KILLER = """
import os, signal
from medtrans import Callback, Component, hookimpl

class Killer(Callback):
    def on_step(self, step, values):
        if step == 3:
            os.kill(os.getpid(), signal.SIGKILL)

@hookimpl
def medtrans_callbacks():
    return [Component("at_three", Killer)]
"""


def test_a_run_killed_between_two_checkpoints_and_resumed_ends_bit_for_bit_as_the_one_left_alone(
    tmp_path: Path,
) -> None:
    killer = tmp_path / "killer.py"
    killer.write_text(KILLER)

    def program(name: str, *words: str) -> subprocess.CompletedProcess[str]:
        config = tmp_path / f"{name}.yaml"
        config.write_text(yaml.safe_dump(tiny_config(tmp_path / name)))
        command = [sys.executable, "-m", "medtrans", "run", str(config), *words]
        return subprocess.run(command, check=False, capture_output=True, text=True)

    alone = program("alone")
    assert alone.returncode == 0, alone.stderr
    killed = program("cut", "callbacks={kill: {name: 'killer:at_three'}}", "--plugin", str(killer))
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    newest = checkpoint.newest(medtrans.RunFolder(tmp_path / "cut").checkpoints)
    assert newest is not None
    assert newest.step == 2
    resumed = program("cut", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert final_weights(medtrans.RunFolder(tmp_path / "cut")) == final_weights(medtrans.RunFolder(tmp_path / "alone"))


def test_resuming_with_another_config_names_what_differs(done: medtrans.RunFolder) -> None:
    before = done.summary.read_bytes()
    with pytest.raises(ConfigError, match=r"generator\.options\.width: 4 -> 8"):
        medtrans.run(done.config, ["generator.options.width=8"], resume=True)
    assert done.summary.read_bytes() == before


def test_a_folder_that_is_not_empty_needs_a_word(done: medtrans.RunFolder, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--resume, begin anew with --overwrite"):
        medtrans.run(done.config)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.doc").write_text("years of work")
    with pytest.raises(ConfigError, match="files that no run left"):
        medtrans.run(done.config, [f"output_dir={foreign}"], overwrite=True)
    assert (foreign / "thesis.doc").read_text() == "years of work"


def test_resuming_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing to resume"):
        medtrans.run(tiny_config(tmp_path / "none"), resume=True)
    assert not (tmp_path / "none").exists()


def test_a_second_run_in_the_same_folder_refuses(done: medtrans.RunFolder) -> None:
    done.lock.write_text(json.dumps({"host": "elsewhere", "process": 4121, "since": "10:02"}))
    try:
        with pytest.raises(SetupError, match="used by process 4121 on elsewhere since 10:02"):
            medtrans.run(done.config, resume=True)
    finally:
        done.lock.unlink()


def test_a_generator_from_an_installed_package_is_one_line(install: Install, tmp_path: Path) -> None:
    install("swin", GENERATOR_PLUGIN)
    folder = medtrans.run(
        tiny_config(tmp_path / "run"), ["generator.name=swin:small", "train.steps=1", "discriminator.options.levels=1"]
    )
    assert json.loads(folder.summary.read_text())["cases"] == 1
    assert yaml.safe_load(folder.config.read_text())["versions"]["medtrans-swin"] == "1.2.3"


def test_a_generator_from_a_file_is_one_line_and_the_run_keeps_its_copy(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(GENERATOR_PLUGIN)
    folder = medtrans.run(tiny_config(tmp_path / "run"), ["generator.name=mine:small", "train.steps=1"], plugins=[file])
    assert (folder.plugins / "mine.py").read_text() == GENERATOR_PLUGIN
    assert len(json.loads(folder.environment.read_text())["plugin_files"]["mine.py"]) == 64
    with pytest.raises(ConfigError, match="no plugin named 'mine'"):
        medtrans.load(folder.path)
    assert medtrans.load(folder.path, plugins=[file]).method.networks()["generator"] is not None


def test_weights_that_nothing_was_trained_on_translate_nothing(tmp_path: Path) -> None:
    config = tiny_config(tmp_path / "run")
    with pytest.raises(LookupError, match="at once"):
        medtrans.run(config, ["callbacks={fail: {name: 'failing:fail'}}"], plugins=[failing(tmp_path)])
    with pytest.raises(ConfigError, match="no trained weights yet"):
        medtrans.load(tmp_path / "run", plugins=[tmp_path / "failing.py"])
    config["train"] |= {"initialise_from": {"run": str(tmp_path / "run")}}
    with pytest.raises(ConfigError, match="no checkpoint of trained weights"):
        medtrans.run(config | {"output_dir": str(tmp_path / "other")})


def failing(folder: Path) -> Path:
    """A plugin whose callback fails in the first step."""
    file = folder / "failing.py"
    file.write_text(
        "from medtrans import Callback, Component, hookimpl\n"
        "class Fail(Callback):\n"
        "    def on_step(self, step, values):\n"
        "        raise LookupError('at once')\n"
        "@hookimpl\n"
        "def medtrans_callbacks():\n"
        "    return [Component('fail', Fail)]\n"
    )
    return file


def test_load_translates_files_arrays_and_volumes_alike(done: medtrans.RunFolder, tmp_path: Path) -> None:
    translator = medtrans.load(done.path)
    rng = np.random.default_rng(0)
    affine = np.diag([-3.0, 3.0, 3.5, 1.0])
    array = rng.random((21, 19, 23)).astype(np.float32) * 500
    write(Volume(array, affine), tmp_path / "t1.nii.gz")
    from_file = translator.translate(tmp_path / "t1.nii.gz")
    from_array = translator.translate(array, affine)
    from_volume = translator.translate({"t1": Volume(array, affine)})
    for volume in (from_file, from_array, from_volume):
        assert isinstance(volume, Volume)
        assert volume.shape == array.shape
        np.testing.assert_array_equal(volume.data, from_array.data)  # type: ignore[union-attr]  # one target
    with pytest.raises(DataError, match="no place in the world"):
        translator.translate(array)
    with pytest.raises(DataError, match="translates from t1; found t2"):
        translator.translate({"t2": array}, affine)


def test_predict_writes_on_the_input_grid_and_never_over_a_file(done: medtrans.RunFolder, tmp_path: Path) -> None:
    from medtrans.prediction import predict

    affine = np.array([[0, 0, 3.0, 5], [-3.0, 0, 0, 7], [0, 3.2, 0, -9], [0, 0, 0, 1]])
    write(Volume(np.random.default_rng(1).random((20, 17, 22)).astype(np.float32), affine), tmp_path / "in.nii.gz")
    (written,) = predict(done.path, tmp_path / "in.nii.gz", tmp_path / "out.nii.gz", images={})
    assert read(written).grid.distance_mm(read(tmp_path / "in.nii.gz").grid) < 1e-4
    with pytest.raises(ConfigError, match="is there already"):
        list(predict(done.path, tmp_path / "in.nii.gz", tmp_path / "out.nii.gz", images={}))


def test_ranks_share_out_the_images_to_predict(
    done: medtrans.RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medtrans.launchers import environment_of_rank
    from medtrans.prediction import predict

    (tmp_path / "in").mkdir()
    for name in "abc":
        image = Volume(np.random.default_rng(1).random((16, 16, 16)).astype(np.float32), np.diag([3.0, 3.0, 3.0, 1.0]))
        write(image, tmp_path / "in" / f"{name}.nii.gz")
    shares = []
    for rank in (0, 1):
        for name, value in environment_of_rank(rank, 2, 29500).items():
            monkeypatch.setenv(name, value)
        shares.append([path.name for path in predict(done.path, tmp_path / "in", tmp_path / "out", images={})])
    assert shares == [["a.nii.gz", "c.nii.gz"], ["b.nii.gz"]]


def test_predict_given_the_mask_does_what_the_run_did_and_warns_without(
    done: medtrans.RunFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from medtrans.prediction import predict

    (own,) = done.predictions.glob("*.nii.gz")
    dataset = medtrans.component("dataset", "phantom").factory(subjects=5, size=(24, 24, 24))
    images = next(one for one in dataset.cases() if own.name.startswith(one.case)).images
    for folder, modality in (("in", "t1"), ("masks", "mask")):
        (tmp_path / folder).mkdir()
        write(images[modality](), tmp_path / folder / "scan.nii.gz")
    (written,) = predict(done.path, tmp_path / "in", tmp_path / "out", images={}, mask=tmp_path / "masks")
    np.testing.assert_allclose(read(written).data, read(own).data, rtol=1e-5)
    assert "give its mask" not in caplog.text
    (bare,) = predict(done.path, tmp_path / "in" / "scan.nii.gz", tmp_path / "bare.nii.gz", images={})
    assert "give its mask (predict --mask)" in caplog.text
    assert np.abs(read(bare).data - read(own).data).max() > 1
    with pytest.raises(DataError, match=r"no such file .*nothing \(1 of 1 masks"):
        list(predict(done.path, tmp_path / "in", tmp_path / "o", images={}, mask=tmp_path / "nothing"))


def test_fixed_scalings_are_scored_and_written_in_native_units(tmp_path: Path) -> None:
    config = tiny_config(tmp_path / "run") | {"target": ["ct"]}
    window = {"name": "window", "options": {"range": [-1024.0, 3000.0]}}
    config["preprocess"] = {"intensity": {"t1": {"name": "percentile"}, "ct": window}}
    config["train"] |= {"steps": 1}
    folder = medtrans.run(config)
    summary = json.loads(folder.summary.read_text())
    assert summary["metrics"]["mae"]["unit"] == "HU"
    assert "4024" in summary["metrics"]["psnr"]["definition"]
    (path,) = folder.predictions.glob("*_ct.nii.gz")
    values = read(path).data
    assert -1024.5 <= values.min() < values.max() <= 3000.5
    assert json.loads(path.with_name(path.name.replace(".nii.gz", ".json")).read_text())["unit"] == "HU"
    unseen = medtrans.load(folder.path).translate(Volume(np.random.default_rng(0).random((20, 18, 22)), np.eye(4)))
    assert isinstance(unseen, Volume)
    assert -1024.5 <= unseen.data.min() < unseen.data.max() <= 3000.5


def test_what_may_be_a_mistake_is_said_before_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = tiny_config(tmp_path / "run") | {"patch": {"size": [16, 16, 32]}, "losses": {"l1": {}}}
    config["train"] |= {"steps": 1}
    medtrans.run(config)
    assert "patch.size 16×16×32 does not fit" in caplog.text
    assert "no loss trains it" in caplog.text


def test_several_sources_and_targets(tmp_path: Path) -> None:
    config = tiny_config(tmp_path / "run") | {"source": ["t1", "pd"], "target": ["t2", "flair"]}
    config["preprocess"] = {"intensity": {name: {"name": "percentile"} for name in ("t1", "pd", "t2", "flair")}}
    config["train"] |= {"steps": 1, "best": "psnr"}
    folder = medtrans.run(config)
    assert set(json.loads(folder.summary.read_text())["metrics"]) >= {"psnr_t2", "psnr_flair"}
    assert {path.name.rpartition("_")[2] for path in folder.predictions.glob("*.nii.gz")} == {
        "t2.nii.gz",
        "flair.nii.gz",
    }


def test_weights_may_come_from_another_run(done: medtrans.RunFolder, tmp_path: Path) -> None:
    config = tiny_config(tmp_path / "run")
    config["train"] |= {
        "steps": 1,
        "initialise_from": {"run": str(done.path)},
        "optimizer": {"name": "sgd", "options": {"lr": 1e-12}},
    }
    folder = medtrans.run(config)
    best = checkpoint.best(done.checkpoints)
    assert best is not None
    theirs, mine = best.networks()["generator"], checkpoint.newest(folder.checkpoints).networks()["generator"]  # type: ignore[union-attr]  # it has one
    for name in theirs:
        if "_u" not in name and "_v" not in name:
            np.testing.assert_allclose(mine[name].numpy(), theirs[name].numpy(), atol=1e-6)


def test_check_finds_out_all_before_the_first_step_and_writes_nothing(tmp_path: Path) -> None:
    report = medtrans.check(tiny_config(tmp_path / "run"))
    assert report.splits == {"train": 3, "validation": 1, "test": 1}
    assert report.ready
    assert report.parameters["generator"] > 0
    assert "ready to run" in str(report)
    assert not (tmp_path / "run").exists()


def test_check_names_a_part_that_does_not_work(tmp_path: Path) -> None:
    report = medtrans.check(tiny_config(tmp_path / "run"), ["losses.relativistic.options.level_weights=[1.0]"])
    assert (report.ready, report.exit_code) == (False, SetupError.exit_code)
    assert any("level_weights" in fault for fault in report.faults)


@pytest.mark.parametrize(
    "name",
    [
        "hcp_t1_t2",
        "dhcp_t2_t1",
        "brats_t2_flair",
        "brats_t2_flair_downstream",
        "brats_t1_t1ce",
        "synthrad_mr_ct",
        "synthrad_cbct_ct",
    ],
)
def test_a_published_experiment_lacks_only_its_data(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        medtrans.check(name, [f"dataset.options.root={tmp_path / 'nothing'}"])
    assert str(tmp_path / "nothing") in str(error.value)


def test_a_patch_that_the_network_cannot_take_is_cut_larger(tiny: dict[str, Any]) -> None:
    tiny |= {"patch": {"size": [12, 16, 20]}, "generator": {"name": "unet", "options": {"width": 2, "levels": 3}}}
    seen: list[tuple[int, ...]] = []

    class Watching(medtrans.PairedMethod):
        def training_step(self, batch: Batch, step: int) -> dict[str, Tensor]:
            seen.append(tuple(batch.source.shape))
            return super().training_step(batch, step)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("medtrans.builtin.methods.paired.PairedMethod", Watching)
        medtrans.run(tiny)
    assert set(seen) == {(2, 1, 16, 16, 24)}


PIX2PIX = [
    "generator={name: unet, options: {width: 4, levels: 2}}",
    "discriminator={name: patchgan, options: {width: 4, layers: 1}}",
    "losses.relativistic=null",
    "losses.lsgan.weight=0.01",
]


def test_pix2pix_is_one_line_for_each_network_and_its_losses(tiny: dict[str, Any]) -> None:
    folder = medtrans.run(tiny, PIX2PIX)
    assert set(final_weights(folder)) == {"generator.safetensors", "discriminator.safetensors"}
    assert len(list(folder.predictions.glob("*.nii.gz"))) == 1


BEGINS_WITH_A_FILE = '''
"""A generator that begins with the bias of a file."""
from pathlib import Path

from torch import nn

from medtrans import Component, ConfigError, hookimpl


class Begun(nn.Module):
    """One voxel-wise map.

    Args:
        weights: the file.
    """

    def __init__(self, in_channels: int, out_channels: int, initialise: bool = True, *, weights: Path) -> None:
        super().__init__()
        self.body = nn.Conv3d(in_channels, out_channels, 1)
        if initialise:
            if not weights.is_file():
                raise ConfigError(f"no weights at {weights}")
            nn.init.constant_(self.body.bias, float(weights.read_text()))

    def forward(self, source):
        return self.body(source)


@hookimpl
def medtrans_generators():
    return [Component("begun", Begun)]
'''


def test_a_generator_needs_the_file_it_begins_with_until_it_is_trained(tmp_path: Path) -> None:
    plugin, weights = tmp_path / "begins.py", tmp_path / "bias.txt"
    plugin.write_text(BEGINS_WITH_A_FILE)
    weights.write_text("0.25")
    config = tiny_config(tmp_path / "run") | {
        "generator": {"name": "begins:begun", "options": {"weights": str(weights)}},
        "discriminator": None,
        "losses": {"l1": {}},
        "method": {"name": "paired"},
        "train": {"steps": 1, "workers": 0, "optimizer": {"name": "sgd", "options": {"lr": 1e-9}}},
    }
    folder = medtrans.run(config, plugins=[plugin])
    weights.unlink()
    with pytest.raises(ConfigError, match=r"generator: no weights at .*bias\.txt"):
        medtrans.run(config, [f"output_dir={tmp_path / 'again'}"], plugins=[plugin])
    network = medtrans.load(folder.path, plugins=[plugin]).method.networks()["generator"]
    assert network.get_parameter("body.bias").item() == pytest.approx(0.25, abs=1e-6)


def test_a_source_without_its_target_is_predicted_in_the_unit_of_a_fixed_scaling(tmp_path: Path) -> None:
    config = tiny_config(tmp_path / "run") | {"target": ["ct"]}
    window = {"name": "window", "options": {"range": [-1024.0, 3000.0]}}
    config["preprocess"] = {"intensity": {"t1": {"name": "percentile"}, "ct": window}}
    config["train"] |= {"steps": 1}
    folder = medtrans.run(config)
    case = medtrans.component("dataset", "phantom").factory(subjects=1, size=(24, 24, 24)).cases()[0]
    predicted = medtrans.load(folder.path).translate(case.images["t1"]())
    assert isinstance(predicted, Volume)
    assert -1024.5 <= predicted.data.min() < predicted.data.max() <= 3000.5


def test_an_image_unlike_those_of_training_is_warned_of_and_refused_where_that_is_asked(
    done: medtrans.RunFolder, tmp_path: Path
) -> None:
    from medtrans.prediction import predict

    source, output = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    case = medtrans.component("dataset", "phantom").factory(subjects=6, size=(24, 24, 24)).cases()[5]
    usual = case.images["t1"]()
    write(usual, source / "usual.nii.gz")
    affine = usual.affine.copy()
    affine[:3, :3] *= 5
    write(Volume(usual.data, affine), source / "coarse.nii.gz")
    refusal = "coarse.nii.gz: out of distribution: spacing i"
    with pytest.raises(DataError, match=refusal):
        list(predict(done.path, source, output, images={}, strict=True))
    assert [path.name for path in sorted(output.glob("*.nii.gz"))] == ["usual.nii.gz"]
    list(predict(done.path, source, output, images={}, overwrite=True))
    facts = {path.stem: json.loads(path.read_text()) for path in output.glob("*.json")}
    assert {name: one["ood"] for name, one in facts.items()} == {"usual": False, "coarse": True}
    assert any("spacing i [mm]" in note for note in facts["coarse"]["notes"])


def test_the_run_leaves_behind_what_it_watched_for(done: medtrans.RunFolder) -> None:
    found = json.loads(done.faithfulness.read_text())
    assert set(found) == {"cases", "out_of_distribution", "copy_through", "collapse", "lesions"}
    assert found["cases"] == 1
    assert found["lesions"]["inserted"] > 0
