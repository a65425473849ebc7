"""The rules by which a user lets a doubtful image be read: what each does, and that nobody overlooks it."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import medtrans
from medtrans.config.loading import load_config
from medtrans.data.cache import Cache
from medtrans.data.checks.images import check_headers
from medtrans.data.cohort import Cohort, Member, load_image, load_images
from medtrans.data.datamodule import DataModule, load_cohort
from medtrans.errors import ConfigError, DataError
from medtrans.plugins.interfaces import Case
from medtrans.volume import ReadingRules, Volume, read, read_header, write
from tests.data.test_cache import preprocessing
from tests.helpers.itk_corpus import metaimage
from tests.helpers.nifti_corpus import AFFINE, BOTH_FORMS, VOXELS, nifti, squeeze

NAN, INF = float("nan"), float("inf")
TURNED = {"quatern": (0, 0, 0.5**0.5), "qoffset": (10, 20, 30)}  # 90 degrees about z
BY_QFORM = np.array([[0, -2.5, 0, 10], [2.0, 0, 0, 20], [0, 0, 1.5, 30], [0, 0, 0, 1]])
DISAGREEING = {**TURNED, "qform_code": 2, "sform_code": 1}
UNPLACED = {"sform_code": 0, "qform_code": 0, **TURNED}


def file_in(folder: Path, content: bytes, name: str = "scan.nii") -> Path:
    (folder / name).write_bytes(content)
    return folder / name


# What each rule does


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(("form", "affine", "code"), [("sform", AFFINE, 1), ("qform", BY_QFORM, 2)])
def test_of_two_positions_the_trusted_one_counts(
    form: Any, affine: np.ndarray, code: int, version: int, tmp_path: Path
) -> None:
    path = file_in(tmp_path, nifti(version=version, **DISAGREEING))
    with pytest.raises(DataError, match=r"set reading\.trust to sform or qform"):
        read(path)
    volume = read(path, ReadingRules(trust=form))
    np.testing.assert_allclose(volume.affine, affine, atol=1e-5)
    assert volume.space_code == code
    (note,) = volume.notes
    assert note.endswith(f"(PSR by sform, ALS by qform): placed by the {form} (reading.trust)")
    assert read_header(path, ReadingRules(trust=form)).notes == volume.notes


@pytest.mark.parametrize(
    ("fields", "form"),
    [
        ({**DISAGREEING, "srow": [NAN] * 12}, "qform"),
        ({**DISAGREEING, "quatern": (1, 1, 1)}, "sform"),
        ({**DISAGREEING, "pixdim": (7, 2, 2.5, 1.5, 0, 0, 0, 0)}, "sform"),
        ({**DISAGREEING, "pixdim": (1, 0, 2.5, 1.5, 0, 0, 0, 0)}, "sform"),
    ],
    ids=["no sform", "no rotation", "no handedness", "no spacing"],
)
def test_of_two_positions_one_that_cannot_be_used_may_be_left_out(
    fields: dict[str, Any], form: Any, tmp_path: Path
) -> None:
    path = file_in(tmp_path, nifti(**fields))
    other = "qform" if form == "sform" else "sform"
    for rules in (ReadingRules(), ReadingRules(trust=other)):
        with pytest.raises(DataError, match=f"set reading.trust: {form}"):
            read(path, rules)
    volume = read(path, ReadingRules(trust=form))
    np.testing.assert_allclose(volume.affine, AFFINE if form == "sform" else BY_QFORM, atol=1e-5)
    assert [note.endswith(f"): placed by the {form} (reading.trust)") for note in volume.notes] == [True]


@pytest.mark.parametrize("form", ["sform", "qform"])
def test_trust_places_no_file_without_a_sound_position_and_changes_nothing_without_doubt(
    form: Any, tmp_path: Path
) -> None:
    path = file_in(tmp_path, nifti(**{**DISAGREEING, "srow": [NAN] * 12, "quatern": (1, 1, 1)}))
    with pytest.raises(DataError) as refusal:
        read(path, ReadingRules(trust=form))
    assert len(refusal.value.faults) == 2
    assert "reading.trust" not in str(refusal.value)
    for fields in ({**BOTH_FORMS, "sform_code": 3}, {"sform_code": 3}, {"sform_code": 0, "qform_code": 3, **TURNED}):
        path = file_in(tmp_path, nifti(**fields))
        volume, trusting = read(path), read(path, ReadingRules(trust=form))
        np.testing.assert_array_equal(volume.affine, trusting.affine)
        assert (volume.space_code, trusting.space_code, trusting.notes) == (3, 3, ())


def test_an_unknown_space_is_nifti_s_method_1_from_pixdim_alone(tmp_path: Path) -> None:
    path = file_in(tmp_path, nifti(**UNPLACED))
    with pytest.raises(DataError, match=r"set reading\.accept_unknown_space: true"):
        read(path)
    volume = read(path, ReadingRules(accept_unknown_space=True))
    np.testing.assert_array_equal(volume.affine, np.diag([2, 2.5, 1.5, 1]))
    assert (volume.orientation, volume.space_code) == ("RAS", 1)
    assert volume.notes == ("sform_code and qform_code are 0: placed by pixdim alone (reading.accept_unknown_space)",)
    write(volume, tmp_path / "mended.nii")
    assert read(tmp_path / "mended.nii").notes == ()


def test_an_unknown_space_needs_a_spacing(tmp_path: Path) -> None:
    for spacing in (0, -2, NAN, 1e9):
        path = file_in(tmp_path, nifti(**UNPLACED, pixdim=(1, spacing, 2.5, 1.5, 0, 0, 0, 0)))
        with pytest.raises(DataError, match="pixdim: found spacing"):
            read(path, ReadingRules(accept_unknown_space=True))


@pytest.mark.parametrize("kind", ["f4", "f8"])
def test_voxels_that_are_not_finite_are_filled(kind: str, tmp_path: Path) -> None:
    voxels = VOXELS.astype(kind)
    voxels.flat[[3, 60, 119]] = NAN, INF, -INF
    path = file_in(tmp_path, squeeze(nifti(voxels)), "scan.nii.gz")
    with pytest.raises(DataError, match=r"reading\.fill_not_finite"):
        read(path)
    volume = read(path, ReadingRules(fill_not_finite=-1024.5))
    assert volume.data.flat[[3, 60, 119]].tolist() == [-1024.5] * 3
    kept = np.isfinite(voxels)
    np.testing.assert_array_equal(volume.data[kept], voxels[kept])
    assert volume.notes == ("3 of 120 voxels are NaN or infinite: set to -1024.5 (reading.fill_not_finite)",)
    assert read_header(path).notes == ()  # a header does not show it


def test_the_fill_is_a_physical_value_and_0_is_one(tmp_path: Path) -> None:
    voxels = VOXELS.astype("f4")
    voxels.flat[3] = NAN
    path = file_in(tmp_path, nifti(voxels, scl_slope=2, scl_inter=5))
    assert read(path, ReadingRules(fill_not_finite=0.0)).data.flat[3] == 0
    path = file_in(tmp_path, metaimage(voxels), "scan.mha")
    assert read(path, ReadingRules(fill_not_finite=0.0)).data.flat[3] == 0


def test_values_beyond_float32_are_refused_whatever_the_rules(tmp_path: Path) -> None:
    voxels = VOXELS.astype("f8")
    voxels.flat[3], voxels.flat[4] = 1e300, NAN
    with pytest.raises(DataError, match="1 of 120 voxels lie beyond float32"):
        read(file_in(tmp_path, nifti(voxels)), ReadingRules(fill_not_finite=0.0))


@pytest.mark.parametrize(
    "rules", [{"trust": "both"}, {"accept_unknown_space": 1}, {"fill_not_finite": NAN}, {"fill_not_finite": 1e39}]
)
def test_an_impossible_rule_is_refused(rules: dict[str, Any]) -> None:
    ((name, value),) = rules.items()
    with pytest.raises(ConfigError) as refusal:
        ReadingRules(**rules)
    assert str(refusal.value).startswith(f"reading.{name}: found {value!r}, expected")


# Where they come from and what they reach


def folders(root: Path, spoilt: dict[str, bytes] | None = None, *, subjects: int = 5, side: int = 24) -> dict[str, Any]:
    """A config of images in folders, of which `spoilt` (path to bytes) replaces some."""
    rng = np.random.default_rng(0)
    for number in range(1, subjects + 1):
        folder = root / f"s{number}"
        folder.mkdir(parents=True)
        for modality in ("t1", "t2"):
            data = rng.gamma(2, 100, (side, side, side)).astype(np.float32)
            write(Volume(data, np.eye(4)), folder / f"{modality}.nii")
    for name, content in (spoilt or {}).items():
        (root / name).write_bytes(content)
    return {
        "dataset": {
            "name": "paired_folders",
            "options": {"root": str(root), "images": {"t1": "{subject}/t1.*", "t2": "{subject}/t2.*"}},
        }
    }


def doubtful(side: int = 24) -> dict[str, bytes]:
    """Images of three cases that need one rule each."""
    voxels = np.random.default_rng(1).gamma(2, 100, (side, side, side)).astype(np.float32)
    broken = voxels[::-1].copy()
    broken[2, 3, 4] = NAN
    unit = {"srow": np.eye(4)[:3].ravel().tolist(), "pixdim": (1, 1, 1, 1, 0, 0, 0, 0)}
    return {
        "s2/t1.nii": nifti(voxels, **unit, sform_code=0),
        "s3/t2.nii": nifti(voxels[:, ::-1], **unit, qform_code=1, qoffset=(1, 0, 0)),
        "s4/t1.nii": nifti(broken, **unit),
    }


RULES = {"trust": "sform", "accept_unknown_space": True, "fill_not_finite": 0.0}
BY_HEADER = [
    "case_0002, t1: sform_code and qform_code are 0: placed by pixdim alone (reading.accept_unknown_space)",
    (
        "case_0003, t2: sform and qform give two positions up to 1 mm apart (RAS by sform, RAS by qform): placed by "
        "the sform (reading.trust)"
    ),
]
BY_VOXELS = ["case_0004, t1: 1 of 13,824 voxels are NaN or infinite: set to 0 (reading.fill_not_finite)"]


def test_the_config_names_the_rules(tiny: dict[str, Any]) -> None:
    assert load_config([tiny]).config.reading.rules == ReadingRules()
    rules = load_config([tiny | {"reading": RULES}]).config.reading.rules
    assert rules == ReadingRules("sform", accept_unknown_space=True, fill_not_finite=0.0)
    with pytest.raises(ConfigError) as refusal:
        load_config(
            [tiny | {"reading": {"trust": "both", "accept_unknown_space": 1, "fill_not_finite": 1e39, "nan": 0}}]
        )
    said = str(refusal.value)
    for key in ("reading.trust", "reading.accept_unknown_space", "reading.fill_not_finite", "reading.nan"):
        assert key in said


def test_preflight_names_the_keys_and_then_reports_each_image(tiny: dict[str, Any], tmp_path: Path) -> None:
    config = tiny | folders(tmp_path / "data", doubtful())
    with pytest.raises(DataError) as refusal:
        load_cohort(load_config([config]))
    assert [("s2" in fault, "s3" in fault) for fault in refusal.value.faults] == [(True, False), (False, True)]
    assert "reading.accept_unknown_space" in refusal.value.faults[0]
    assert "reading.trust" in refusal.value.faults[1]
    _, warnings = load_cohort(load_config([config | {"reading": RULES}]))
    assert warnings == BY_HEADER


def test_preparing_reports_what_headers_do_not_show(
    tiny: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = tiny | folders(tmp_path / "data", doubtful()) | {"reading": RULES}
    for _ in range(2):  # the second time from the cache
        caplog.clear()
        experiment = load_config([config])
        study = DataModule(experiment, load_cohort(experiment)[0], tmp_path / "cache")
        with caplog.at_level(logging.WARNING, "medtrans"):
            study.prepare()
        assert [record.getMessage() for record in caplog.records if "reading." in record.getMessage()] == BY_VOXELS
        assert study.warnings() == BY_VOXELS


def test_a_mask_is_filled_with_0_whatever_suits_the_intensities(tmp_path: Path) -> None:
    mask = np.ones((4, 5, 6), np.float32)
    mask[0, 0, 0] = NAN
    path = file_in(tmp_path, nifti(mask))
    case = Case("a", "a", {"ct": path, "mask": path, "labels": path})
    filled = load_images(case, ["ct", "mask", "labels"], ReadingRules(fill_not_finite=-1024.0))
    assert {name: float(volume.data[0, 0, 0]) for name, volume in filled.items()} == {
        "ct": -1024.0,
        "mask": 0.0,
        "labels": 0.0,
    }
    with pytest.raises(DataError, match=r"reading\.fill_not_finite"):
        load_image(case, "mask")


def test_the_cache_keeps_what_other_rules_made_apart(tmp_path: Path) -> None:
    voxels = np.random.default_rng(0).uniform(0, 10, (6, 7, 8)).astype(np.float32)
    voxels[0, 0, 0] = NAN
    path = file_in(tmp_path, nifti(voxels, srow=np.eye(4)[:3].ravel().tolist()))
    one = Member(1, Case("a", "a", {"t1": path, "t2": path}), "train")
    seen = {}
    for fill in (1.0, 2.0):
        cache = Cache(tmp_path / "cache", preprocessing(), {}, ReadingRules(fill_not_finite=fill))
        seen[fill] = float(cache.prepared(one).source[0, 0, 0, 0])
    assert seen == {1.0: pytest.approx(0.1), 2.0: pytest.approx(0.2)}
    with pytest.raises(DataError, match=r"reading\.fill_not_finite"):
        Cache(tmp_path / "cache", preprocessing(), {}).prepared(one)


def test_the_cache_looks_at_the_file_that_a_header_names(tmp_path: Path) -> None:
    raw = VOXELS.astype("<i2").tobytes(order="F")
    header = file_in(tmp_path, metaimage(raw=b"", ElementDataFile="scan.raw"), "scan.mhd")
    one = {"t1": header, "t2": header}
    seen = []
    for content in (raw, raw[::-1]):
        (tmp_path / "scan.raw").write_bytes(content)
        member = Member(1, Case("a", "a", one), "train")
        seen.append(Cache(tmp_path / "cache", preprocessing(), {}).prepared(member).source.copy())
    assert not np.array_equal(*seen)


def test_other_formats_are_looked_at_before_a_run(tmp_path: Path) -> None:
    good = file_in(tmp_path, metaimage(), "good.mha")
    bad = file_in(tmp_path, metaimage(NDims="4"), "bad.mha")
    unplaced = file_in(tmp_path, metaimage(Offset=None), "unplaced.mha")
    cohort = Cohort((Member(1, Case("a", "a", {"t1": good, "t2": bad}), "train"),))
    with pytest.raises(DataError, match=r'case "a", t2: .*bad\.mha: NDims: found'):
        check_headers(cohort, ["t1"], ["t2"])
    cohort = Cohort((Member(1, Case("a", "a", {"t1": unplaced, "t2": unplaced}), "train"),))
    warnings = check_headers(cohort, ["t1"], ["t2"], ReadingRules(accept_unknown_space=True))
    assert [warning.partition(":")[0] for warning in warnings] == ["case_0001, t1", "case_0001, t2"]


def test_a_run_and_its_translator_follow_the_rules_and_say_so(
    tiny: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = tiny | folders(tmp_path / "data", doubtful()) | {"reading": RULES}
    folder = medtrans.run(config | {"train": tiny["train"] | {"steps": 1, "validate_every": 1}})
    warnings = json.loads(folder.summary.read_text())["warnings"]
    log = folder.log.read_text()
    for expected in (*BY_HEADER, *BY_VOXELS):
        assert warnings.count(expected) == 1
        assert log.count(expected) == 1

    translator = medtrans.load(folder.path)
    for name, told in (("s2", "placed by pixdim alone"), ("s4", "set to 0"), ("s1", None)):
        caplog.clear()
        with caplog.at_level(logging.WARNING, "medtrans"):
            translated = translator.translate(tmp_path / "data" / name / "t1.nii")
        assert isinstance(translated, Volume)
        assert [told in note for note in translated.notes if told] == [True] * (told is not None)
        assert [record.getMessage() for record in caplog.records] == list(translated.notes)
