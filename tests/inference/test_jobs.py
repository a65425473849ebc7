"""Which images become which files, what is never written over, and that one bad scan ends no folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 -- its usual name

import medtrans
from medtrans import ConfigError, DataError, RunFolder
from medtrans.inference.prediction import predict
from medtrans.volume import Volume, read, write
from tests.helpers.pairs import config_of, contrasts, write_pairs


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """T1 to T2, learnt from folders of subjects with a file t1.nii.gz each."""
    home = tmp_path_factory.mktemp("translating")
    return medtrans.run(config_of(write_pairs(home / "data"), home / "run"))


def scan(path: Path, number: int = 1, modality: str = "t1") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name.lower().endswith((".nii.gz", ".nii")):
        write(contrasts(number)[modality], path.with_name(path.name.lower()))
        path.with_name(path.name.lower()).rename(path)
    else:
        image = sitk.GetImageFromArray(contrasts(number)[modality].data.T)
        sitk.WriteImage(image, str(path))
    return path


def translated(run: RunFolder, source: Path, output: Path, **options: object) -> list[str]:
    return [str(path.relative_to(output)) for path in predict(run.path, source, output, images={}, **options)]


def test_every_format_that_is_read_is_translated_whatever_its_endings_case(run: RunFolder, tmp_path: Path) -> None:
    for name in ("a.nii.gz", "b.nii", "c.NII.GZ", "d.mha", "e.nrrd", "f.mhd", ".hidden.nii.gz", "notes.txt"):
        if name == "notes.txt":
            (tmp_path / "in" / name).touch()
        else:
            scan(tmp_path / "in" / name)
    found = translated(run, tmp_path / "in", tmp_path / "out")
    assert found == ["a.nii.gz", "b.nii", "c.nii.gz", "d.nii.gz", "e.nii.gz", "f.nii.gz"]
    (tmp_path / "one").mkdir()
    assert translated(run, tmp_path / "in" / "d.mha", tmp_path / "one") == ["d.nii.gz"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["p1/t1.nii.gz", "p1/t2.nii.gz", "p1/mask.nii.gz", "p2/t1.mha"], ["p1/t2.nii.gz", "p2/t2.nii.gz"]),
        (["sub-1_t1.nii.gz", "sub-1_mask.nii.gz", "sub-2_T1w.nii.gz"], ["sub-1_t2.nii.gz", "sub-2_T2w.nii.gz"]),
        (["p1/scan.nii.gz", "p2/scan.nii.gz"], ["p1/scan.nii.gz", "p2/scan.nii.gz"]),
    ],
    ids=["a folder for each patient", "words in names", "names that say nothing"],
)
def test_the_source_is_found_by_its_name_and_the_translation_named_for_what_it_is(
    run: RunFolder, tmp_path: Path, names: list[str], expected: list[str]
) -> None:
    for name in names:
        scan(tmp_path / "in" / name)
    assert translated(run, tmp_path / "in", tmp_path / "out") == expected


def test_a_pattern_says_which_are_meant_where_names_do_not(run: RunFolder, tmp_path: Path) -> None:
    for name in ("p1/first.nii.gz", "p1/second.nii.gz", "p2/first.nii.gz"):
        scan(tmp_path / "in" / name)
    with pytest.raises(DataError, match="--pattern"):
        translated(run, tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    found = translated(run, tmp_path / "in", tmp_path / "out", pattern="*/first.nii.gz")
    assert found == ["p1/first.nii.gz", "p2/first.nii.gz"]


def test_two_images_that_would_become_one_file_are_refused_beforehand(run: RunFolder, tmp_path: Path) -> None:
    scan(tmp_path / "in" / "a.nii.gz")
    scan(tmp_path / "in" / "a.mha")
    with pytest.raises(ConfigError, match="both become"):
        translated(run, tmp_path / "in", tmp_path / "out")


@pytest.mark.parametrize("way", ["same", "dots", "link", "hard link", "folder"])
def test_a_source_is_never_replaced(run: RunFolder, tmp_path: Path, way: str) -> None:
    source = scan(tmp_path / "in" / "a.nii.gz")
    before = source.read_bytes()
    output = {"same": source, "dots": tmp_path / "in" / ".." / "in" / "a.nii.gz"}.get(way, tmp_path / "b.nii.gz")
    if way == "link":
        output.symlink_to(source)
    elif way == "hard link":
        os.link(source, output)
    given, into = (tmp_path / "in", tmp_path / "in") if way == "folder" else (source, output)
    with pytest.raises(ConfigError, match="is the source"):
        list(predict(run.path, given, into, images={}, overwrite=True))
    assert source.read_bytes() == before


def test_what_no_prediction_wrote_is_never_replaced_and_a_prediction_is_where_that_is_asked(
    run: RunFolder, tmp_path: Path
) -> None:
    source, output = scan(tmp_path / "a.nii.gz"), tmp_path / "x_T2w.nii.gz"
    acquisition = tmp_path / "x_T2w.json"
    acquisition.write_text('{"EchoTime": 0.1}')
    for overwrite, told in ((False, "there already"), (True, "by no prediction")):
        with pytest.raises(ConfigError, match=told):
            list(predict(run.path, source, output, images={}, overwrite=overwrite))
    assert acquisition.read_text() == '{"EchoTime": 0.1}'
    assert not output.exists()
    acquisition.unlink()
    scan(output, 2)
    with pytest.raises(ConfigError, match="by no prediction"):
        list(predict(run.path, source, output, images={}, overwrite=True))
    output.unlink()
    for overwrite in (False, True):
        assert list(predict(run.path, source, output, images={}, overwrite=overwrite)) == [output]
    acquisition.unlink()  # as a killed process leaves it; the image says of itself what it is
    assert list(predict(run.path, source, output, images={}, missing=True)) == [output]
    assert json.loads(acquisition.read_text())["target"] == "t2"


def test_one_bad_scan_ends_no_folder_and_what_is_missing_is_done_later(run: RunFolder, tmp_path: Path) -> None:
    for name in ("a", "c"):
        scan(tmp_path / "in" / f"{name}.nii.gz")
    broken = tmp_path / "in" / "b.nii.gz"
    broken.write_bytes(b"\x1f\x8bnothing")
    with pytest.raises(DataError, match=r"b\.nii\.gz"):
        translated(run, tmp_path / "in", tmp_path / "out")
    done = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.nii.gz")}
    assert set(done) == {"a.nii.gz", "c.nii.gz"}
    scan(broken, 3)
    assert translated(run, tmp_path / "in", tmp_path / "out", missing=True) == ["b.nii.gz"]
    assert {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in done} == done


def test_a_name_that_is_no_text_is_translated_and_shown_by_its_bytes(
    run: RunFolder, tmp_path: Path, medtrans: object, capsys: pytest.CaptureFixture[str]
) -> None:
    scan(tmp_path / "in" / "plain.nii.gz")
    for name in (b"scan_\xff.nii.gz", b"\x1b[31mred.nii.gz"):
        shutil.copy(tmp_path / "in" / "plain.nii.gz", os.fsdecode(os.fsencode(tmp_path / "in") + b"/" + name))
    code, out, _ = medtrans("predict", str(run.path), str(tmp_path / "in"), str(tmp_path / "out"))
    assert code == 0
    assert len(out.splitlines()) == 3
    assert "\x1b" not in out
    assert r"scan_\udcff.nii.gz" in out


def test_several_targets_of_one_image_go_into_a_folder(tmp_path: Path) -> None:
    config = config_of(write_pairs(tmp_path / "data"), tmp_path / "run")
    config["dataset"]["options"]["images"]["t3"] = "{subject}/t2.nii.gz"
    config |= {"target": ["t2", "t3"]}
    config["preprocess"]["intensity"]["t3"] = {"name": "percentile"}
    run = medtrans.run(config)
    (tmp_path / "out").mkdir()
    found = translated(run, scan(tmp_path / "a.mha"), tmp_path / "out")
    assert found == ["a_t2.nii.gz", "a_t3.nii.gz"]


def test_a_folder_that_cannot_be_made_is_told(run: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(medtrans.SetupError, match="cannot be made"):
        list(predict(run.path, scan(tmp_path / "a.nii.gz"), tmp_path / "file" / "new" / "o.nii.gz", images={}))


def test_a_reading_rule_can_be_given_with_the_verb(run: RunFolder, tmp_path: Path) -> None:
    nowhere = nibabel.Nifti1Image(contrasts(1)["t1"].data, None)
    nowhere.header.set_sform(None, 0)
    nowhere.header.set_qform(None, 0)
    nowhere.header.set_zooms((3, 3, 3))
    nibabel.save(nowhere, tmp_path / "a.nii.gz")
    with pytest.raises(DataError, match="--reading accept_unknown_space=true"):
        list(predict(run.path, tmp_path / "a.nii.gz", tmp_path / "o.nii.gz", images={}))
    (written,) = predict(
        run.path, tmp_path / "a.nii.gz", tmp_path / "o.nii.gz", images={}, reading=["accept_unknown_space=true"]
    )
    assert isinstance(read(written), Volume)
    assert np.isfinite(read(written).data).all()


def test_what_only_training_needs_is_not_imported_to_translate(run: RunFolder, tmp_path: Path) -> None:
    heavy = ("torch._dynamo", "scipy.stats", "lightning_fabric", "matplotlib", "torchio", "tensorboard")
    words = ["medtrans", "predict", str(run.path), str(scan(tmp_path / "a.nii.gz")), str(tmp_path / "o.nii.gz")]
    program = (
        f"import sys\nfrom medtrans.cli.app import main\nsys.argv = {words}\n"
        f"try:\n    main()\nfinally:\n    print(*(name for name in {heavy} if name in sys.modules), file=sys.stderr)"
    )
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (tmp_path / "o.nii.gz").is_file(), child.stderr
    assert child.stderr.split() == []
