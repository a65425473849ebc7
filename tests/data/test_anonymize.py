"""What a run leaves to be shared names no patient, no file and no folder; what stays with the data names no more than
it must."""

from __future__ import annotations

import base64
import csv
import gzip
import io
import json
import logging
import re
import stat
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import yaml

import medtrans
from medtrans.config.loading import load_config
from medtrans.data.anonymize import WITHHELD, Anonymizer, shareable_config
from medtrans.data.cohort import Cohort, Member
from medtrans.errors import DataError
from medtrans.plugins.interfaces import Case
from medtrans.runs.session import environment_facts
from medtrans.volume import read

SUBJECTS = [f"Canary{name}Subj" for name in ("Ada", "Bea", "Cyd", "Dot", "Eve")]
SESSIONS = [f"canary{name}Visit" for name in ("Jan", "Feb", "Mar", "Apr", "May")]
HEADER = {
    "descrip": "CanaryDescrip", "db_name": "CanaryDbName", "aux_file": "CanaryAuxFile", "intent_name": "CanaryIntent",
}  # fmt: skip
EXTENSIONS = ["CanaryCommentExtension", "CanaryXcedeExtension", "CanaryDicomExtension"]
FOLDERS = ["CanaryHospital", "CanaryScanner", "CanaryHomeOfAda", "CanaryProject"]
FILES = ["CanaryAxialT1", "CanaryAxialT2", "canaryMaskOf", "CanarySplitList"]
ENVIRONMENT = {
    name: f"CanaryEnv{name.title()}" for name in ("PATIENT", "USER", "LOGNAME", "HOSTNAME", "MEDTRANS_SECRET")
}
HOST = "canary-host-of-ada"
CANARIES = [*SUBJECTS, *SESSIONS, *HEADER.values(), *EXTENSIONS, *FOLDERS, *FILES, *ENVIRONMENT.values(), HOST]

SHARED = {".medtrans",
    "log.txt", "report.html", "tensorboard", "checkpoints", "environment.json", "status.json", "summary.json",
    "pictures", "watch.json", "faithfulness.json", "costs.json",
}  # fmt: skip
WITH_THE_DATA = {"config.yaml", "cases.csv", "metrics.csv", "predictions"}
CACHE = {"cache"}


def write_planted(path: Path, image: Any) -> None:
    """A scan as a scanner might write it, with what nobody should see in every text that its header has."""
    nifti = nibabel.Nifti1Image(np.asarray(image.data), image.affine)
    nifti.set_sform(image.affine, 1)
    nifti.set_qform(image.affine, 1)
    for field, text in HEADER.items():
        nifti.header[field] = text.encode()
    for code, text in zip((6, 4, 44), EXTENSIONS, strict=True):
        nifti.header.extensions.append(nibabel.nifti1.Nifti1Extension(code, text.encode()))
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nifti, path)


def planted(root: Path) -> dict[str, Any]:
    """A cohort of five visits on disk, every name of which is a canary, and a config that trains on it."""
    phantom = medtrans.component("dataset", "phantom").factory(subjects=5, size=(24, 24, 24))
    data = root / FOLDERS[0] / FOLDERS[1]
    for subject, session, case in zip(SUBJECTS, SESSIONS, phantom.cases(), strict=True):
        for modality, name in (("t1", FILES[0]), ("t2", FILES[1]), ("mask", FILES[2])):
            write_planted(data / subject / session / f"{name}.nii.gz", case.images[modality]())
    split = root / FOLDERS[2] / f"{FILES[3]}.csv"
    split.parent.mkdir(parents=True)
    rows = zip(SUBJECTS, ["train", "train", "train", "validation", "test"], strict=True)
    split.write_text("\n".join(["subject,split", *(",".join(row) for row in rows)]))
    return {
        "output_dir": str(root / FOLDERS[3] / "run"),
        "dataset": {
            "name": "paired_folders",
            "options": {
                "root": str(data),
                "images": {
                    "t1": "{subject}/{session}/" + FILES[0] + ".nii.gz",
                    "t2": "{subject}/{session}/" + FILES[1] + ".nii.gz",
                    "mask": "{subject}/{session}/" + FILES[2] + ".nii.gz",
                },
            },
        },
        "split": {"by": "file", "path": str(split)},
        "source": ["t1"],
        "target": ["t2"],
        # a window that clips, so that there is a warning which speaks of cases
        "preprocess": {
            "intensity": {"t1": {"name": "window", "options": {"range": [0.0, 300.0]}}, "t2": {"name": "nyul"}}
        },
        "patch": {"size": [16, 16, 16]},
        "generator": {"name": "mdaunet", "options": {"preset": "fast", "width": 4, "growth": [4, 4]}},
        "discriminator": {"name": "multires_unet", "options": {"width": 2, "convs": 1}},
        "losses": {"l1": {}, "relativistic": {"weight": 1e-4}},
        "method": {"name": "paired", "options": {"ema": 0.9, "pool_size": 4}},
        "train": {"steps": 2, "batch": 2, "workers": 0, "validate_every": 1, "checkpoint_every": 1},
        "inference": {"overlap": 0.25, "batch": 4},
    }


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[medtrans.RunFolder]:
    root = tmp_path_factory.mktemp("privacy")
    config = root / "CanaryProject" / "config.yaml"
    config.parent.mkdir()
    settings = planted(root)
    config.write_text(yaml.safe_dump(settings))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        patch.setattr("socket.gethostname", lambda: HOST)
        command = ["/opt/CanaryHospital/bin/medtrans", "run", str(config), f"output_dir={settings['output_dir']}"]
        patch.setattr("sys.argv", [*command, "--overwrite", "--plugin", f"/home/{SUBJECTS[0]}/mine.py"])
        yield medtrans.run(config)


