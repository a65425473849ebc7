"""What a run leaves behind, where, and who may write there."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from medtrans.errors import ConfigError, SetupError
from medtrans.runs import lock
from medtrans.utils.files import PART, remove_parts, write_json, write_text

__all__ = ["RunFolder"]


class _Entry:
    """A file or folder inside a run's folder, as an attribute that gives its path."""

    def __init__(self, *names: str) -> None:
        self._names = names

    def __get__(self, folder: RunFolder, _: type[RunFolder]) -> Path:
        return folder.path.joinpath(*self._names)


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run.

    What stays with the data (predictions, metrics.csv, cases.csv, config.yaml) carries case ids; what is made to be
    shared (report, TensorBoard, log, checkpoints) carries case numbers.
    """

    path: Path

    config = _Entry("config.yaml")
    """The checked config, which runs again as it is."""
    cases = _Entry("cases.csv")
    """The key from case numbers to case ids; readable by its owner only."""
    environment = _Entry("environment.json")
    """Versions, machine and command."""
    log = _Entry("log.txt")
    """What was said while running."""
    status = _Entry("status.json")
    """Where the run stands."""
    lock = _Entry("run.lock")
    """Who is writing here."""
    mark = _Entry(".medtrans")
    """That a run made this folder, which nothing else says of itself."""
    checkpoints = _Entry("checkpoints")
    """Weights and training state."""
    cache = _Entry("cache")
    """Preprocessed volumes; may be deleted at any time."""
    predictions = _Entry("predictions")
    """Translated test cases."""
    pictures = _Entry("pictures")
    """Worst, median and best test case, for the report."""
    errors = _Entry("pictures", "errors.json")
    """How often the test cases' voxels are off by how much, and each case's means, for the report."""
    plugins = _Entry("plugins")
    """Copies of the single-file plugins the run used."""
    tensorboard = _Entry("tensorboard")
    """Curves for TensorBoard."""
    monitor = _Entry("watch.json")
    """What the monitor of the training has noticed."""
    metrics = _Entry("metrics.csv")
    """Scores, a row per case."""
    summary = _Entry("summary.json")
    """Scores over cases, beside the trivial baselines."""
    costs = _Entry("costs.json")
    """Parameters, time and memory."""
    faithfulness = _Entry("faithfulness.json")
    """What was checked in the test cases: strange sources, lesions lost or invented, copies, collapse."""
    downstream = _Entry("downstream", "results.json")
    """What synthetic images are worth to a segmenter."""
    report = _Entry("report.html")
    """The page to read first."""

    @classmethod
    def existing(cls, path: Path | str) -> RunFolder:
        """The folder of a run that has begun.

        Raises:
            ConfigError: there is no run.
        """
        folder = cls(Path(path))
        if not folder.config.is_file():
            raise ConfigError(f"{folder.path}: no run here, config.yaml is missing; give the folder of a run")
        return folder

    @property
    def is_run(self) -> bool:
        """Whether a run left this folder, and not somebody else a file called config.yaml."""
        if _mapping(self.mark).get("folder") == _OF_A_RUN:
            return True
        # Before there was a mark, a run wrote these three at its start.
        return self.config.is_file() and "state" in _mapping(self.status) and "medtrans" in _mapping(self.environment)

    @property
    def has_begun_training(self) -> bool:
        """Whether there is a checkpoint, whole or not."""
        return any(self.checkpoints.glob("step_*"))

    @classmethod
    def claim(cls, path: Path | str, *, resume: bool, overwrite: bool, reads: Iterable[Path] = ()) -> RunFolder:
        """Take the folder for this process.

        Args:
            path: of the folder; made if need be.
            resume: go on with the run that is there. An absent or empty folder begins one, so that a job with one fixed
                command begins, and goes on when it is started again.
            overwrite: remove what a run left there, by name; what no run wrote stays.
            reads: files and folders that the run reads. A folder that holds one is not overwritten.

        Raises:
            ConfigError: it holds something, and neither `resume` nor `overwrite` says what to do with it; or what is
                there is no run, or must not be removed.
            SetupError: it cannot be written, or another process is using it.
        """
        folder, reads = cls(Path(path)), tuple(reads)
        if not folder.lock.is_file():  # nobody has it: what is not to be replaced is told without a trace
            folder._check_contents(resume=resume, overwrite=overwrite, reads=reads)
        try:
            folder.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise folder._unwritable(error) from error
        folder._lock()
        try:
            # Once more: another run may have come and gone before the lock was had.
            folder._check_contents(resume=resume, overwrite=overwrite, reads=reads)
            if overwrite and not resume:
                folder._clear()
            write_json(folder.mark, {"folder": _OF_A_RUN})
            for inner in (folder.checkpoints, folder.predictions):
                inner.mkdir(exist_ok=True)
            for inner in (folder.path, folder.checkpoints, folder.predictions, folder.pictures):
                remove_parts(inner)
        except BaseException as error:
            folder.release()
            if isinstance(error, OSError):
                raise folder._unwritable(error) from error
            raise
        return folder

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Write in the folder of a run that has ended, while nobody else does.

        Raises:
            ConfigError: a link leads out of the folder.
            SetupError: it cannot be written, or another process is using it.
        """
        self._check_links()
        self._lock()
        try:
            yield
        finally:
            self.release()

    def release(self) -> None:
        """Let others write here."""
        lock.release(self.lock)

    def set_status(self, state: str, **details: Any) -> None:
        """Record where the run stands."""
        write_json(self.status, {"state": state, "at": _now(), **details})

    def write_config(self, text: str) -> None:
        """Store the checked config."""
        write_text(self.config, text)

    def write_environment(self, facts: Mapping[str, Any]) -> None:
        """Store versions, machine and command."""
        write_json(self.environment, dict(facts))

    def clear_cache(self) -> int:
        """Remove the preprocessed volumes, and nothing else of the run.

        Returns:
            How many bytes were freed.

        Raises:
            ConfigError: the folder holds something that no run left there.
            SetupError: another process is using the run, or the folder cannot be removed.
        """
        if self.cache.is_symlink() or not self.cache.is_dir():
            self.cache.unlink(missing_ok=True)  # of a link, what it leads to is somebody else's
            return 0
        strangers = [inner for inner in self.cache.iterdir() if not _is_cached(inner)]
        if strangers:
            raise ConfigError(f"{self.cache}: holds {strangers[0].name}, which no run left; it is not removed")
        self._lock()
        size = sum(file.stat().st_size for file in self.cache.rglob("*") if file.is_file())
        try:
            shutil.rmtree(self.cache)
        except OSError as error:
            raise SetupError(f"{self.cache}: cannot be removed ({error.strerror}); remove it by hand") from error
        finally:
            self.release()
        return size

    def read_config(self) -> dict[str, Any]:
        """The config that the run was trained with.

        Raises:
            ConfigError: it is missing or damaged.
        """
        try:
            value = yaml.safe_load(self.config.read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
            raise ConfigError(f"{self.config}: is missing or damaged ({error}); restore it") from error
        if not isinstance(value, dict):
            raise ConfigError(f"{self.config}: expected a mapping, found {type(value).__name__}; restore it")
        return value

    def read_json(self, path: Path) -> dict[str, Any]:
        """A JSON file of this run.

        Raises:
            ConfigError: it is missing or damaged.
        """
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise ConfigError(f"{path}: is missing or damaged ({error}); the run may not have ended") from error
        if not isinstance(value, dict):
            raise ConfigError(f"{path}: expected a mapping, found {type(value).__name__}")
        return value

    def _check_contents(self, *, resume: bool, overwrite: bool, reads: Sequence[Path]) -> None:
        try:
            there = [inner for inner in self.path.iterdir() if inner != self.lock] if self.path.is_dir() else []
        except OSError as error:
            raise self._unwritable(error) from error
        if not there:
            return
        if not self.is_run:
            asked = "--resume goes on with a run" if resume else "--overwrite only replaces a run"
            raise ConfigError(
                f"{self.path}: holds files that no run left, such as {there[0].name}; "
                f"{f'{asked}. Set' if resume or overwrite else 'set'} output_dir to a new or empty folder"
            )
        held = self._held(reads)
        if not resume and not overwrite:
            anew = "" if held else ", begin anew with --overwrite"
            raise ConfigError(f"{self.path}: is not empty; continue with --resume{anew}, or set output_dir")
        if overwrite and not resume and held:
            raise ConfigError(
                f"{self.path}: holds {held}, which this run needs, and is not emptied; set output_dir to a folder of "
                "its own"
            )
        if resume:
            self._check_links()

    def _held(self, reads: Sequence[Path]) -> Path | str | None:
        """What lies in the folder that must not be removed; the run's own config.yaml is replaced, never removed."""
        home = self.path.resolve()
        if Path.cwd().is_relative_to(home):
            return "the working directory"
        if Path.home().is_relative_to(home):
            return "your home directory"
        own = (home / self.config.name, home / self.cache.name)
        return next(
            (
                path
                for path in reads
                if path.resolve().is_relative_to(home) and not any(path.resolve().is_relative_to(one) for one in own)
            ),
            None,
        )

    def _check_links(self) -> None:
        # What a run writes stays in its folder, whoever made the folder.
        home = self.path.resolve()
        written = (
            self.checkpoints,
            self.cache,
            self.predictions,
            self.pictures,
            self.plugins,
            self.log,
            self.tensorboard,
            self.downstream.parent,
        )
        out = [inner for inner in written if inner.is_symlink() and not inner.resolve().is_relative_to(home)]
        if out:
            raise ConfigError(
                f"{out[0]}: is a link that leads out of the run's folder, where nothing is written; remove the link"
            )

    def _unwritable(self, error: OSError) -> SetupError:
        return SetupError(f"{self.path}: cannot be written ({error.strerror}); choose another output_dir")

    def _lock(self) -> None:
        try:
            holder = lock.take(self.lock)
        except OSError as error:
            raise self._unwritable(error) from error
        if holder is not None:
            raise SetupError(
                f"{self.path}: is used by {holder}; wait for it, choose another output_dir, or, if that process is "
                f"gone from its machine, delete {self.lock}"
            )

    def _clear(self) -> None:
        """Remove what a run wrote, by name; its config is replaced when the new one is written."""
        for name, inner_names in _WRITTEN.items():
            entry = self.path / name
            if inner_names is None or entry.is_symlink() or not entry.is_dir():
                entry.unlink(missing_ok=True)
                continue
            for inner in entry.iterdir():
                if re.fullmatch(inner_names, inner.name):
                    _remove(inner)
            if not any(entry.iterdir()):
                entry.rmdir()

    def strangers(self) -> list[Path]:
        """What lies in the folder that no run wrote."""
        known = {*_WRITTEN, self.config.name, self.mark.name, self.lock.name}
        return [inner for inner in self.path.iterdir() if inner.name not in known and not inner.name.startswith(PART)]


_OF_A_RUN = "medtrans run"

_WRITTEN: Mapping[str, str | None] = {
    **dict.fromkeys(
        (
            "cases.csv", "environment.json", "log.txt", "status.json", "watch.json", "metrics.csv", "summary.json",
            "costs.json", "faithfulness.json", "report.html",
        )
    ),
    "checkpoints": r"step_\d{8,}|[a-z]+\.json|\.part-.*",
    "cache": r"[0-9a-f]{32}|\.part-.*",
    "predictions": r".*\.(nii\.gz|nii|json)|\.part-.*",
    "pictures": r".*\.(png|nii\.gz)|errors\.json|\.part-.*",
    "plugins": r".*\.py|__pycache__|\.part-.*",
    "tensorboard": r"events\.out\.tfevents\..*",
    "downstream": r".*",
}  # fmt: skip
"""What a run writes at the top of its folder; of a folder, what the names of its own entries look like."""


def _remove(entry: Path) -> None:
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry)
    else:
        entry.unlink()


def _mapping(path: Path) -> dict[str, Any]:
    """A JSON file's mapping; empty where there is none."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _is_cached(entry: Path) -> bool:
    return entry.is_dir() and (entry.name.startswith(PART) or (entry / "entry.json").is_file())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
