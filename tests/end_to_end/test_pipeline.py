"""A whole run on a tiny phantom: what it leaves behind, and that stopping and swapping cost nothing."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import yaml
from torch import Tensor

import medtrans
from medtrans.distributed.launch import environment_of_rank
from medtrans.errors import ConfigError, DataError, SetupError
from medtrans.inference.prediction import predict
from medtrans.runs import checkpoint
from medtrans.types import Batch
from medtrans.volume import Volume, read, write
from tests.conftest import GENERATOR_PLUGIN

pytest_plugins = ["tests.helpers.trained_runs"]


def final_weights(folder: medtrans.RunFolder) -> dict[str, bytes]:
    newest = checkpoint.newest(folder.checkpoints)
    assert newest is not None
    return {path.name: path.read_bytes() for path in newest.folder.glob("*.safetensors")}


def phantoms() -> Any:
    """The subjects of the finished run."""
    return medtrans.component("dataset", "phantom").factory(subjects=5, size=(24, 24, 24)).cases()


def test_a_run_leaves_behind_what_the_docs_say(done: medtrans.RunFolder) -> None:
    left = {path.name for path in done.path.iterdir()}
    assert left >= {
        "config.yaml", "cases.csv", "environment.json", "log.txt", "status.json", "checkpoints", "tensorboard",
        "predictions", "metrics.csv", "summary.json", "report.html",
    }  # fmt: skip
    assert "run.lock" not in left
    assert json.loads(done.status.read_text())["state"] == "done"
    assert not list(done.path.rglob(".part-*"))
    watched = json.loads(done.faithfulness.read_text())
    assert set(watched) == {"cases", "out_of_distribution", "copy_through", "collapse", "lesions"}
    assert watched["lesions"]["inserted"] > 0


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
    with done.metrics.open() as file:
        (row,) = list(csv.DictReader(file))
    assert len(row["target_sha"]) == 64
    assert float(row["psnr"]) == pytest.approx(summary["metrics"]["psnr"]["mean"])


def test_predictions_lie_on_their_sources_own_grid_and_say_what_they_are(done: medtrans.RunFolder) -> None:
    (path,) = done.predictions.glob("*.nii.gz")
    case = path.name.removesuffix("_t2.nii.gz")
    source = next(one for one in phantoms() if one.case == case).images["t1"]()
    written = nibabel.load(path)
    assert written.shape == source.shape
    np.testing.assert_allclose(written.affine, source.affine, atol=1e-4)
    sidecar = json.loads(path.with_name(f"{case}_t2.json").read_text())
    assert "not for diagnosis" in sidecar["notice"]
    assert sidecar["intensities"].startswith("scaled with the median numbers")
    assert sidecar["numbers"]["high"] > sidecar["numbers"]["low"]
    assert float(np.asarray(written.dataobj).max()) <= sidecar["numbers"]["high"] * 1.001


def test_the_saved_config_runs_again_and_cut_short_and_resumed_with_workers_to_the_same_bits(
    done: medtrans.RunFolder, tmp_path: Path
) -> None:
    other = f"output_dir={tmp_path / 'again'}"
    medtrans.run(done.config, [other, "train.steps=2"])
    again = medtrans.run(done.config, [other, "train.workers=1"], resume=True)
    assert final_weights(again) == final_weights(done)
    assert again.metrics.read_text() == done.metrics.read_text()


def test_resuming_with_another_config_or_what_is_no_run_is_refused(done: medtrans.RunFolder, tmp_path: Path) -> None:
    before = done.summary.read_bytes()
    with pytest.raises(ConfigError, match=r"generator\.options\.width: 4 -> 8"):
        medtrans.run(done.config, ["generator.options.width=8"], resume=True)
    assert done.summary.read_bytes() == before
    shutil.copy(done.config, tmp_path / "config.yaml")
    with pytest.raises(ConfigError, match="no run left"):
        medtrans.run(tmp_path / "config.yaml", [f"output_dir={tmp_path}"], resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_a_folder_that_is_not_empty_needs_a_word(done: medtrans.RunFolder, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--resume.*--overwrite"):
        medtrans.run(done.config)
    (tmp_path / "thesis.doc").write_text("years of work")
    with pytest.raises(ConfigError, match="files that no run left"):
        medtrans.run(done.config, [f"output_dir={tmp_path}"], overwrite=True)
    assert (tmp_path / "thesis.doc").read_text() == "years of work"


def test_a_generator_from_a_file_is_one_line_and_the_run_keeps_its_copy(tiny: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(GENERATOR_PLUGIN)
    folder = medtrans.run(tiny, ["generator.name=mine:small", "train.steps=1"], plugins=[file])
    assert (folder.plugins / "mine.py").read_text() == GENERATOR_PLUGIN
    assert len(json.loads(folder.environment.read_text())["plugin_files"]["mine.py"]) == 64
    with pytest.raises(ConfigError, match="no plugin named 'mine'"):
        medtrans.load(folder.path)
    assert medtrans.load(folder.path, plugins=[file]).method.networks()["generator"] is not None


FAILING = """
from medtrans import Callback, Component, hookimpl