def contents(path: Path, content: bytes) -> Iterator[bytes]:
    """The bytes of a file, and what they hold packed: gzip, zip members, texts in PNG files, data in HTML pages."""
    yield content
    if content[:2] == b"\x1f\x8b":
        yield from contents(path, gzip.decompress(content))
    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for member in archive.infolist():
                yield member.filename.encode()
                yield from contents(path, archive.read(member))
    if content[:8] == b"\x89PNG\r\n\x1a\n":
        for chunk in re.findall(rb"(?s)(?:zTXt|iTXt)(.*?)(?=IDAT|IEND)", content):
            for start in range(len(chunk)):
                if chunk[start : start + 1] == b"x":
                    try:
                        yield zlib.decompress(chunk[start:])
                    except zlib.error:
                        continue
    for found in re.findall(rb"base64,([A-Za-z0-9+/=]+)", content):
        yield from contents(path, base64.b64decode(found))


def hits(root: Path, parts: set[str], canaries: list[str]) -> dict[str, set[str]]:
    """By file, the canaries in its content or its name."""
    found: dict[str, set[str]] = {}
    for part in parts:
        paths = [root / part] if (root / part).is_file() else sorted((root / part).rglob("*"))
        for path in paths:
            name = str(path.relative_to(root)).encode()
            texts = [name, *(contents(path, path.read_bytes()) if path.is_file() else ())]
            seen = {
                canary
                for text in texts
                for canary in canaries
                for form in (canary.encode(), canary.encode("utf-16-le"), canary.lower().encode())
                if form in text or form in text.lower()
            }
            if seen:
                found[name.decode()] = seen
    return found


def test_thirty_canaries_are_planted_and_the_search_finds_them(tmp_path: Path) -> None:
    assert len(set(CANARIES)) >= 30
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.gz").write_bytes(gzip.compress(b"..CanaryIntent.."))
    with zipfile.ZipFile(tmp_path / "a" / "x.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data.pkl", b"CanaryDbName" * 20)
    (tmp_path / "a" / "x.html").write_bytes(
        b'<img src="data:image/png;base64,' + base64.b64encode(b"CanaryAuxFile") + b'">'
    )
    (tmp_path / "a" / "CanaryAdaSubj.txt").touch()
    assert hits(tmp_path, {"a"}, CANARIES) == {
        "a/x.gz": {"CanaryIntent"},
        "a/x.pt": {"CanaryDbName"},
        "a/x.html": {"CanaryAuxFile"},
        "a/CanaryAdaSubj.txt": {"CanaryAdaSubj"},
    }


def test_nothing_that_is_made_to_be_shared_holds_a_canary(done: medtrans.RunFolder) -> None:
    assert {path.name for path in done.path.iterdir()} == SHARED | WITH_THE_DATA | CACHE
    assert hits(done.path, SHARED | CACHE, CANARIES) == {}


def test_what_a_header_says_and_the_environment_reach_no_file_at_all(done: medtrans.RunFolder) -> None:
    everything = {path.name for path in done.path.iterdir()}
    assert hits(done.path, everything, [*HEADER.values(), *EXTENSIONS, *ENVIRONMENT.values(), HOST]) == {}
    assert list(done.tensorboard.glob("events.out.tfevents.*"))
    (prediction,) = done.predictions.glob("*.nii.gz")
    header = nibabel.load(prediction).header
    assert not header.extensions
    assert bytes(header["descrip"]).startswith(b"medtrans ")


def test_the_key_from_numbers_to_names_is_for_its_owner_alone(done: medtrans.RunFolder) -> None:
    assert stat.S_IMODE(done.cases.stat().st_mode) == 0o600
    with done.cases.open() as file:
        assert {row["subject"] for row in csv.DictReader(file)} == set(SUBJECTS)


def test_warnings_speak_of_case_numbers(done: medtrans.RunFolder) -> None:
    warnings = json.loads(done.summary.read_text())["warnings"]
    assert any(re.match(r"case_000\d, t1: .* outside the window 0 to 300", warning) for warning in warnings)
    log = done.log.read_text()
    assert warnings[0] in log
    assert re.search(r"case_0005: psnr ", log)


