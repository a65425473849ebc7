"""Owns the story of a run, from a config to a report; the first file to read."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypeAlias

from medtrans.assembly import make_method
from medtrans.assessment import assess
from medtrans.checkreport import CheckReport
from medtrans.config import load_config
from medtrans.devices import connected
from medtrans.downstream import planned, synthetic_to_real
from medtrans.errors import ConfigError
from medtrans.inference import Translator, load
from medtrans.judging import Judge
from medtrans.launch import launch_ranks, needs_launch
from medtrans.opening import opened
from medtrans.readiness import examine
from medtrans.runfolder import RunFolder
from medtrans.runreport import write_report
from medtrans.signals import end_requests
from medtrans.study import Study, gather_cohort
from medtrans.trainer import train_method
from medtrans.validation import Validator

__all__ = ["Config", "check", "clear_cache", "downstream", "evaluate", "run"]

Config: TypeAlias = str | Path | Mapping[str, Any] | Sequence[str | Path | Mapping[str, Any]]


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
    experiment = load_config(_layers(config), overrides, plugins=plugins)
    if needs_launch(experiment):
        launch_ranks(experiment, resume=resume, overwrite=overwrite, plugins=plugins)
        return RunFolder(Path(experiment.config.output_dir))
    with end_requests() as request, connected(experiment.config.train) as (fabric, ranks):
        cohort, warnings = gather_cohort(experiment)
        output = Path(experiment.config.output_dir)
        worth = planned(experiment, cohort, output, plugins=plugins) if experiment.config.downstream else None
        method = make_method(experiment, training_cases=len(cohort.of("train")), ranks=ranks.count)
        with opened(experiment, cohort, warnings, resume=resume, overwrite=overwrite, ranks=ranks) as folder:
            study = Study(experiment, cohort, folder.cache)
            judge = Judge.of(study)
            target_numbers = study.prepare(ranks, request)
            translator = Translator(experiment, method, study.preprocessing, target_numbers)
            validator = Validator(study, judge, translator, ranks)
            train_method(study, method, validator, fabric, folder, continued=resume, ranks=ranks, request=request)
            trained = load(folder.path, plugins=plugins)
            assess(study, judge, trained, folder, warnings, ranks=ranks, request=request)
            if ranks.leads:
                if worth is not None:
                    synthetic_to_real(worth, trained)
                write_report(folder)
    return folder


def check(config: Config, overrides: Sequence[str] = (), *, plugins: Sequence[Path] = ()) -> CheckReport:
    """Find out all that can be known before the first step: config, plugins, every header and voxel, one tiny step.

    What is wrong with cases, networks and losses is in the report, all of it; nothing is written.

    Raises:
        MedtransError: the config is wrong, there are no cases to look at, or `downstream` cannot be done with them.
    """
    experiment = load_config(_layers(config), overrides, plugins=plugins)
    report = examine(experiment, Judge.of)
    if report.ready and experiment.config.downstream is not None:
        planned(experiment, gather_cohort(experiment)[0], Path(experiment.config.output_dir), plugins=plugins)
    return report


def clear_cache(config: Config, overrides: Sequence[str] = (), *, plugins: Sequence[Path] = ()) -> int:
    """Remove the preprocessed volumes from a config's output folder, and nothing else; returns the bytes freed.

    Raises:
        MedtransError: the config is wrong, another process uses the run, or somebody else's files lie there.
    """
    return RunFolder(Path(load_config(_layers(config), overrides, plugins=plugins).config.output_dir)).clear_cache()


def evaluate(run_folder: Path | str, *, plugins: Sequence[Path] = ()) -> RunFolder:
    """Score a trained run's test cases again and write its report.

    Raises:
        MedtransError: the run is not there, or its data have changed so that they cannot be read.
    """
    folder = RunFolder.existing(run_folder)
    translator = load(folder.path, plugins=plugins)
    with end_requests() as request, connected(translator.experiment.config.train) as (_, ranks):
        cohort, warnings = gather_cohort(translator.experiment)
        study = Study(translator.experiment, cohort, folder.cache, learned=translator.preprocessing.learned)
        with folder.taken() if ranks.leads else nullcontext():
            assess(study, Judge.of(study), translator, folder, warnings, ranks=ranks, request=request)
            if ranks.leads:
                write_report(folder)
    return folder


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
        MedtransError: with everything that is wrong, before anything is written.
    """
    folder = RunFolder.existing(run_folder)
    foreign = [one for one in overrides if not one.startswith("downstream.")]
    if foreign:
        raise ConfigError(f"{foreign[0]}: the run is trained; only keys under downstream can be set here")
    experiment = load_config([folder.config], overrides, plugins=plugins)
    translator = load(folder.path, plugins=plugins)
    cohort, _ = gather_cohort(experiment)
    assessment = planned(experiment, cohort, folder.path, plugins=plugins)
    RunFolder.claim(folder.path, resume=True, overwrite=False)
    try:
        if overwrite:
            shutil.rmtree(assessment.folder, ignore_errors=True)
        synthetic_to_real(assessment, translator)
        if folder.summary.is_file():
            write_report(folder)
    finally:
        folder.release()
    return folder


def _layers(config: Config) -> list[str | Path | Mapping[str, Any]]:
    return [config] if isinstance(config, str | Path | Mapping) else list(config)
