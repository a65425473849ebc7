"""The beginning and the end of writing in a run folder: records first, status and lock whatever happens."""

from __future__ import annotations

import hashlib
import logging
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from medtrans.config.experiment import Experiment
from medtrans.data.anonymize import Anonymizer
from medtrans.data.cohort import Cohort, write_cases
from medtrans.distributed.ranks import Ranks
from medtrans.errors import MedtransError, RunInterruptedError
from medtrans.runs.folder import RunFolder
from medtrans.runs.provenance import environment_facts
from medtrans.runs.resume import refuse_other_config

__all__ = ["run_session"]


_log = logging.getLogger("medtrans")


class _Discreet(logging.Formatter):
    """What is written to the log may be shared; what is said on the terminal names files and cases."""

    def __init__(self, discretion: Anonymizer) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")
        self._discretion = discretion

    def format(self, record: logging.LogRecord) -> str:
        return self._discretion.shareable(super().format(record))


@contextmanager
def run_session(
    experiment: Experiment,
    cohort: Cohort,
    warnings: Sequence[str],
    *,
    resume: bool,
    overwrite: bool,
    ranks: Ranks | None = None,
) -> Iterator[RunFolder]:
    """The run's folder with config, cases, environment and log in place, released at the end.

    Of several ranks the leading one takes the folder and writes; the others wait until it is there.

    Raises:
        ConfigError: the folder cannot be taken, or a run to resume had another config; its first differences are named.
        SetupError: another process is using the folder.
    """
    ranks = ranks or Ranks()
    if not ranks.leads:
        with _quiet(), ranks.explain_failures():
            ranks.wait()
            yield RunFolder(Path(experiment.config.output_dir))
            ranks.wait()
        return
    folder = RunFolder.claim(experiment.config.output_dir, resume=resume, overwrite=overwrite)
    handler = logging.FileHandler(folder.log, encoding="utf-8")
    discretion = Anonymizer(cohort, experiment)
    handler.setFormatter(_Discreet(discretion))
    talk = logging.StreamHandler(sys.stderr)
    talk.setFormatter(logging.Formatter("%(message)s"))
    level = _log.level
    _log.setLevel(logging.INFO)
    _log.addHandler(handler)
    _log.addHandler(talk)
    try:
        if resume:
            refuse_other_config(folder, experiment, ranks.count)
        _leave_records(folder, experiment, cohort)
        for warning in warnings:
            _log.warning("%s", warning)
        folder.say("running")
        ranks.on_forced_exit(lambda error: _say_ended(folder, error, discretion))
        with ranks.explain_failures():
            ranks.wait()
            yield folder
            ranks.wait()
        folder.say("done")
    except BaseException as error:
        _say_ended(folder, error, discretion)
        raise
    finally:
        for each in (handler, talk):
            _log.removeHandler(each)
            each.flush()
        handler.close()
        _log.setLevel(level)
        folder.release()


def _say_ended(folder: RunFolder, error: BaseException, discretion: Anonymizer) -> None:
    state = "interrupted" if isinstance(error, RunInterruptedError) else "failed"
    told = str(error) if isinstance(error, MedtransError) else type(error).__name__
    folder.say(state, error=discretion.shareable(told))


@contextmanager
def _quiet() -> Iterator[None]:
    """What the leading rank says too is said once: the others warn only."""
    talk = logging.StreamHandler(sys.stderr)
    talk.setFormatter(logging.Formatter("%(message)s"))
    talk.setLevel(logging.ERROR)
    propagate, _log.propagate = _log.propagate, False
    _log.addHandler(talk)
    try:
        yield
    finally:
        _log.removeHandler(talk)
        _log.propagate = propagate


def _leave_records(folder: RunFolder, experiment: Experiment, cohort: Cohort) -> None:
    folder.write_config(experiment.saved_text())
    write_cases(folder.cases, cohort)
    files = [Path(origin.location) for origin in experiment.origins() if origin.distribution is None]
    for file in files:
        folder.plugins.mkdir(exist_ok=True)
        shutil.copyfile(file, folder.plugins / file.name)
    digests = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    folder.write_environment(environment_facts(plugin_files=digests))