def test_the_report_shows_the_config_without_what_names_people_and_places(done: medtrans.RunFolder) -> None:
    page = done.report.read_text()
    assert WITHHELD in page
    assert "mdaunet" in page
    shown = shareable_config(yaml.safe_load(done.config.read_text()))
    assert shown["output_dir"] == shown["split"]["path"] == shown["dataset"]["options"]["root"] == WITHHELD
    assert shown["dataset"]["options"]["images"] == dict.fromkeys(("t1", "t2", "mask"), WITHHELD)
    assert shown["train"]["steps"] == 2
    assert shown["preprocess"]["intensity"]["t1"]["options"]["range"] == [0.0, 300.0]


def test_a_run_that_fails_tells_the_user_which_file_and_its_status_only_which_case(tmp_path: Path) -> None:
    config = planted(tmp_path)
    broken = tmp_path / FOLDERS[0] / FOLDERS[1] / SUBJECTS[3] / SESSIONS[3] / f"{FILES[1]}.nii.gz"
    voxels = bytearray(gzip.decompress(broken.read_bytes()))
    broken.write_bytes(gzip.compress(bytes(voxels))[:-4000])
    with pytest.raises(DataError) as error:
        medtrans.run(config)
    assert str(broken) in str(error.value)
    folder = Path(config["output_dir"])
    status = json.loads((folder / "status.json").read_text())
    assert status["state"] == "failed"
    assert "case_0004" in status["error"]
    assert hits(folder, {"status.json", "log.txt", "environment.json"}, CANARIES) == {}


def test_names_appear_where_the_config_says_so_and_files_still_do_not(tmp_path: Path) -> None:
    config = planted(tmp_path) | {"names": True}
    folder = medtrans.run(config)
    name = next(path.name for path in folder.predictions.glob("*.nii.gz")).removesuffix("_t2.nii.gz")
    assert SUBJECTS[4] in name
    for path in (folder.report, folder.log):
        assert name in path.read_text(), path
    names = {canary for seen in hits(folder.path, SHARED, CANARIES).values() for canary in seen}
    assert names <= {*SUBJECTS, *SESSIONS}


def anonymizer_of(tiny: dict[str, Any], *cases: Case) -> Anonymizer:
    members = tuple(Member(number, case, "train") for number, case in enumerate(cases, 1))
    return Anonymizer(Cohort(members), load_config([tiny]))


def test_a_text_is_told_with_numbers_for_names_and_without_places(tiny: dict[str, Any]) -> None:
    cases = [
        Case("ann_1", "ann", {"t1": Path("data/ann/scan one.nii.gz")}),
        Case("ann_12", "ann", {"t1": Path("/data/x.nii")}),
        Case("7", "7", {}),
    ]
    told = anonymizer_of(tiny, *cases).shareable
    assert told('case "ann_12", t1: data/ann/scan one.nii.gz: cut') == 'case "case_0002", t1: the t1 of case_0001: cut'
    assert told("ann and joanna, step 7 of 77") == "the subject of case_0002 and joanna, step 7 of 77"
    assert told('case "7" at step 7') == 'case "case_0003" at step 7'
    assert told("no such file '/home/ann smith/x y.nii', /etc/a.b: gone") == (
        f"no such file {WITHHELD}, {WITHHELD}: gone"
    )
    assert told(f"{tiny['output_dir']}/cache: full") == f"{WITHHELD}/cache: full"
    assert told("1/cm, t1/t2, 3 / 4 and and/or stay") == "1/cm, t1/t2, 3 / 4 and and/or stay"


def test_the_log_is_discreet_and_the_terminal_is_not(tiny: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    from medtrans.runs.session import run_session

    case = Case("CanaryAdaSubj", "CanaryAdaSubj", {"t1": Path("/data/CanaryHospital/a.nii.gz")})
    cohort = Cohort((Member(1, case, "train"),))
    with run_session(load_config([tiny]), cohort, ["CanaryAdaSubj is odd"], resume=False, overwrite=False) as folder:
        logging.getLogger("medtrans").warning("%s: unreadable", case.images["t1"])
    assert "CanaryAdaSubj is odd" in capsys.readouterr().err
    log = folder.log.read_text()
    assert "Canary" not in log
    assert "case_0001 is odd" in log
    assert "the t1 of case_0001: unreadable" in log


def test_the_environment_records_no_value_of_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for given, recorded in {
        "/x/medtrans run a=b /c/d.yaml --plugin=/e/f.py --resume": "medtrans run config.yaml --plugin --resume",
        "/x/medtrans/__main__.py evaluate runs/ann": "medtrans evaluate config.yaml",
        "/x/mine.py ann": "the Python API",
    }.items():
        monkeypatch.setattr("sys.argv", given.split())
        assert environment_facts()["command"] == recorded


def test_a_prediction_keeps_no_text_of_its_source(done: medtrans.RunFolder, tmp_path: Path) -> None:
    from medtrans.inference.prediction import predict

    phantom = medtrans.component("dataset", "phantom").factory(subjects=1, size=(24, 24, 24))
    write_planted(tmp_path / "in.nii.gz", next(iter(phantom.cases())).images["t1"]())
    (written,) = predict(done.path, tmp_path / "in.nii.gz", tmp_path / "out.nii.gz", images={})
    assert read(written).shape == (24, 24, 24)
    assert hits(tmp_path, {"out.nii.gz", "out.json"}, CANARIES) == {}
