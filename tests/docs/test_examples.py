"""The examples work: a plugin file of each kind, a callback for a service, and research code without a plugin."""

from __future__ import annotations

import csv
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import medtrans
from medtrans.errors import SetupError
from medtrans.plugins.hookspecs import KINDS
from medtrans.plugins.registry import Registry
from medtrans.testing import (
    check_callback,
    check_dataset,
    check_generator,
    check_loss,
    check_method,
    check_metric,
    check_transform,
)
from medtrans.testing.kits import plugin_verdicts

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"


def module_of(path: Path) -> ModuleType:
    """A file that belongs to no package, imported anew."""
    spec = importlib.util.spec_from_file_location(f"{path.stem}_of_docs", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


SCRIPT = module_of(ROOT / "scripts" / "docs" / "examples.py")  # writes them from the templates of `plugins new`
BY_KIND: dict[str, str] = SCRIPT.NAMES


class Client:
    """Stands in for the wandb package: keeps what it is told."""

    def __init__(self) -> None:
        self.logged: list[tuple[int, dict[str, Any]]] = []
        self.started: dict[str, Any] = {}
        self.exit_codes: list[int] = []

    def module(self) -> SimpleNamespace:
        return SimpleNamespace(init=self.init, Image=lambda picture: ("picture", picture.shape))

    def init(self, **settings: Any) -> SimpleNamespace:
        self.started = settings
        return SimpleNamespace(
            log=lambda values, step: self.logged.append((step, values)),
            finish=lambda exit_code: self.exit_codes.append(exit_code),
        )


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Client:
    client = Client()
    monkeypatch.setitem(sys.modules, "wandb", client.module())
    return client


def test_the_example_of_every_kind_is_what_a_new_plugin_is() -> None:
    assert set(BY_KIND) == set(KINDS)
    for name, text in SCRIPT.examples().items():
        assert (EXAMPLES / name).read_text(encoding="utf-8") == text, "python scripts/docs/examples.py"


@pytest.mark.parametrize("kind", sorted(set(BY_KIND) - {"dataset", "generator"}))
def test_an_example_keeps_its_contract(kind: str) -> None:
    """That of a generator is tried by `plugins/medtrans-example`, which is the same module under another name."""
    name = BY_KIND[kind]
    (tried,) = plugin_verdicts(name, [EXAMPLES / f"{name}.py"])

    assert (tried.kind, tried.name) == (kind, f"{name}:{name}")
    assert [verdict for verdict in tried.verdicts if verdict.outcome == "broken"] == []


def test_the_example_of_a_dataset_keeps_its_contract_on_files(tmp_path: Path) -> None:
    write_subjects(tmp_path, 2)
    registry = Registry([EXAMPLES / "subject_folders.py"])
    component = registry.find("dataset", "subject_folders:subject_folders").component
    check_dataset(component, options={"root": str(tmp_path)})


def test_all_of_them_make_one_run(tmp_path: Path, tiny: dict[str, Any], client: Client) -> None:
    write_subjects(tmp_path / "data", 5)
    named = {kind: f"{name}:{name}" for kind, name in BY_KIND.items()}
    config = {
        **tiny,
        "dataset": {"name": named["dataset"], "options": {"root": str(tmp_path / "data")}},
        "generator": {"name": named["generator"], "options": {"width": 4}},
        "discriminator": {"name": named["discriminator"], "options": {"width": 4}},
        "losses": {"l1": {}, "edges": {"name": named["loss"]}, "lsgan": {"weight": 0.01}},
        "metrics": {"psnr": {}, "correlation": {"name": named["metric"]}},
        "method": {"name": named["method"], "options": {"warmup_steps": 2}},
        "augment": {"contrast": {"name": named["transform"]}},
        "callbacks": {
            "curves": {"name": named["callback"], "options": {"every": 2}},
            "wandb": {"name": "wandb_callback:wandb", "options": {"every": 2}},
        },
    }
    files = [EXAMPLES / f"{name}.py" for name in (*BY_KIND.values(), "wandb_callback")]

    folder = medtrans.run(config, plugins=files)

    assert "correlation" in folder.read_json(folder.summary)["metrics"]
    with (folder.path / "curves.csv").open(newline="") as table:
        assert [row["step"] for row in csv.DictReader(table)] == ["2", "4"]
    assert sorted(path.name for path in (folder.path / "plugins").iterdir()) == sorted(path.name for path in files)
    assert (client.started["mode"], client.started["name"]) == ("offline", folder.path.name)
    assert [step for step, values in client.logged if "train/generator" in values] == [2, 4]
    assert [step for step, values in client.logged if "validation/correlation" in values] == [2, 4]
    assert client.exit_codes == [0]


def test_the_service_hears_of_failures_and_gets_pictures_only_on_request(client: Client, tmp_path: Path) -> None:
    component = Registry([EXAMPLES / "wandb_callback.py"]).find("callback", "wandb_callback:wandb").component
    for pictures in (False, True):
        client.logged.clear()
        callback = component.resolved().factory(pictures=pictures)
        callback.on_start(medtrans.RunInfo(tmp_path, {"seed": 0}, 0, 2))
        callback.on_validation(2, {"psnr": 20.0}, [medtrans.Scored("case_0001", {}, np.zeros((4, 4, 3), np.uint8))])
        callback.on_end(2, RuntimeError("disk full"))
        sent = client.logged[0][1]
        assert sent["validation/psnr"] == 20.0
        assert ("cases/case_0001" in sent) is pictures
    assert client.exit_codes == [1, 1]


def test_the_callback_for_the_service_keeps_its_contract(client: Client) -> None:
    component = Registry([EXAMPLES / "wandb_callback.py"]).find("callback", "wandb_callback:wandb").component
    drives = []

    def around(drive: Callable[[], None]) -> None:
        drives.append(drive)
        drive()

    check_callback(component, options={"every": 1, "pictures": True}, around=around)
    assert drives
    assert client.logged


def test_without_the_service_installed_the_run_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    component = Registry([EXAMPLES / "wandb_callback.py"]).find("callback", "wandb_callback:wandb").component
    with pytest.raises(SetupError, match="pip install wandb"):
        component.resolved().factory().on_start(medtrans.RunInfo(tmp_path, {}, 0, 2))


def test_research_code_subclasses_the_public_classes_without_a_plugin() -> None:
    downstream = module_of(EXAMPLES / "downstream.py")
    check_generator(downstream.GatedUNet, options={"preset": "tiny"}, patch_size=(8, 8, 8))
    check_method(downstream.WithoutBackground)
    check_loss(downstream.Huber, patch_size=(8, 8, 8))
    check_metric(downstream.WorstVoxel, identical=0.0)
    check_dataset(downstream.Phantoms)
    check_transform(downstream.Gamma)
    check_transform(downstream.ToTheBrightest)
    check_callback(downstream.StopWatch)


def write_subjects(root: Path, count: int) -> None:
    """Phantoms as files, one folder a subject."""
    from medtrans.volume import write

    dataset = medtrans.component("dataset", "phantom").factory(subjects=count, size=(24, 24, 24))
    for case in dataset.cases():
        folder = root / case.subject
        folder.mkdir(parents=True)
        for modality in ("t1", "t2"):
            write(case.images[modality](), folder / f"{modality}.nii.gz")
