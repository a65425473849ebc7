"""An export translates as its run does, from its folder alone, says nothing of cases and machines, and is refused as
soon as anything about it is not as it was written."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

import medtrans
from medtrans.errors import ConfigError, DataError, MedtransError, SetupError
from medtrans.inference.export.writer import export
from medtrans.inference.prediction import predict
from medtrans.pipeline import evaluate
from medtrans.volume import Volume, write
from tests.conftest import GENERATOR_PLUGIN, Medtrans

pytest_plugins = ["tests.helpers.trained_runs"]

Made = tuple[Path, Path, np.ndarray]

LICENCE = 'CC BY 4.0, "as it is" | with care <img src=x> [a](b)'
SUBJECTS = ["Ada-Lovelace", "Bea", "Cyd-7741", "Dorothea", "Evelyn"]


@pytest.fixture(scope="module")
def made(done: medtrans.RunFolder, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """An export, moved away, an image, and its translation by the run; run and data are gone."""
    root = tmp_path_factory.mktemp("made")
    phantom = medtrans.component("dataset", "phantom").factory(subjects=5, size=(24, 24, 24))
    for subject, case in zip(SUBJECTS, phantom.cases(), strict=True):
        for modality in ("t1", "t2"):
            path = root / "hospital" / subject / f"{modality}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            write(case.images[modality](), path)
    images = {modality: "{subject}/" + modality + ".nii.gz" for modality in ("t1", "t2")}
    run = medtrans.run(
        yaml.safe_load(done.config.read_text())
        | {
            "output_dir": str(root / "run"),
            "dataset": {"name": "paired_folders", "options": {"root": str(root / "hospital"), "images": images}},
            "preprocess": {"intensity": {"t1": {"name": "percentile"}, "t2": {"name": "nyul"}}},
            "losses": {"l1": {}, "relativistic": {"weight": {"start": 0.0, "end": 1e-4, "steps": 2}}},
        }
    )
    image = root / "new.nii.gz"
    write(phantom.cases()[0].images["t1"](), image)
    expected = medtrans.load(run.path).translate(image)
    assert isinstance(expected, Volume)
    exported = export(run.path, licence=LICENCE)
    assert medtrans.load(exported).backgrounds == medtrans.load(run.path).backgrounds == {"t2": 0.0}
    assert exported == run.path / "export"
    moved = root / "elsewhere" / "model"
    moved.parent.mkdir()
    exported.rename(moved)
    shutil.rmtree(root / "hospital")
    shutil.rmtree(run.path)
    return moved, image, expected.data


@pytest.fixture
def copy(made: Made, tmp_path: Path) -> Path:
    """A copy of the export that a test may damage."""
    return Path(shutil.copytree(made[0], tmp_path / "model"))


def resign(folder: Path, change: Callable[[dict[str, Any]], None] = lambda manifest: None) -> None:
    """Make the manifest fit the files, as somebody who means harm would."""
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["self"]
    files = [path for path in sorted(folder.iterdir()) if path.is_file() and path.name != "manifest.json"]
    manifest["sha256"] = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    manifest["bytes"] = {path.name: path.stat().st_size for path in files}
    change(manifest)
    manifest["self"] = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_it_translates_as_the_run_did_with_run_and_data_gone(made: Made, tmp_path: Path) -> None:
    folder, image, expected = made
    translated = medtrans.load(folder).translate(image)
    assert isinstance(translated, Volume)
    np.testing.assert_array_equal(translated.data, expected)
    (written,) = predict(folder, image, tmp_path / "out.nii.gz", images={})
    np.testing.assert_array_equal(np.asarray(nibabel.load(written).dataobj), expected)
    assert "research use only" in json.loads((tmp_path / "out.json").read_text())["notice"]


def test_it_holds_the_weights_for_evaluation_a_card_and_no_code(made: Made) -> None:
    left = {path.name for path in made[0].iterdir()}
    assert left == {"README.md", "model.yaml", "intensities.json", "manifest.json", "generator_average.safetensors"}


def test_it_names_no_case_no_subject_and_no_folder(made: Made) -> None:
    for path in made[0].iterdir():
        content = path.read_bytes()
        for secret in (*SUBJECTS, "hospital", str(made[0].parents[1]), "/tmp/", "/root/", "/home/", "new.nii"):
            assert secret.encode() not in content, (path.name, secret)
        assert b"{subject}" not in content


def test_the_card_says_what_a_reader_needs(made: Made) -> None:
    _, front, text = (made[0] / "README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(front)["license"] == LICENCE
    assert r'as it is" \| with care \<img src=x> [a\](b).' in text
    for expected in (
        "Research use only", "| from | t1 |", "| train cases | 3: case_000", "relativistic × 0 to 0.0001 |",
        "2 patches of 16×16×16 voxels", "psnr [dB]", "baseline source_linear", "| medtrans | ", "CC BY 4.0",
    ):  # fmt: skip
        assert expected in text, expected


def test_every_damage_is_found(made: Made, copy: Path) -> None:
    draw = random.Random(4)
    for path in sorted(copy.iterdir()):
        whole = path.read_bytes()
        damaged = [whole[:length] for length in (0, 1, draw.randrange(len(whole)), len(whole) - 2)]
        for _ in range(12):
            flipped = bytearray(whole)
            flipped[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
            damaged.append(bytes(flipped))
        for content in damaged:
            path.write_bytes(content)
            with pytest.raises(DataError, match=path.name):
                medtrans.load(copy)
        path.unlink()
        with pytest.raises(MedtransError):
            medtrans.load(copy)
        path.write_bytes(whole)
    assert isinstance(medtrans.load(copy).translate(made[1]), Volume)


def test_what_was_added_is_refused_and_hidden_files_are_passed_over(copy: Path) -> None:
    (copy / ".gitattributes").write_text("*.safetensors filter=lfs\n")
    medtrans.load(copy)
    (copy / "helpers.py").write_text("print('no')")
    with pytest.raises(DataError, match=r"helpers\.py"):
        medtrans.load(copy)


WEIGHTS = "generator_average.safetensors"


def link_weights(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder.parent / "aside")
    (folder / WEIGHTS).symlink_to(folder.parent / "aside")


def first_weight(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Path], None]:
    """The first tensor is another."""

    def do(folder: Path) -> None:
        weights = load_file(folder / WEIGHTS)
        first = next(iter(weights))
        save_file(weights | {first: change(weights[first])}, folder / WEIGHTS)

    return do


def holding(name: str, text: str) -> Callable[[Path], None]:
    """A file with another text."""
    return lambda folder: (folder / name).write_text(text) and None


def intensities(**content: Any) -> Callable[[Path], None]:
    return holding("intensities.json", json.dumps({"learned": {}, "target_numbers": {}, "masked": False} | content))


def set_to(key: str, value: Any) -> Callable[[Path], None]:
    """A setting with another value."""

    def do(folder: Path) -> None:
        settings = yaml.safe_load((folder / "model.yaml").read_text())
        (folder / "model.yaml").write_text(yaml.safe_dump(settings | {key: value}))

    return do


TARGET_CALL = {"name": "mdaunet", "options": {"_target_": "os.system"}}
HARM: dict[str, tuple[Callable[[Path], None], str]] = {
    "a key no export holds": (set_to("dataset", {"name": "table"}), "dataset, which no export holds"),
    "another file to extend": (set_to("extends", ["../../secret.yaml"]), "extends, which no export holds"),
    "a component by its path": (set_to("generator", {"name": "os.system"}), "no generator named 'os.system'"),
    "an option that is none": (set_to("generator", TARGET_CALL), "_target_"),
    "a reference": (set_to("seed", "${oc.env:HOME}"), "reference"),
    "a tag": (holding("model.yaml", "!!python/object/apply:os.system [id]"), "cannot be read"),
    "settings that are no mapping": (holding("model.yaml", "- 1"), "no export holds"),
    "a link": (link_weights, "other files than an export|is a link"),
    "weights of another network": (first_weight(lambda _: torch.zeros(1, 2, 3)), "has shape"),
    "weights that are not finite": (first_weight(lambda tensor: tensor * torch.nan), "is not finite"),
    "a pickle by the name of weights": (holding(WEIGHTS, "cos\nsystem\n(S'id'\ntR."), "weights cannot be read"),
    "nested too deep": (holding("intensities.json", '{"learned": ' + "[" * 100_000), "cannot be read"),
    "not numbers": (intensities(learned={"t2": {"landmarks": ["a"]}}), "cannot be read"),
    "without numbers": (intensities(), "numbers that t2 is"),
    "with other numbers": (intensities(target_numbers={"t2": {"a": 1}}), "is not learnt yet"),
    "not finite": (intensities(target_numbers={"t2": {"low": float("nan")}}), "cannot be read"),
    "with a background that is none": (intensities(backgrounds={"t2": float("nan")}), "cannot be read"),
    "of another modality": (intensities(learned={"ct": {"a": [1.0]}}), "neither source"),
}


@pytest.mark.parametrize("name", HARM)
def test_harm_is_refused_though_every_hash_fits(copy: Path, name: str) -> None:
    do, message = HARM[name]
    do(copy)
    resign(copy)
    with pytest.raises(MedtransError, match=message):
        medtrans.load(copy)


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: manifest.update(format=2),
        lambda manifest: manifest.update(kind="other"),
        lambda manifest: manifest["sha256"].update({"../../secret": "00"}),
        lambda manifest: manifest["sha256"].pop(WEIGHTS),
        lambda manifest: manifest.update(sha256=None),
        lambda manifest: manifest.update(padding=" " * 2**22),  # larger than what is read of one
    ],
)
def test_a_manifest_of_something_else_is_refused(copy: Path, change: Callable[[dict[str, Any]], None]) -> None:
    resign(copy, change)
    with pytest.raises(DataError, match=r"manifest\.json"):
        medtrans.load(copy)


def test_an_export_is_no_run(copy: Path) -> None:
    for use in (evaluate, export):
        with pytest.raises(ConfigError, match="no run here"):
            use(copy)


def test_a_folder_that_holds_something_is_not_replaced_unasked(done: medtrans.RunFolder, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").touch()
    with pytest.raises(ConfigError, match="holds other things than an export"):
        export(done.path, tmp_path / "notes", overwrite=True)
    output = export(done.path, tmp_path / "model")
    before = (output / "manifest.json").stat().st_ino
    with pytest.raises(ConfigError, match="--overwrite"):
        export(done.path, output)
    assert (output / "manifest.json").stat().st_ino == before
    export(done.path, output, overwrite=True)
    assert (output / "manifest.json").stat().st_ino != before
    (tmp_path / "link").symlink_to(output)
    with pytest.raises(ConfigError, match="a file or a link"):
        export(done.path, tmp_path / "link", overwrite=True)
    assert not list(tmp_path.glob(".part-*"))


def test_the_verbs_export_and_predict(done: medtrans.RunFolder, tmp_path: Path, medtrans: Medtrans) -> None:
    image, output, made = next(done.predictions.glob("*.nii.gz")), tmp_path / "model", tmp_path / "made.nii.gz"
    assert medtrans("export", str(done.path), str(output), "--licence", "MIT")[:2] == (0, f"{output}\n")
    assert medtrans("predict", str(output), str(image), str(made))[:2] == (0, f"{made}\n")
    assert "Of these weights: MIT" in (output / "README.md").read_text()
    assert made.is_file()


def test_a_run_whose_method_needs_more_than_weights_is_not_exported(
    done: medtrans.RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def translate(self: Any, source: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return self.generator.bare(source)[0] * len(calls)

    monkeypatch.setattr(medtrans.PairedMethod, "translate", translate)
    with pytest.raises(SetupError, match="does not translate alike"):
        export(done.path, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_setting_that_names_a_file_is_not_exported(tiny: dict[str, Any], tmp_path: Path) -> None:
    code = GENERATOR_PLUGIN.replace("*, width: int = 4", '*, width: int = 4, weights: str = ""')
    plugin = tmp_path / "swin.py"
    plugin.write_text(code.replace("width: channels between.", "width: channels between.\n        weights: a file."))
    tiny |= {"generator": {"name": "swin:small", "options": {"weights": str(tmp_path / "secret.pt")}}}
    run = medtrans.run(tiny, ["train.steps=1"], plugins=[plugin])
    with pytest.raises(ConfigError, match=r"generator\.options\.weights: .*names a file of this machine"):
        export(run.path, plugins=[plugin])
