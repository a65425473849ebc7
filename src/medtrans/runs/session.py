"""A run's session: its folder taken, records written first, a resumed config checked, status and lock at the end."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np
import yaml

from medtrans._version import __version__
from medtrans.config.experiment import Experiment, differences, lasting, may_change
from medtrans.data.anonymize import Anonymizer
from medtrans.data.cohort import Cohort, write_cases
from medtrans.distributed.ranks import Ranks
from medtrans.errors import ConfigError, DataError, MedtransError, RunInterruptedError
from medtrans.runs import checkpoint
from medtrans.runs.folder import RunFolder
from medtrans.utils.files import copy_file
from medtrans.utils.messages import VisibleFormatter, capped, visible
from medtrans.volume.affine import distance_mm

if TYPE_CHECKING:
    from medtrans.data.datamodule import DataModule
    from medtrans.data.splits import SplitName

__all__ = [
    "check_same_config",
    "check_same_data",
    "config_facts",
    "config_hash",
    "environment_facts",
    "run_session",
    "write_records",
]


_SHOWN = 5  # differences between configs
_MOVED_MM = 0.01  # of a corner: what repacking a header may round
_RECORDED = ("torch", "numpy", "scipy", "scikit-image", "nibabel", "torchio", "lightning-fabric", "safetensors")
_log = logging.getLogger("medtrans")


@contextmanager
def run_session(
    experiment: Experiment,
    cohort: Cohort,
    warnings: Sequence[str],
    *,
    resume: bool,
    overwrite: bool,
    ranks: Ranks | None = None,
    reads: Iterable[Path] = (),
) -> Iterator[RunFolder]:
    """The run's folder with config, cases, environment and log in place, released at the end.

    Of a run that goes on, config and cases stay as they were until `write_records` is called: what is refused then has
    changed nothing. Of several ranks the leading one takes the folder and writes; the others wait until it is there.
    `reads` are the config files that were given; a folder that holds one of them, or data, is not overwritten.

    Raises:
        ConfigError: the folder cannot be taken, or a run to resume had another config; its first differences are named.
        SetupError: another process is using the folder.
    """
    ranks = ranks or Ranks()
    if not ranks.leads:
        with _errors_only(), ranks.explain_failures():
            ranks.wait()
            yield RunFolder(Path(experiment.config.output_dir))
            ranks.wait()
        return
    reads = (*reads, *_read_files(experiment, cohort))
    folder = RunFolder.claim(experiment.config.output_dir, resume=resume, overwrite=overwrite, reads=reads)
    handler = logging.FileHandler(folder.log, encoding="utf-8")
    anonymizer = Anonymizer(cohort, experiment)
    handler.setFormatter(_AnonymousFormatter(anonymizer))
    level = _log.level
    _log.setLevel(logging.INFO)
    _log.addHandler(handler)
    try:
        with _terminal(logging.INFO):
            if overwrite and (strangers := folder.strangers()):
                _log.info("%d files or folders here were written by no run, and stay", len(strangers))
            if resume and folder.has_begun_training:
                check_same_config(folder, experiment, ranks.count)
            else:
                write_records(folder, experiment, cohort)
            for warning in warnings:
                _log.warning("%s", warning)
            folder.set_status("running")
            # A rank that loses the others ends its process without unwinding: the status is set in its last moment.
            ranks.on_forced_exit(lambda error: _set_ended(folder, error, anonymizer))
            with ranks.explain_failures():
                ranks.wait()
                yield folder
                ranks.wait()
            folder.set_status("done")
    except BaseException as error:
        _set_ended(folder, error, anonymizer)
        raise
    finally:
        _log.removeHandler(handler)
        handler.close()
        _log.setLevel(level)
        folder.release()


class _AnonymousFormatter(logging.Formatter):
    """The log may be shared, so that it names no case or file; what is said on the terminal does."""

    def __init__(self, anonymizer: Anonymizer) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")
        self._anonymizer = anonymizer

    def format(self, record: logging.LogRecord) -> str:
        return visible(self._anonymizer.shareable(super().format(record)))


def _set_ended(folder: RunFolder, error: BaseException, anonymizer: Anonymizer) -> None:
    state = "interrupted" if isinstance(error, RunInterruptedError) else "failed"
    message = str(error) if isinstance(error, MedtransError) else type(error).__name__
    folder.set_status(state, error=anonymizer.shareable(message))


class _Stderr(logging.StreamHandler[TextIO]):
    """Writes to stderr as it is at the time: while a bar is drawn it is one that puts lines above the bar."""

    def emit(self, record: logging.LogRecord) -> None:
        self.setStream(sys.stderr)
        super().emit(record)


@contextmanager
def _terminal(level: int) -> Iterator[None]:
    handler = _Stderr()
    handler.setFormatter(VisibleFormatter("%(message)s"))
    handler.setLevel(level)
    _log.addHandler(handler)
    try:
        yield
    finally:
        _log.removeHandler(handler)
        handler.flush()


@contextmanager
def _errors_only() -> Iterator[None]:
    """What the leading rank says too is said once: the others report errors only."""
    propagate, _log.propagate = _log.propagate, False
    try:
        with _terminal(logging.ERROR):
            yield
    finally:
        _log.propagate = propagate


def write_records(folder: RunFolder, experiment: Experiment, cohort: Cohort) -> None:
    """Write what a run is: its config, its cases, the plugins of single files and the environment."""
    folder.write_config(experiment.saved_text())
    write_cases(folder.cases, cohort)
    files = [Path(origin.location) for origin in experiment.origins() if origin.distribution is None]
    for file in files:
        folder.plugins.mkdir(exist_ok=True)
        copy_file(file, folder.plugins / file.name)
    digests = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    folder.write_environment(environment_facts(plugin_files=digests))


def _read_files(experiment: Experiment, cohort: Cohort) -> Iterator[Path]:
    """Files and folders that a run reads besides its config: images, and what options and plugins name."""
    images = (image for member in cohort.members for image in member.case.images.values())
    yield from (Path(image) for image in images if not callable(image))
    config = experiment.config
    options = config.dataset.options.values()
    named = [str(option) for option in options if isinstance(option, str | Path)]
    named.append(getattr(config.split, "path", ""))
    if config.train.initialise_from is not None:
        named.append(config.train.initialise_from.run)
    yield from (path for path in (Path(name).expanduser() for name in named if name) if os.path.lexists(path))
    yield from (Path(origin.location) for origin in experiment.origins() if origin.distribution is None)


def config_facts(experiment: Experiment, ranks: int) -> dict[str, Any]:
    """What a checkpoint must know of the config it was trained with, without any of its values.

    Args:
        experiment: the config.
        ranks: that train together.
    """
    train = experiment.config.train
    return {
        "global_batch": ranks * train.batch * train.accumulate,
        "steps": train.steps,
        "config": {key: _digest(value)[:16] for key, value in lasting(experiment.saved()).items()},
    }


def config_hash(experiment: Experiment) -> str:
    """Of all that a resumed run must not change."""
    return _digest(lasting(experiment.saved()))


def check_same_config(folder: RunFolder, experiment: Experiment, ranks: int) -> None:
    """Refuse to resume a run, or a checkpoint in its folder, that was trained with another config.

    Raises:
        ConfigError: names the first differences.
    """
    try:
        before = yaml.safe_load(folder.config.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise ConfigError(
            f"{folder.config}: is damaged ({error}), so that nobody knows with what the run was trained; restore it"
        ) from error
    found = differences(before if isinstance(before, dict) else {}, experiment.saved())
    newest = checkpoint.newest(folder.checkpoints)
    if newest is not None and newest.facts:
        here = config_facts(experiment, ranks)
        named = {one.partition(":")[0] for one in found}
        old, new = dict(newest.facts["config"]), here["config"]
        keys = [key for key in sorted(old.keys() | new.keys()) if not may_change(key) and key not in named]
        changed = [key for key in keys if old.get(key) != new.get(key)]
        found += [f"{key}: differs from what {newest.folder.name} was trained with" for key in changed]
        if "cases" in newest.facts:
            # Where data lie may change: cases, splits and images are those of the checkpoint, or the run is refused
            # when they are read.
            found = [one for one in found if not one.startswith(("dataset.options.", "split.path:"))]
        there, now = newest.facts["global_batch"], here["global_batch"]
        # The same samples in each step: then only how they are shared out among devices has changed.
        found = [one for one in found if not one.startswith("train.batch:")]
        if there != now:
            found.append(f"global batch (devices x train.batch x train.accumulate): {there} -> {now}")
    if found:
        raise ConfigError(
            f"{folder.config}: the run to resume had another config ({len(found)} differences):",
            *(f"  {one}" for one in found[:_SHOWN]),
            f"resume with its own config, medtrans run {folder.config} --resume, or choose another output_dir",
        )


def check_same_data(folder: RunFolder, data: DataModule, splits: Sequence[SplitName]) -> None:
    """Refuse cases that are not those a run was trained with; of runs of an earlier version only the table is known.

    Args:
        folder: of the run.
        data: its cases.
        splits: whose images are looked at.

    Raises:
        DataError: names each case that is not there, is new, or whose images or split have changed.
    """
    newest = checkpoint.newest(folder.checkpoints)
    known = newest.facts.get("cases", {}) if newest is not None else {}
    if not known:
        if not folder.cases.is_file():
            raise DataError(f"{folder.cases}: is missing, so that nobody knows who was trained with; restore it")
        return
    images = data.identities(splits)
    members = {member.label: member for member in data.cohort.members}
    faults = [f"{label}: was there when the run was trained, and is not any more" for label in known.keys() - members]
    for label, member in members.items():
        case = f'{label}: case "{member.case.case}"'
        before = known.get(label)
        if before is None:
            faults.append(f"{case}: was not there when the run was trained")
        elif before["split"] != member.split:
            faults.append(f"{case}: is in {member.split} and was in {before['split']} when the run was trained")
        elif label in images:
            faults += [f"{case}, {text}" for text in _changes(before["images"], images[label]["images"])]
    if faults:
        raise DataError(
            *capped(sorted(faults)), "restore these cases as they were, or train a new run on them as they are"
        )


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """How the images of a case, by modality, are others than when the run was trained."""
    for modality in before.keys() | now.keys():
        old, new = before.get(modality), now.get(modality)
        if old is None or new is None:
            yield f"{modality}: is {'gone' if new is None else 'new'} since the run was trained"
        elif old["voxels"] != new["voxels"]:
            yield f"{modality}: holds other voxels than when the run was trained"
        elif distance_mm(tuple(old["shape"]), np.array(old["affine"]), np.array(new["affine"])) > _MOVED_MM:
            yield f"{modality}: lies elsewhere, or has voxels of another size, than when the run was trained"


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def environment_facts(**more: Any) -> dict[str, Any]:
    """Versions, processor and devices; nothing that names a person, a machine or a path."""
    import torch

    return {
        "medtrans": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        "packages": {name: _version(name) for name in _RECORDED},
        "command": _command(sys.argv),
        **more,
    }


def _command(arguments: Sequence[str]) -> str:
    """The verb and its flags; config.yaml of the run's folder stands for all the files, names and values there were."""
    program, *given = arguments
    if "medtrans" not in Path(program).name and Path(program).parent.name != "medtrans":
        return "the Python API"
    flags = [one.partition("=")[0] for one in given[1:] if one.startswith("--")]
    return " ".join(["medtrans", *given[:1], "config.yaml", *flags])


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123 -- a kernel file, read line by line
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"