class Fail(Callback):
    def on_step(self, step, values):
        raise LookupError("at once")

@hookimpl
def medtrans_callbacks():
    return [Component("fail", Fail)]
"""


def test_weights_that_nothing_was_trained_on_translate_nothing(tiny: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "failing.py"
    file.write_text(FAILING)
    with pytest.raises(LookupError, match="at once"):
        medtrans.run(tiny, ["callbacks={fail: {name: 'failing:fail'}}"], plugins=[file])
    with pytest.raises(ConfigError, match="no trained weights yet"):
        medtrans.load(tmp_path / "run", plugins=[file])
    tiny["train"]["initialise_from"] = {"run": str(tmp_path / "run")}
    with pytest.raises(ConfigError, match="no checkpoint of trained weights"):
        medtrans.run(tiny, [f"output_dir={tmp_path / 'other'}"])


def test_load_translates_files_arrays_and_volumes_alike(done: medtrans.RunFolder, tmp_path: Path) -> None:
    translator = medtrans.load(done.path)
    affine = np.diag([-3.0, 3.0, 3.5, 1.0])
    array = np.random.default_rng(0).random((21, 19, 23)).astype(np.float32) * 500
    write(Volume(array, affine), tmp_path / "t1.nii.gz")
    translated = [
        translator.translate(tmp_path / "t1.nii.gz"),
        translator.translate(array, affine),
        translator.translate({"t1": Volume(array, affine)}),
    ]
    for volume in translated:
        assert isinstance(volume, Volume)
        assert volume.shape == array.shape
        np.testing.assert_array_equal(volume.data, translated[0].data)  # type: ignore[union-attr]  # one target
    with pytest.raises(DataError, match="no place in the world"):
        translator.translate(array)
    with pytest.raises(DataError, match="from t1; found t2"):
        translator.translate({"t2": array}, affine)


def test_ranks_share_out_the_images_to_predict_and_replace_none(
    done: medtrans.RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").mkdir()
    image = Volume(np.random.default_rng(1).random((16, 16, 16)).astype(np.float32), np.diag([3.0, 3.0, 3.0, 1.0]))
    for name in "abc":
        write(image, tmp_path / "in" / f"{name}.nii.gz")
    shares = []
    for rank in (0, 1):
        for name, value in environment_of_rank(rank, 2, 29500).items():
            monkeypatch.setenv(name, value)
        shares.append([path.name for path in predict(done.path, tmp_path / "in", tmp_path / "out", images={})])
    assert shares == [["a.nii.gz", "c.nii.gz"], ["b.nii.gz"]]
    with pytest.raises(ConfigError, match="is there already"):
        list(predict(done.path, tmp_path / "in", tmp_path / "out", images={}))


def test_predict_given_the_mask_does_what_the_run_did_and_warns_without(
    done: medtrans.RunFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (own,) = done.predictions.glob("*.nii.gz")
    images = next(one for one in phantoms() if own.name.startswith(one.case)).images
    for folder, modality in (("in", "t1"), ("masks", "mask")):
        (tmp_path / folder).mkdir()
        write(images[modality](), tmp_path / folder / "scan.nii.gz")
    (written,) = predict(done.path, tmp_path / "in", tmp_path / "out", images={}, mask=tmp_path / "masks")
    np.testing.assert_allclose(read(written).data, read(own).data, rtol=1e-5)
    assert "--mask" not in caplog.text
    (bare,) = predict(done.path, tmp_path / "in" / "scan.nii.gz", tmp_path / "bare.nii.gz", images={})
    assert "--mask" in caplog.text
    assert np.abs(read(bare).data - read(own).data).max() > 1
    with pytest.raises(DataError, match="1 of 1 masks"):
        list(predict(done.path, tmp_path / "in", tmp_path / "o", images={}, mask=tmp_path / "nothing"))


def test_an_image_unlike_those_of_training_is_warned_of_and_refused_where_that_is_asked(
    done: medtrans.RunFolder, tmp_path: Path
) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    usual = phantoms()[0].images["t1"]()
    write(usual, source / "usual.nii.gz")
    write(Volume(usual.data, usual.affine @ np.diag([5, 5, 5, 1])), source / "coarse.nii.gz")
    with pytest.raises(DataError, match=r"coarse\.nii\.gz: out of distribution: spacing i"):
        list(predict(done.path, source, output, images={}, strict=True))
    assert [path.name for path in output.glob("*.nii.gz")] == ["usual.nii.gz"]
    list(predict(done.path, source, output, images={}, overwrite=True))
    facts = {path.stem: json.loads(path.read_text()) for path in output.glob("*.json")}
    assert {name: one["ood"] for name, one in facts.items()} == {"usual": False, "coarse": True}
    assert any("spacing i [mm]" in note for note in facts["coarse"]["notes"])


def test_fixed_scalings_are_scored_and_written_in_native_units(tiny: dict[str, Any]) -> None:
    window = {"name": "window", "options": {"range": [-1024.0, 3000.0]}}
    tiny |= {"target": ["ct"], "preprocess": {"intensity": {"t1": {"name": "percentile"}, "ct": window}}}
    folder = medtrans.run(tiny, ["train.steps=1"])
    summary = json.loads(folder.summary.read_text())
    assert summary["metrics"]["mae"]["unit"] == "HU"
    assert "4024" in summary["metrics"]["psnr"]["definition"]
    (path,) = folder.predictions.glob("*_ct.nii.gz")
    assert json.loads(path.with_name(path.name.replace(".nii.gz", ".json")).read_text())["unit"] == "HU"
    unseen = medtrans.load(folder.path).translate(phantoms()[0].images["t1"]())
    for volume in (read(path), unseen):
        assert isinstance(volume, Volume)
        assert -1024.5 <= volume.data.min() < volume.data.max() <= 3000.5


def test_what_may_be_a_mistake_is_said_before_training(
    tiny: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "mine.py").write_text(GENERATOR_PLUGIN)
    doubtful = ["patch.size=[16, 16, 32]", "losses.relativistic=null", "train.memory=low", "train.steps=1"]
    medtrans.run(tiny, ["generator={name: mine:small}", *doubtful], plugins=[tmp_path / "mine.py"])
    for told in ("patch.size 16×16×32 does not fit", "discriminator: no loss trains it", "low does nothing for Small"):
        assert told in caplog.text
    assert "low does nothing for MultiResUNet" not in caplog.text


def test_several_sources_and_targets(tiny: dict[str, Any]) -> None:
    tiny |= {"source": ["t1", "pd"], "target": ["t2", "flair"]}
    tiny["preprocess"] = {"intensity": {name: {"name": "percentile"} for name in ("t1", "pd", "t2", "flair")}}
    folder = medtrans.run(tiny, ["train.steps=1", "train.best=psnr"])
    assert set(json.loads(folder.summary.read_text())["metrics"]) >= {"psnr_t2", "psnr_flair"}
    written = {path.name.rpartition("_")[2] for path in folder.predictions.glob("*.nii.gz")}
    assert written == {"t2.nii.gz", "flair.nii.gz"}


def test_weights_may_come_from_another_run(done: medtrans.RunFolder, tmp_path: Path) -> None:
    folder = medtrans.run(
        done.config,
        [f"output_dir={tmp_path / 'run'}", "train.steps=1", f"train.initialise_from.run={done.path}",
         "train.optimizer={name: sgd, options: {lr: 1e-12}}"],
    )  # fmt: skip
    theirs, mine = checkpoint.best(done.checkpoints), checkpoint.newest(folder.checkpoints)
    assert theirs is not None
    assert mine is not None
    for name, tensor in theirs.networks()["generator"].items():
        if "_u" not in name and "_v" not in name:
            np.testing.assert_allclose(mine.networks()["generator"][name].numpy(), tensor.numpy(), atol=1e-6)


def test_check_finds_out_all_before_the_first_step_and_writes_nothing(tiny: dict[str, Any]) -> None:
    report = medtrans.check(tiny)
    assert report.splits == {"train": 3, "validation": 1, "test": 1}
    assert report.ready
    assert report.parameters["generator"] > 0
    report = medtrans.check(tiny, ["losses.relativistic.options.level_weights=[1.0]"])
    assert (report.ready, report.exit_code) == (False, SetupError.exit_code)
    assert any("level_weights" in fault for fault in report.faults)
    assert not Path(tiny["output_dir"]).exists()


@pytest.mark.parametrize(
    "name",
    ["hcp_t1_t2", "dhcp_t2_t1", "brats_t2_flair", "brats_t2_flair_downstream", "brats_t1_t1ce", "synthrad_mr_ct",
     "synthrad_cbct_ct"],
)  # fmt: skip
def test_a_published_experiment_lacks_only_its_data(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        medtrans.check(name, [f"dataset.options.root={tmp_path / 'nothing'}"])
    assert str(tmp_path / "nothing") in str(error.value)


def test_pix2pix_is_one_line_for_each_network_and_its_losses_and_patches_are_cut_as_large_as_it_needs(
    tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, ...]] = []

    class Watching(medtrans.PairedMethod):
        def training_step(self, batch: Batch, step: int) -> dict[str, Tensor]:
            seen.append(tuple(batch.source.shape))
            return super().training_step(batch, step)

    monkeypatch.setattr("medtrans.builtin.methods.paired.PairedMethod", Watching)
    pix2pix = [
        "generator={name: unet, options: {width: 2, levels: 3}}",
        "discriminator={name: patchgan, options: {width: 4, layers: 1}}",
        "losses={l1: {}, lsgan: {weight: 0.01}, relativistic: null}",
    ]
    folder = medtrans.run(tiny, [*pix2pix, "patch.size=[12, 16, 20]", "train.steps=2"])
    assert set(seen) == {(2, 1, 16, 16, 24)}
    assert set(final_weights(folder)) == {"generator.safetensors", "discriminator.safetensors"}


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


def test_a_generator_needs_the_file_it_begins_with_until_it_is_trained(tiny: dict[str, Any], tmp_path: Path) -> None:
    plugin, weights = tmp_path / "begins.py", tmp_path / "bias.txt"
    plugin.write_text(BEGINS_WITH_A_FILE)
    weights.write_text("0.25")
    tiny |= {
        "generator": {"name": "begins:begun", "options": {"weights": str(weights)}},
        "discriminator": None,
        "losses": {"l1": {}},
    }
    tiny["train"] |= {"steps": 1, "optimizer": {"name": "sgd", "options": {"lr": 1e-9}}}
    folder = medtrans.run(tiny, plugins=[plugin])
    weights.unlink()
    with pytest.raises(ConfigError, match=r"generator: no weights at .*bias\.txt"):
        medtrans.run(tiny, [f"output_dir={tmp_path / 'again'}"], plugins=[plugin])
    network = medtrans.load(folder.path, plugins=[plugin]).method.networks()["generator"]
    assert network.get_parameter("body.bias").item() == pytest.approx(0.25, abs=1e-6)
