"""Owns the ways by which a file comes into medtrans, each with something sound to begin with."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from medtrans import checkpoint
from medtrans.assembly import make_method, make_preprocessing
from medtrans.builtin.datasets.table import Table
from medtrans.cache import Cache
from medtrans.cohort import Cohort, Member, gather, load_image, write_cases
from medtrans.components import Dataset
from medtrans.config import Experiment, load_config
from medtrans.exported import write_export
from medtrans.inference import load
from medtrans.lookup import component
from medtrans.prediction_files import file_stems
from medtrans.selftest.hostile_files import Route
from medtrans.selftest.hostile_writers import CONFIG
from medtrans.selftest.payloads import scan
from medtrans.settings import FileSplit
from medtrans.volume import read, write
from medtrans.weights_file import read_tensors

__all__ = ["Routes"]

_TINY = {
    "patch": {"size": [16, 16, 16]},
    "generator": {"name": "mdaunet", "options": {"preset": "fast", "width": 4, "growth": [4, 4]}},
    "discriminator": None,
    "losses": {"l1": {}},
    "train": {"best": None},
}


class Routes:
    """Every way in, and sound things to put a hostile file among.

    Args:
        folder: to work in.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.experiment = self._experiment()
        self.phantom: Dataset = component("dataset", "phantom").resolved().factory(subjects=3, size=(16, 16, 16))
        self._templates = folder / "templates"
        (self._templates / "checkpoint").mkdir(parents=True)
        (self._templates / "export").mkdir()
        method = make_method(self.experiment, training_cases=None)
        weights = {name: network.state_dict() for name, network in method.networks().items()}
        checkpoint.save(self._templates / "checkpoint", 1, weights, {"a": torch.ones(2)}, config_hash="", keep=2)
        settings = self.experiment.saved()
        keys = ("source", "target", "preprocess", "patch", "method", "generator", "discriminator")
        write_export(
            self._templates / "export",
            settings={key: settings[key] for key in keys},
            card="a card\n",
            learned={},
            target_numbers={"t2": {"low": 0.0, "high": 1.0}},
            masked=False,
            networks=weights,
        )
        self.ways["cache"](self._templates / "cache")

    @property
    def ways(self) -> Mapping[Route, Callable[[Path], object]]:
        """What is done with a path that came by each route."""
        return {
            "config": lambda path: load_config([path]).saved_text(),
            "image": read,
            "table": self._table,
            "split": self._split,
            "weights": read_tensors,
            "checkpoint": self._checkpoint,
            "export": load,
            "cache": self._cache,
        }

    def begin(self, route: Route, name: str) -> Path:
        """A folder for one file, with what is sound in it where the route needs that."""
        folder = self.folder / name
        template = self._templates / route
        if template.is_dir():
            shutil.copytree(template, folder)
        else:
            folder.mkdir()
        return folder

    def sound(self, route: Route) -> Path:
        """Something harmless that came by a route."""
        folder = self.begin(route, f"sound-{route}")
        if route == "config":
            (folder / "config.yaml").write_text(CONFIG.format(folder=folder), encoding="utf-8")
            return folder / "config.yaml"
        if route == "image":
            (folder / "scan.nii").write_bytes(scan())
            return folder / "scan.nii"
        if route == "table":
            (folder / "scan.nii").write_bytes(scan())
            (folder / "cases.csv").write_text("subject,t1\ns1,scan.nii\n", encoding="utf-8")
            return folder / "cases.csv"
        if route == "split":
            rows = zip(self.phantom.cases(), ("train", "validation", "test"), strict=True)
            text = "\n".join(["subject,split", *(f"{case.subject},{split}" for case, split in rows)])
            (folder / "split.csv").write_text(text, encoding="utf-8")
            return folder / "split.csv"
        if route == "weights":
            torch.save({"a": torch.ones(2)}, folder / "vgg19.pth")
            return folder / "vgg19.pth"
        return folder

    def _experiment(self) -> Experiment:
        path = self.folder / "sound.yaml"
        path.write_text(CONFIG.format(folder=self.folder), encoding="utf-8")
        return load_config([path, _TINY])

    def _table(self, path: Path) -> None:
        """List, name, read and write as a run does."""
        members = [Member(number, case, "test") for number, case in enumerate(Table(path=path).cases(), 1)]
        output = path.parent / "predictions"
        output.mkdir()
        stems = file_stems(members, ["t2"])
        write_cases(path.parent / "key.csv", Cohort(tuple(members)))
        for member in members:
            write(load_image(member.case, "t1"), output / f"{stems[member.number, 't2']}.nii.gz")

    def _split(self, path: Path) -> None:
        file = path / "split.json" if path.is_dir() else path
        gather(self.phantom, FileSplit(by="file", path=str(file)), source=["t1"], target=["t2"], seed=0)

    def _checkpoint(self, path: Path) -> None:
        found = checkpoint.best(path) or checkpoint.newest(path)
        if found is not None:
            found.state()
            found.networks()

    def _cache(self, path: Path) -> None:
        preprocessing = make_preprocessing(self.experiment)
        member = Member(1, self.phantom.cases()[0], "train")
        Cache(path, preprocessing, {}).prepared(member)
