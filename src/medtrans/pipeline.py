"""The story of a run, from a config to a report; the first file to read."""

from __future__ import annotations

import json
import shutil
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeAlias

from medtrans.config.experiment import Experiment
from medtrans.config.loading import load_config
from medtrans.data.checks.cases import CheckReport
from medtrans.data.datamodule import DataModule, load_cohort
from medtrans.distributed.devices import distributed_session
from medtrans.distributed.launch import launch_ranks, needs_launch
from medtrans.distributed.signals import end_requests
from medtrans.errors import ConfigError, SetupError
from medtrans.evaluation.downstream.experiment import plan_downstream, run_downstream
from medtrans.evaluation.evaluator import score_test_cases
from medtrans.evaluation.scorer import Scorer
from medtrans.evaluation.validation import Validator
from medtrans.inference.loading import load
from medtrans.inference.translator import Translator
from medtrans.report.run_report import write_report
from medtrans.runs.folder import RunFolder
from medtrans.runs.session import check_same_data, run_session, write_records
from medtrans.training.build import make_method, warn_of_jumps
from medtrans.training.preflight import run_preflight
from medtrans.training.trainer import announce, train_method
from medtrans.utils.memory import memory_faults

__all__ = ["Config", "check", "clear_cache", "downstream", "evaluate", "run"]

_SMALLER_WINDOWS = "lower inference.window or inference.batch in the run's config and evaluate it again"
_SMALLER_VOLUMES = "set preprocess.spacing_mm to larger voxels, or use a machine with more memory"

Config: TypeAlias = str | Path | Mapping[str, Any] | Sequence[str | Path | Mapping[str, Any]]


@contextmanager
def _exits_told() -> Iterator[None]:
    """A plugin that calls `sys.exit` has not ended the work: to a script, code 0 would look as if it had."""
    try:
        yield
    except SystemExit as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        raise SetupError(
            f"{frame.filename}:{frame.lineno}: called for the end of the program (SystemExit: {error.code}), and the "
            "work is not done; let the plugin raise an error that says why instead"
        ) from error


@_exits_told()
def run(
    config: Config,
    overrides: Sequence[str] = (),
    *,
    resume: bool = False,
    overwrite: bool = False,
    plugins: Sequence[Path] = (),
) -> RunFolder:
    """Train, validate, test and report what a config describes.

    Args:
        config: a file, the name of a shipped config, a mapping, or several of these, the later winning.
        overrides: `key=value`.
        resume: continue from the newest checkpoint in the config's output folder.
        overwrite: begin anew in an output folder that holds a run.
        plugins: single-file plugins to have at hand.

    Raises:
        MedtransError: with everything that is wrong; nothing is written before config and cases are known to be right.
        RunInterruptedError: a signal asked it to end; it may be resumed.
    """
    layers = _layers(config)
    experiment = _where_it_lies(layers, overrides, plugins)
    if needs_launch(experiment):
        launch_ranks(experiment, resume=resume, overwrite=overwrite, plugins=plugins)
        return RunFolder(Path(experiment.config.output_dir))
    with end_requests() as request, distributed_session(experiment.config.train) as (fabric, ranks):
        output = Path(experiment.config.output_dir)
        goes_on = resume and RunFolder(output).has_begun_training
        cohort, warnings = load_cohort(experiment, RunFolder(output).cases if goes_on else None)
        planned = plan_downstream(experiment, cohort, output, plugins=plugins) if experiment.config.downstream else None
        method = make_method(experiment, training_cases=len(cohort.of("train")), ranks=ranks.count)
        reads = [Path(layer) for layer in layers if not isinstance(layer, Mapping)]
        with run_session(
            experiment, cohort, warnings, resume=resume, overwrite=overwrite, ranks=ranks, reads=reads
        ) as folder:
            data = DataModule(experiment, cohort, folder.cache)
            if ranks.leads:
                announce(data, fabric, ranks, folder)
            scorer = Scorer.of(data)
            with memory_faults("preprocessing", _SMALLER_VOLUMES):
                target_numbers = data.prepare(ranks, request)
            if goes_on and ranks.leads:
                check_same_data(folder, data, ("train", "validation", "test"))
                warn_of_jumps(folder, experiment, training_cases=len(cohort.of("train")), ranks=ranks.count)
                write_records(folder, experiment, cohort)
            if (smallest := data.smallest_scored()) is not None:
                warnings = [*warnings, *scorer.try_metrics(smallest, data.cache.prepared(smallest))]
            translator = Translator(experiment, method, data.preprocessing, target_numbers)
            validator = Validator(data, scorer, translator, ranks)
            train_method(data, method, validator, fabric, folder, continued=resume, ranks=ranks, request=request)
            trained = load(folder.path, plugins=plugins)
            with memory_faults("test", _SMALLER_WINDOWS):
                score_test_cases(data, scorer, trained, folder, warnings, ranks=ranks, request=request)
            if ranks.leads:
                if planned is not None:
                    run_downstream(planned, trained)
                write_report(folder)
    return folder


