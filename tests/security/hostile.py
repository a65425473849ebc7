"""Hands hostile files to medtrans by the ways files come in, and tells what they brought about."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import torch

from medtrans.builtin.datasets.table import Table
from medtrans.config.loading import load_config
from medtrans.config.schema import FileSplit
from medtrans.data.cache import Cache
from medtrans.data.cohort import Cohort, Member, build_cohort, load_image, write_cases
from medtrans.data.preprocessing import make_preprocessing
from medtrans.errors import MedtransError
from medtrans.inference.export.format import write_export
from medtrans.inference.loading import load
from medtrans.inference.prediction import file_stems
from medtrans.plugins.interfaces import Dataset
from medtrans.plugins.registry import component
from medtrans.plugins.weights import read_tensors
from medtrans.runs import checkpoint
from medtrans.testing.selftest.suite import quiet
from medtrans.training.build import make_method
from medtrans.volume import read, write
from tests.helpers.nifti_corpus import nifti
from tests.security.audit import Audit
from tests.security.corpus import Hostile, at, configured, corpus, listed

_TINY = {
    "patch": {"size": [16, 16, 16]},
    "generator": {"name": "mdaunet", "options": {"preset": "fast", "width": 4, "growth": [4, 4]}},
    "discriminator": None,
    "losses": {"l1": {}},
    "train": {"best": None},
}


def faults_of(folder: Path, audit: Audit, chosen: Callable[[Hostile], bool] = lambda _: True) -> list[str]:
    """What hostile files brought about in a folder, in words; nothing where all were refused or taken as data."""
    mark = folder / "mark"
    with quiet():
        routes = Routes(folder)
        for route, way in routes.ways.items():
            # What is imported on first use is no file's doing.
            way(routes.sound(route))
            with suppress(MedtransError):
                way(routes.begin(route, f"empty-{route}") / "nothing")
        files = [file for file in corpus(str(mark)) if chosen(file)]
        found = [fault for number, file in enumerate(files) for fault in _tried(routes, audit, file, number, mark)]
    return found + audit.heard


def _tried(routes: Routes, audit: Audit, file: Hostile, number: int, mark: Path) -> Iterator[str]:
    where = f"{file.route}, {file.label}"
    folder = routes.begin(file.route, f"hostile-{number}")
    path = file.put(folder)
    try:
        with audit.armed(where):
            routes.ways[file.route](path)
        if file.refused:
            yield f"{where}: was taken"
    except MedtransError:
        if not file.refused:
            yield f"{where}: was refused though it is only odd"
    except Exception as error:  # noqa: BLE001 -- any other error is a fault of this file, and the next is still to be tried
        yield f"{where}: {type(error).__name__}: {error}"
    left = [*folder.rglob(f"{mark.name}*"), *mark.parent.glob(f"{mark.name}*"), *(mark.parent / "beside").glob("*")]
    if left:
        yield f"{where}: left its mark"
    for one in left:
        one.unlink()


class Routes:
    """Every way in, and sound things to put a hostile file among."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.experiment = load_config([configured("")(folder), _TINY])
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
            backgrounds={"t2": 0.0},
            masked=False,
            networks=weights,
        )
        self._cache(self._templates / "cache")

    @property
    def ways(self) -> Mapping[str, Callable[[Path], object]]:
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

    def begin(self, route: str, name: str) -> Path:
        """A folder for one file, with what is sound in it where the route needs that."""
        if (self._templates / route).is_dir():
            return Path(shutil.copytree(self._templates / route, self.folder / name))
        (self.folder / name).mkdir()
        return self.folder / name

    def sound(self, route: str) -> Path:
        """Something harmless that came by a route."""
        folder = self.begin(route, f"sound-{route}")
        if route == "weights":
            torch.save({"a": torch.ones(2)}, folder / "vgg19.pth")
            return folder / "vgg19.pth"
        subjects = zip(self.phantom.cases(), ("train", "validation", "test"), strict=True)
        split = "\n".join(["subject,split", *(f"{case.subject},{name}" for case, name in subjects)])
        puts = {
            "config": configured(""),
            "image": at("scan.nii", nifti()),
            "table": listed("s1,scan.nii"),
            "split": at("split.csv", split),
        }
        return puts[route](folder) if route in puts else folder

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
        build_cohort(self.phantom, FileSplit(by="file", path=str(path)), source=["t1"], target=["t2"], seed=0)

    def _checkpoint(self, path: Path) -> None:
        found = checkpoint.best(path) or checkpoint.newest(path)
        if found is not None:
            found.state()
            found.networks()

    def _cache(self, path: Path) -> None:
        member = Member(1, self.phantom.cases()[0], "train")
        Cache(path, make_preprocessing(self.experiment), {}).prepared(member)
