"""Owns the beginning and the end of writing in a run folder: records first, status and lock whatever happens."""

from __future__ import annotations

import hashlib
import logging
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import yaml

from medtrans.cohort import Cohort, write_cases
from medtrans.config import Experiment, differences
from medtrans.environment import environment_facts
from medtrans.errors import ConfigError, MedtransError
from medtrans.runfolder import RunFolder

__all__ = ["opened"]

_log = logging.getLogger("medtrans")


@contextmanager
def opened(
    experiment: Experiment, cohort: Cohort, warnings: Sequence[str], *, resume: bool, overwrite: bool
) -> Iterator[RunFolder]:
    """The run's folder with config, cases, environment and log in place, released at the end.

    Raises:
        ConfigError: the folder cannot be taken, or a run to resume had another config; its first differences are named.
        SetupError: another process is using the folder.
    """
    folder = RunFolder.claim(experiment.config.output_dir, resume=resume, overwrite=overwrite)
    handler = logging.FileHandler(folder.log, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    talk = logging.StreamHandler(sys.stderr)
    talk.setFormatter(logging.Formatter("%(message)s"))
    level = _log.level
    _log.setLevel(logging.INFO)
    _log.addHandler(handler)
    _log.addHandler(talk)
    try:
        if resume:
            _refuse_other_config(folder, experiment)
        _leave_records(folder, experiment, cohort)
        for warning in warnings:
            _log.warning("%s", warning)
        folder.say("running")
        yield folder
        folder.say("done")
    except BaseException as error:
        folder.say("failed", error=str(error) if isinstance(error, MedtransError) else type(error).__name__)
        raise
    finally:
        for each in (handler, talk):
            _log.removeHandler(each)
            each.flush()
        handler.close()
        _log.setLevel(level)
        folder.release()


def _refuse_other_config(folder: RunFolder, experiment: Experiment) -> None:
    before = yaml.safe_load(folder.config.read_text(encoding="utf-8"))
    found = differences(before, experiment.saved())
    if found:
        raise ConfigError(
            f"{folder.config}: the run to resume had another config ({len(found)} differences):",
            *(f"  {one}" for one in found[:5]),
            f"resume with its own config, medtrans run {folder.config} --resume, or choose another output_dir",
        )


def _leave_records(folder: RunFolder, experiment: Experiment, cohort: Cohort) -> None:
    folder.write_config(experiment.saved_text())
    write_cases(folder.cases, cohort)
    files = [Path(origin.location) for origin in experiment.origins() if origin.distribution is None]
    for file in files:
        folder.plugins.mkdir(exist_ok=True)
        shutil.copyfile(file, folder.plugins / file.name)
    digests = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    folder.write_environment(environment_facts(plugin_files=digests))