@_exits_told()
def check(config: Config, overrides: Sequence[str] = (), *, plugins: Sequence[Path] = ()) -> CheckReport:
    """Find out all that can be known before the first step: config, plugins, every header and voxel, one tiny step.

    What is wrong with cases, networks and losses is in the report, all of it; nothing is written.

    Raises:
        MedtransError: the config is wrong, there are no cases to look at, or `downstream` cannot be done with them.
    """
    experiment = _where_it_lies(_layers(config), overrides, plugins)
    with memory_faults("reading cases", _SMALLER_VOLUMES):
        report = run_preflight(experiment, Scorer.of)
    if report.ready and experiment.config.downstream is not None:
        plan_downstream(experiment, load_cohort(experiment)[0], Path(experiment.config.output_dir), plugins=plugins)
    return report


def clear_cache(config: Config, overrides: Sequence[str] = (), *, plugins: Sequence[Path] = ()) -> int:
    """Remove the preprocessed volumes from a config's output folder, and nothing else; returns the bytes freed.

    Raises:
        MedtransError: the config is wrong, another process uses the run, or somebody else's files lie there.
    """
    return RunFolder(Path(_where_it_lies(_layers(config), overrides, plugins).config.output_dir)).clear_cache()


@_exits_told()
def evaluate(run_folder: Path | str, overrides: Sequence[str] = (), *, plugins: Sequence[Path] = ()) -> RunFolder:
    """Score a trained run's test cases again and write its report.

    The run's own table of cases says which they are, whatever its split's file or a new draw would say now.

    Args:
        run_folder: of the run.
        overrides: `key=value` under `dataset.options` or `reading`, or `split.path`, for data that have moved.
        plugins: the single-file plugins the run was trained with.

    Raises:
        MedtransError: the run is not there, or a case has changed, moved to another split or gone; each is named.
    """
    folder = RunFolder.existing(run_folder)
    foreign = [one for one in overrides if not one.startswith(("dataset.options.", "split.path", "reading."))]
    if foreign:
        raise ConfigError(
            f"{foreign[0]}: the run is trained; only keys under dataset.options and reading, and split.path, can be set"
        )
    translator = load(folder.path, overrides, plugins=plugins)
    with end_requests() as request, distributed_session(translator.experiment.config.train) as (_, ranks):
        cohort, warnings = load_cohort(translator.experiment, folder.cases)
        data = DataModule(translator.experiment, cohort, folder.cache, learned=translator.preprocessing.learned)
        with folder.locked() if ranks.leads else nullcontext():
            if ranks.leads:
                check_same_data(folder, data, ("train", "test"))
            with memory_faults("test", _SMALLER_WINDOWS):
                score_test_cases(data, Scorer.of(data), translator, folder, warnings, ranks=ranks, request=request)
            if ranks.leads:
                write_report(folder)
    return folder


@_exits_told()
def downstream(
    run_folder: Path | str,
    overrides: Sequence[str] = (),
    *,
    overwrite: bool = False,
    plugins: Sequence[Path] = (),
) -> RunFolder:
    """Find out what a trained run's synthetic images are worth to a segmenter, and write its report.

    Args:
        run_folder: of the run.
        overrides: `key=value` under `downstream`, for a run whose config has none or another.
        overwrite: begin anew; without it, what an earlier try has finished is kept.
        plugins: the single-file plugins the run was trained with.

    Raises:
        MedtransError: with everything that is wrong, before anything but preprocessed volumes is written.
    """
    folder = RunFolder.existing(run_folder)
    foreign = [one for one in overrides if not one.startswith("downstream.")]
    if foreign:
        raise ConfigError(f"{foreign[0]}: the run is trained; only keys under downstream can be set here")
    experiment = load_config([folder.config], overrides, plugins=plugins)
    translator = load(folder.path, plugins=plugins)
    cohort, _ = load_cohort(experiment, folder.cases)
    planned = plan_downstream(experiment, cohort, folder.path, plugins=plugins)
    data = DataModule(experiment, cohort, folder.cache, learned=translator.preprocessing.learned)
    RunFolder.claim(folder.path, resume=True, overwrite=False)
    try:
        check_same_data(folder, data, ("train", "test"))
        if overwrite:
            shutil.rmtree(planned.folder, ignore_errors=True)
        with memory_faults("segmenters", "lower patch.size or train.batch under downstream.segmenter"):
            run_downstream(planned, translator)
        if folder.summary.is_file():
            write_report(folder)
    finally:
        folder.release()
    return folder


def _layers(config: Config) -> list[str | Path | Mapping[str, Any]]:
    return [config] if isinstance(config, str | Path | Mapping) else list(config)


def _where_it_lies(layers: Sequence[Any], overrides: Sequence[str], plugins: Sequence[Path]) -> Experiment:
    """The experiment of a config; one that a run keeps beside its checkpoints acts in that folder.

    A run that was copied or moved has the place in its config where it was before.
    """
    kept = [Path(layer) for layer in layers if not isinstance(layer, Mapping)]
    own = [file.parent for file in kept if file.name == RunFolder(file.parent).config.name]
    here = [f"output_dir={json.dumps(str(folder.absolute()))}" for folder in own if RunFolder(folder).is_run]
    return load_config(layers, [*here, *overrides], plugins=plugins)
