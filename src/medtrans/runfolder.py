"""Owns what a run leaves behind, where, and who may write there."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from medtrans.atomic import write_json, write_text
from medtrans.errors import ConfigError, SetupError

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
    def metrics(self) -> Path:
        """Scores, a row per case."""
        return self.path / "metrics.csv"

    @property
    def summary(self) -> Path:
        """Scores over cases, beside the trivial baselines."""
        return self.path / "summary.json"

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
        begun = folder.path.is_dir() and any(folder.path.iterdir())
        if resume and not folder.config.is_file():
            raise ConfigError(f"{folder.path}: nothing to resume, config.yaml is missing; leave out --resume")
        if begun and not resume and not overwrite:
            raise ConfigError(
                f"{folder.path}: is not empty; continue with --resume, begin anew with --overwrite, or set output_dir"
            )
        if begun and overwrite and not resume and not folder.config.is_file():
            raise ConfigError(f"{folder.path}: holds files that no run left; --overwrite only replaces a run")
        try:
            folder.path.mkdir(parents=True, exist_ok=True)
            folder._lock()
        except OSError as error:
            raise SetupError(
                f"{folder.path}: cannot be written ({error.strerror}); choose another output_dir"
            ) from error
        if begun and overwrite and not resume:
            folder._clear()
        for inner in (folder.checkpoints, folder.predictions):
            inner.mkdir(exist_ok=True)
        return folder

    def release(self) -> None:
        """Let others write here."""
        self.lock.unlink(missing_ok=True)

    def say(self, state: str, **details: Any) -> None:
        """Record where the run stands."""
        write_json(self.status, {"state": state, "at": _now(), **details})

    def write_config(self, text: str) -> None:
        """Store the checked config."""
        write_text(self.config, text)

    def write_environment(self, facts: Mapping[str, Any]) -> None:
        """Store versions, machine and command."""
        write_json(self.environment, dict(facts))

    def read_json(self, path: Path) -> dict[str, Any]:
        """A JSON file of this run.

        Raises:
            ConfigError: it is missing or damaged.
        """
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, json.JSONDecodeError) as error:
            raise ConfigError(f"{path}: is missing or damaged ({error}); the run may not have ended") from error
        if not isinstance(value, dict):
            raise ConfigError(f"{path}: expected a mapping, found {type(value).__name__}")
        return value

    def _lock(self) -> None:
        mine = json.dumps({"host": socket.gethostname(), "process": os.getpid(), "since": _now()})
        try:
            with self.lock.open("x", encoding="utf-8") as file:
                file.write(mine)
        except FileExistsError:
            holder = self._holder()
            if holder is not None:
                raise SetupError(
                    f"{self.path}: is used by process {holder['process']} on {holder['host']} since {holder['since']}; "
                    f"wait for it, or delete {self.lock} if it is gone"
                ) from None
            write_text(self.lock, mine)

    def _holder(self) -> dict[str, Any] | None:
        """Who holds the lock; None where the holder was on this machine and is gone."""
        try:
            holder = json.loads(self.lock.read_text(encoding="utf-8"))
            process, host = int(holder["process"]), str(holder["host"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if host == socket.gethostname() and not _alive(process):
            return None
        return {"process": process, "host": host, "since": holder.get("since", "unknown")}

    def _clear(self) -> None:
        for inner in self.path.iterdir():
            if inner == self.lock:
                continue
            if inner.is_dir() and not inner.is_symlink():
                shutil.rmtree(inner)
            else:
                inner.unlink()


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
