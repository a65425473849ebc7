"""What a run leaves behind, where, and who may write there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from medtrans.errors import ConfigError, SetupError
from medtrans.runs import lock
from medtrans.utils.files import write_json, write_text

__all__ = ["RunFolder"]


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run.

    What stays with the data (predictions, metrics.csv, cases.csv, config.yaml) carries case ids; what is made to be
    shared (report, TensorBoard, log, checkpoints) carries case numbers.
    """

    path: Path

    @property
    def config(self) -> Path:
        """The checked config, which runs again as it is."""
        return self.path / "config.yaml"

    @property
    def cases(self) -> Path:
        """The key from case numbers to case ids; readable by its owner only."""
        return self.path / "cases.csv"

    @property
    def environment(self) -> Path:
        """Versions, machine and command."""
        return self.path / "environment.json"

    @property
    def log(self) -> Path:
        """What was said while running."""
        return self.path / "log.txt"

    @property
    def status(self) -> Path:
        """Where the run stands."""
        return self.path / "status.json"

    @property
    def lock(self) -> Path:
        """Who is writing here."""
        return self.path / "run.lock"

    @property
    def checkpoints(self) -> Path:
        """Weights and training state."""
        return self.path / "checkpoints"

    @property
    def cache(self) -> Path:
        """Preprocessed volumes; may be deleted at any time."""
        return self.path / "cache"

    @property
    def predictions(self) -> Path:
        """Translated test cases."""
        return self.path / "predictions"

    @property
    def pictures(self) -> Path:
        """Worst, median and best test case, for the report."""
        return self.path / "pictures"

    @property
    def plugins(self) -> Path:
        """Copies of the single-file plugins the run used."""
        return self.path / "plugins"

    @property
    def tensorboard(self) -> Path:
        """Curves for TensorBoard."""
        return self.path / "tensorboard"

    @property
    def watch(self) -> Path:
        """What the watch over the training has seen."""
        return self.path / "watch.json"

    @property
    def metrics(self) -> Path:
        """Scores, a row per case."""
        return self.path / "metrics.csv"

    @property
    def summary(self) -> Path:
        """Scores over cases, beside the trivial baselines."""
        return self.path / "summary.json"

    @property
    def costs(self) -> Path:
        """Parameters, time and memory."""
        return self.path / "costs.json"

    @property
    def faithfulness(self) -> Path:
        """What was watched for in the test cases: strange sources, lesions lost or invented, copies, collapse."""
        return self.path / "faithfulness.json"

    @property
    def downstream(self) -> Path:
        """What synthetic images are worth to a segmenter."""
        return self.path / "downstream" / "results.json"

    @property
    def report(self) -> Path:
        """The page to read first."""
        return self.path / "report.html"

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

    @classmethod
    def claim(cls, path: Path | str, *, resume: bool, overwrite: bool) -> RunFolder:
        """Take the folder for this process.

        Raises:
            ConfigError: it holds something, and neither `resume` nor `overwrite` says what to do with it; or there is
                nothing to resume.
            SetupError: it cannot be written, or another process is using it.
        """
        folder = cls(Path(path))
        if not folder.lock.is_file():  # nobody has it: what is not to be replaced is told without a trace
            folder._refuse_what_is_there(resume=resume, overwrite=overwrite)
        try:
            folder.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise folder._unwritable(error) from error
        folder._lock()
        try:
            # Once more: another run may have come and gone before the lock was had.
            folder._refuse_what_is_there(resume=resume, overwrite=overwrite)
            if overwrite and not resume:
                folder._clear()
            for inner in (folder.checkpoints, folder.predictions):
                inner.mkdir(exist_ok=True)
        except OSError as error:
            folder.release()
            raise folder._unwritable(error) from error
        except BaseException:
            folder.release()
            raise
        return folder

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Write in the folder of a run that has ended, while nobody else does.

        Raises:
            ConfigError: a link leads out of the folder.
            SetupError: it cannot be written, or another process is using it.
        """
        self._refuse_links()
        self._lock()
        try:
            yield
        finally:
            self.release()

    def release(self) -> None:
        """Let others write here."""
        lock.release(self.lock)

    def say(self, state: str, **details: Any) -> None:
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

    def _refuse_what_is_there(self, *, resume: bool, overwrite: bool) -> None:
        begun = self.path.is_dir() and any(inner != self.lock for inner in self.path.iterdir())
        if resume and not self.config.is_file():
            raise ConfigError(f"{self.path}: nothing to resume, config.yaml is missing; leave out --resume")
        if begun and not resume and not overwrite:
            raise ConfigError(
                f"{self.path}: is not empty; continue with --resume, begin anew with --overwrite, or set output_dir"
            )
        if begun and overwrite and not resume and not self.config.is_file():
            raise ConfigError(f"{self.path}: holds files that no run left; --overwrite only replaces a run")
        if resume:
            self._refuse_links()

    def _refuse_links(self) -> None:
        """What a run writes stays in its folder, whoever made the folder."""
        home = self.path.resolve()
        written = (
            self.checkpoints,
            self.cache,
            self.predictions,
            self.pictures,
            self.plugins,
            self.log,
            self.tensorboard,
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
        for inner in self.path.iterdir():
            if inner == self.lock:
                continue
            if inner.is_dir() and not inner.is_symlink():
                shutil.rmtree(inner)
            else:
                inner.unlink()


def _is_cached(entry: Path) -> bool:
    return entry.is_dir() and (entry.name.startswith(".part-") or (entry / "entry.json").is_file())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
