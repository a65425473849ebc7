"""Owns the story of a run, from a config to a report; the first file to read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from medtrans.assembly import make_fabric, make_method
from medtrans.assessment import assess
from medtrans.config import load_config
from medtrans.inference import Translator, load
from medtrans.opening import opened
from medtrans.readiness import CheckReport, tiny_step
from medtrans.runfolder import RunFolder
from medtrans.runreport import write_report
from medtrans.study import Study, gather_cohort
from medtrans.trainer import train_method

__all__ = ["Config", "check", "evaluate", "run"]

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
    """
    experiment = load_config(_layers(config), overrides, plugins=plugins)
    cohort, warnings = gather_cohort(experiment)
    with opened(experiment, cohort, warnings, resume=resume, overwrite=overwrite) as folder:
        study = Study(experiment, cohort, folder.cache)
        target_numbers = study.prepare()
        method = make_method(experiment, training_cases=len(cohort.of("train")))
        translator = Translator(experiment, method, study.preprocessing, target_numbers)
        train_method(study, method, translator, make_fabric(experiment.config.train), folder, continued=resume)
        assess(study, load(folder.path, plugins=plugins), folder, warnings)
        write_report(folder)
    return folder


def check(config: Config, overrides: Sequence[str] = (), *, plugins: Sequence[Path] = ()) -> CheckReport:
    """Find out all that can be known before the first step: config, plugins, cases, headers, one tiny step.

    Raises:
        MedtransError: with everything that is wrong.
    """
    experiment = load_config(_layers(config), overrides, plugins=plugins)
    cohort, warnings = gather_cohort(experiment)
    networks = tiny_step(experiment, cohort).networks()
    return CheckReport(
        cases={split: len(cohort.of(split)) for split in ("train", "validation", "test")},
        parameters={name: sum(one.numel() for one in network.parameters()) for name, network in networks.items()},
        warnings=tuple(warnings),
    )


def evaluate(run_folder: Path | str, *, plugins: Sequence[Path] = ()) -> RunFolder:
    """Score a trained run's test cases again and write its report.

    Raises:
        MedtransError: the run is not there, or its data have changed so that they cannot be read.
    """
    folder = RunFolder.existing(run_folder)
    translator = load(folder.path, plugins=plugins)
    cohort, warnings = gather_cohort(translator.experiment)
    assess(Study(translator.experiment, cohort, folder.cache), translator, folder, warnings)
    write_report(folder)
    return folder


def _layers(config: Config) -> list[str | Path | Mapping[str, Any]]:
    return [config] if isinstance(config, str | Path | Mapping) else list(config)
