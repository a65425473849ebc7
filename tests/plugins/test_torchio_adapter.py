"""TorchIO at home: its subjects as cases, its images as volumes, its random transforms as augmentations."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchio

import medtrans
from medtrans import Case, Volume
from medtrans.config.loading import load_config
from medtrans.data.cache import Cache
from medtrans.data.cohort import Member
from medtrans.data.preprocessing import Preprocessing
from medtrans.errors import ConfigError, DataError, SetupError
from medtrans.plugins.interfaces import Augmentation
from medtrans.plugins.options import options_of
from medtrans.plugins.registry import Registry
from medtrans.volume import write

AFFINE = np.array([[0, -1.5, 0, 12], [0, 0, 2, -7], [0.8, 0, 0, 3], [0, 0, 0, 1.0]])
GEOMETRIC: dict[str, dict[str, Any]] = {
    "random_affine": {"scales": 0.15, "degrees": 20, "translation": 2.0},
    "random_elastic_deformation": {"num_control_points": 5, "max_displacement": 1.5},
    "random_affine_elastic_deformation": {
        "affine_kwargs": {"degrees": 15},
        "elastic_kwargs": {"num_control_points": 5, "max_displacement": 1.5},
    },
    "random_flip": {"axes": [0, 1, 2]},
}
INTENSITY = [f"random_{kind}" for kind in ("noise", "gamma", "bias_field", "blur", "motion", "ghosting", "spike",
                                            "anisotropy")]  # fmt: skip


def made(name: str, **options: Any) -> Augmentation:
    augmentation = Registry().find("transform", f"torchio:{name}").component.load()(**options)
    assert isinstance(augmentation, Augmentation)
    return augmentation


def voxels(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 900, (8, 9, 10)).astype(np.int16)


def marker() -> dict[str, torch.Tensor]:
    """A block off centre in all of them, each with its own contrast."""
    inside = torch.zeros(1, 24, 24, 24)
    inside[:, 8:15, 9:15, 7:15] = 1
    return {"source": 0.9 * inside, "target": 0.1 + 0.6 * inside, "mask": inside}


def centre(image: torch.Tensor) -> np.ndarray:
    inside = image[0] > (image.min() + image.max()) / 2
    return np.argwhere(inside.numpy()).mean(axis=0)


# cases and volumes


def test_a_file_stays_a_file_and_is_not_read(tmp_path: Path) -> None:
    write(Volume(voxels(), AFFINE), tmp_path / "t1.nii.gz")
    (tmp_path / "t2.nii.gz").write_bytes(b"read by nobody")
    subject = torchio.Subject(
        t1=torchio.ScalarImage(tmp_path / "t1.nii.gz"), t2=torchio.ScalarImage(tmp_path / "t2.nii.gz"), subject_id="s7"
    )
    case = Case.from_subject(subject)
    assert case == Case("s7", "s7", {"t1": tmp_path / "t1.nii.gz", "t2": tmp_path / "t2.nii.gz"})


def test_what_a_transform_changed_and_what_lives_in_memory_become_functions(tmp_path: Path) -> None:
    write(Volume(voxels(), AFFINE), tmp_path / "t1.nii.gz")
    labels = torch.from_numpy((voxels() > 400).astype(np.uint8))[None]
    subject = torchio.Subject(
        t1=torchio.ScalarImage(tmp_path / "t1.nii.gz"), mask=torchio.LabelMap(tensor=labels, affine=AFFINE)
    )
    flipped = torchio.RandomFlip(axes=0, flip_probability=1)(subject)
    case = Case.from_subject(flipped, case="visit 2", owner="s7", split="test")
    assert (case.case, case.subject, case.split) == ("visit 2", "s7", "test")
    image, mask = case.images["t1"], case.images["mask"]
    np.testing.assert_array_equal(image().data, voxels()[::-1])
    np.testing.assert_allclose(image().affine, AFFINE, atol=1e-6)  # a NIfTI header holds float32
    np.testing.assert_array_equal(mask().data, (voxels() > 400)[::-1])
    assert mask().data.dtype == np.uint8


def test_other_formats_and_readers_are_read_by_torchio_when_asked(tmp_path: Path) -> None:
    read: list[Path] = []

    def reader(path: Path) -> tuple[torch.Tensor, np.ndarray]:
        read.append(path)
        return torch.from_numpy(voxels())[None], AFFINE

    (tmp_path / "t1.nii.gz").touch()
    image = torchio.ScalarImage(tmp_path / "t1.nii.gz", reader=reader)
    case = Case.from_subject(torchio.Subject(t1=image, case="a", subject="b", split="train"))
    assert (case.case, case.subject, case.split) == ("a", "b", "train")
    assert not read
    np.testing.assert_array_equal(case.images["t1"]().data, voxels())


def test_a_case_needs_a_name_a_split_that_exists_and_images_of_one_channel() -> None:
    image = torchio.ScalarImage(tensor=torch.zeros(1, 4, 4, 4))
    with pytest.raises(DataError, match="needs a name"):
        Case.from_subject(torchio.Subject(t1=image))
    with pytest.raises(DataError, match="holdout"):
        Case.from_subject(torchio.Subject(t1=image, case="a", split="holdout"))
    with pytest.raises(DataError, match="2 channels"):
        Volume.from_torchio(torchio.ScalarImage(tensor=torch.zeros(2, 4, 4, 4)))


@pytest.mark.parametrize("dtype", [">i2", np.uint16, np.float64, np.bool_])
def test_a_volume_goes_to_torchio_and_back(dtype: Any) -> None:
    data = (voxels() > 400 if dtype is np.bool_ else voxels() % 200).astype(dtype)
    image = Volume(data, AFFINE).as_torchio()
    assert isinstance(image, torchio.ScalarImage)
    back = Volume.from_torchio(image)
    np.testing.assert_array_equal(back.data, data)
    np.testing.assert_array_equal(back.affine, AFFINE)
    image.data.zero_()
    assert data.any()


def test_two_subjects_in_memory_are_not_taken_for_one_another_by_the_cache(tmp_path: Path) -> None:
    scaling = medtrans.component("transform", "minmax").factory()
    preprocessing = Preprocessing(["t1"], [], {"t1": scaling}, crop="none")
    cases = [
        Case.from_subject(
            torchio.Subject(t1=torchio.ScalarImage(tensor=torch.from_numpy(voxels(seed))[None]), case=name)
        )
        for seed, name in enumerate("abc")
    ]
    members = [Member(number, case, "train") for number, case in enumerate(cases, 1)]
    first, again = (
        [np.array(Cache(tmp_path, preprocessing, {}).prepared(one).source) for one in members] for _ in "ab"
    )
    assert not np.array_equal(first[0], first[1])
    np.testing.assert_array_equal(first, again)
    assert len(list(tmp_path.iterdir())) == 3


# augmentations; that each keeps the contract of a transform is tried in test_contracts.py


def test_the_transforms_come_as_a_plugin_that_imports_no_torchio() -> None:
    code = (
        "import json, sys; from medtrans.plugins.registry import Registry; p = Registry().plugin('torchio');"
        "print(json.dumps([sorted(n for _, n in p.components), 'torchio' in sys.modules]))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert json.loads(out) == [sorted([*GEOMETRIC, *INTENSITY]), False]


def test_options_are_those_of_the_transforms_themselves_and_their_probability() -> None:
    registry = Registry()
    for name in (*GEOMETRIC, *INTENSITY):
        component = registry.find("transform", f"torchio:{name}").component
        options = {option.name: option for option in options_of(component, "transform")}
        own = inspect.signature(getattr(torchio, name.title().replace("_", ""))).parameters
        assert set(options) == {*own, "p"} - {"kwargs"}
        assert all(options[key].default == own[key].default for key in own if key != "kwargs")
        assert all(option.doc for option in options.values())


def test_a_config_names_them_and_their_options_are_checked(tiny: dict[str, Any]) -> None:
    tiny["augment"] = {"torchio:random_affine": {"options": {"degrees": [-5.0, 5.0], "p": 0.5}}}
    experiment = load_config([tiny])
    (augmentation,) = [experiment.build("augment", name) for name in experiment.under("augment")]
    assert not augmentation.intensity
    tiny["augment"] = {"torchio:random_affine": {"options": {"degres": 5, "p": 2.0, "isotropic": 1}}}
    with pytest.raises(ConfigError) as error:
        load_config([tiny])
    assert all(named in str(error.value) for named in ("did you mean 'degrees'", "options.p", "options.isotropic"))
    tiny["augment"] = {"torchio:random_elastic_deformation": {"options": {"num_control_points": 2}}}
    experiment = load_config([tiny])
    with pytest.raises(SetupError, match=r"augment\.torchio:random_elastic_deformation.*control points"):
        experiment.build("augment", "torchio:random_elastic_deformation")
    tiny["preprocess"]["intensity"]["t1"] = {"name": "torchio:random_affine"}
    with pytest.raises(ConfigError, match="no intensity scaling"):
        load_config([tiny])


@pytest.mark.parametrize(("name", "options"), GEOMETRIC.items(), ids=GEOMETRIC.keys())
def test_source_target_and_mask_stay_aligned_over_50_draws(name: str, options: dict[str, Any]) -> None:
    augmentation = made(name, **options)
    rng = np.random.default_rng(0)
    patches, moved = marker(), 0
    for _ in range(50):
        changed = augmentation(patches, rng)
        assert set(changed) == set(patches)
        assert set(torch.unique(changed["mask"]).tolist()) <= {0.0, 1.0}
        for image in ("source", "target"):
            assert np.abs(centre(changed[image]) - centre(changed["mask"])).max() < 0.35
            assert changed[image].dtype == torch.float32
            assert 0 <= changed[image].min() <= changed[image].max() <= 1
        moved += not torch.equal(changed["source"], patches["source"])
    assert moved >= (20 if name == "random_flip" else 40)
    assert all(torch.equal(patches[image], before) for image, before in marker().items())
