"""What is taken for a run, what is removed when one begins anew, and where a run acts that was copied."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

import medtrans
from medtrans import ConfigError, RunFolder
from medtrans.utils.files import PART, complete_file


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def begun(path: Path) -> RunFolder:
    """A run's folder as one leaves it that has written a little of everything."""
    folder = RunFolder.claim(path, resume=False, overwrite=False)
    folder.write_config("seed: 0\n")
    folder.set_status("done")
    folder.write_environment({"medtrans": "0.1"})
    for name in ("checkpoints/step_00000001/state.pt", "predictions/a.nii.gz", "pictures/best.png", "plugins/mine.py"):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).touch()
    folder.release()
    return folder


@pytest.mark.parametrize("flags", [(False, False), (True, False), (False, True)], ids=["", "--resume", "--overwrite"])
@pytest.mark.parametrize(
    "there",
    [
        {"config.yaml": "services: {web: {}}", "thesis.docx": "years"},
        {"config.yaml": "seed: 0", "data/s1/t1.nii.gz": "scan", "notes.txt": "x"},
        {"config.yaml": "seed: 0", "status.json": '{"up": true}', "checkpoints/step_00000001/weights": "others"},
    ],
    ids=["another program's", "a project", "another training's"],
)
def test_a_folder_that_no_run_left_stays_as_it_is(
    there: dict[str, str], flags: tuple[bool, bool], tmp_path: Path
) -> None:
    for name, text in there.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    before = everything(tmp_path)
    with pytest.raises(ConfigError, match="no run left") as refusal:
        RunFolder.claim(tmp_path, resume=flags[0], overwrite=flags[1])
    assert "--overwrite" not in str(refusal.value) or flags[1]
    assert everything(tmp_path) == before


def test_beginning_anew_removes_what_a_run_wrote_and_nothing_else(tmp_path: Path) -> None:
    run = begun(tmp_path / "run")
    strangers = ["note.txt", "predictions/measured.xlsx", "plots/curve.pdf", "plugins/readme.md"]
    for name in strangers:
        (run.path / name).parent.mkdir(exist_ok=True)
        (run.path / name).write_text("mine")
    RunFolder.claim(run.path, resume=False, overwrite=True).release()
    assert set(everything(run.path)) == {*strangers, "config.yaml", ".medtrans"}
    assert {path.name for path in run.strangers()} == {"note.txt", "plots"}


@pytest.mark.parametrize("held", ["data", "split.csv", "mine.yaml", "plugins/mine.py"])
def test_a_run_that_holds_what_is_read_is_not_overwritten(held: str, tmp_path: Path) -> None:
    run = begun(tmp_path / "run")
    (run.path / held).parent.mkdir(exist_ok=True)
    (run.path / held).touch()
    (tmp_path / "link").symlink_to(run.path / held)
    before = everything(run.path)
    for read in (run.path / held, tmp_path / "link"):
        with pytest.raises(ConfigError, match="is not emptied"):
            RunFolder.claim(run.path, resume=False, overwrite=True, reads=[read])
    with pytest.raises(ConfigError) as refusal:
        RunFolder.claim(run.path, resume=False, overwrite=False, reads=[run.path / held])
    assert "--overwrite" not in str(refusal.value)
    assert everything(run.path) == before


def test_nor_is_one_that_holds_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = begun(tmp_path / "run")
    monkeypatch.chdir(run.predictions)
    for path in (run.path, Path("..")):
        with pytest.raises(ConfigError, match="the working directory"):
            RunFolder.claim(path, resume=False, overwrite=True)
    assert (run.predictions / "a.nii.gz").is_file()


def test_a_run_of_before_there_was_a_mark_is_known_by_its_records(tmp_path: Path) -> None:
    run = begun(tmp_path / "run")
    run.mark.unlink()
    RunFolder.claim(run.path, resume=False, overwrite=True).release()
    assert not run.status.exists()


def test_a_fixed_command_begins_where_nothing_is_and_after_an_early_end(tmp_path: Path) -> None:
    for _ in range(2):  # the second time there is a run without a checkpoint
        RunFolder.claim(tmp_path / "run", resume=True, overwrite=False).release()
    assert RunFolder(tmp_path / "run").is_run


def test_what_a_killed_process_left_half_written_is_nobodys_image_and_goes(tmp_path: Path) -> None:
    run = begun(tmp_path / "run")
    half = complete_file(run.predictions / "b.nii.gz")
    half.__enter__().write_bytes(b"half")
    assert [path.name for path in run.predictions.glob("*.nii.gz")] == ["a.nii.gz"]
    RunFolder.claim(run.path, resume=True, overwrite=False).release()
    assert not list(run.path.rglob(f"{PART}*"))


def test_a_copied_run_acts_where_it_lies(tiny: dict[str, Any], tmp_path: Path) -> None:
    original = medtrans.run(tiny, ["train.steps=2"])
    (original.path / "note.txt").write_text("mine")
    copy = RunFolder(shutil.copytree(original.path, tmp_path / "copy"))
    before = everything(original.path)
    medtrans.run(copy.config, ["train.steps=3"], resume=True)
    assert yaml.safe_load(copy.config.read_text())["output_dir"] == str(copy.path)
    assert (copy.checkpoints / "step_00000003").is_dir()
    medtrans.run(copy.config, ["train.steps=1"], overwrite=True)
    assert json.loads(copy.status.read_text())["state"] == "done"
    assert (copy.path / "note.txt").read_text() == "mine"
    elsewhere = medtrans.run(copy.config, [f"output_dir={tmp_path / 'third'}", "train.steps=1"])
    assert elsewhere.path == tmp_path / "third"
    assert everything(original.path) == before
