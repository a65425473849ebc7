"""Owns the joining of a study, a method and the training loop."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from lightning_fabric import Fabric

from medtrans import checkpoint
from medtrans.assessment import validation_scores
from medtrans.cohort import Member
from medtrans.components import Callback, Method, RunInfo, Scored
from medtrans.errors import ConfigError
from medtrans.inference import Translator
from medtrans.initialise import initialise
from medtrans.patches import training_loader
from medtrans.runfolder import RunFolder
from medtrans.study import Study
from medtrans.training import Plan, Standing, resume, train

__all__ = ["train_method"]

_log = logging.getLogger("medtrans")


def train_method(
    study: Study, method: Method, translator: Translator, fabric: Fabric, folder: RunFolder, *, continued: bool
) -> None:
    """Train to the config's last step, from the newest checkpoint where the run is continued.

    Raises:
        ConfigError: there is no checkpoint to continue from.
        TrainingError: training had to stop.
    """
    config = study.experiment.config
    if not continued and config.train.initialise_from is not None:
        initialise(method, config.train.initialise_from)
    method.setup(fabric)
    standing = _standing(method, folder) if continued else Standing()
    members = study.cohort.of("validation")[: config.train.validation_cases]
    callbacks: list[Callback] = [
        study.experiment.build("callbacks", name) for name in study.experiment.under("callbacks")
    ]
    run = RunInfo(folder.path, study.experiment.saved(), standing.step, config.train.steps)
    train(
        method,
        fabric_batches(study, method, fabric, standing.step),
        _plan(study, translator, fabric, folder),
        standing=standing,
        validate=(lambda: _validated(study, translator, members)) if members else None,
        callbacks=callbacks,
        run=run,
    )


def _standing(method: Method, folder: RunFolder) -> Standing:
    found = checkpoint.newest(folder.checkpoints)
    if found is None:
        raise ConfigError(f"{folder.path}: no checkpoint to resume from; begin anew with --overwrite")
    for reason in found.skipped:
        _log.warning("checkpoint passed over: %s", reason)
    _log.info("resuming from step %d", found.step)
    return resume(method, found)


def fabric_batches(study: Study, method: Method, fabric: Fabric, first_step: int) -> Any:
    """Batches on the device, one for each step from `first_step` on."""
    config = study.experiment.config
    loader = training_loader(
        study.cache,
        study.cohort.of("train"),
        patch_size=config.patch.size,
        per_volume=config.patch.per_volume,
        foreground=config.patch.foreground,
        seed=config.seed,
        batch=config.train.batch * config.train.accumulate,
        steps=config.train.steps,
        first_step=first_step,
        rank=fabric.global_rank,
        ranks=fabric.world_size,
        workers=config.train.workers,
        augmentations=[study.experiment.build("augment", name) for name in study.experiment.under("augment")],
        pairing=method.pairing,
    )
    return (batch.to(fabric.device, non_blocking=True) for batch in loader)


def _plan(study: Study, translator: Translator, fabric: Fabric, folder: RunFolder) -> Plan:
    settings = study.experiment.config.train
    columns = study.judge.columns
    chosen = next((name for name in columns if settings.best in (name, name.rpartition("_")[0])), None)
    return Plan(
        seed=study.experiment.config.seed,
        rank=fabric.global_rank,
        steps=settings.steps,
        validate_every=settings.validate_every,
        checkpoint_every=settings.checkpoint_every,
        keep=settings.keep,
        best=chosen,
        best_is_higher=columns[chosen].higher_is_better if chosen else True,
        checkpoints=folder.checkpoints,
        config_hash=_hash(study.experiment.saved()),
        extra={"target_numbers": {name: dict(numbers) for name, numbers in translator.target_numbers.items()}},
    )


def _validated(
    study: Study, translator: Translator, members: Sequence[Member]
) -> tuple[Mapping[str, float], list[Scored]]:
    names = study.experiment.config.names
    found = validation_scores(study, translator, members)
    scored = [Scored(scores.case if names else scores.label, scores.values, picture) for scores, picture in found]
    return {name: fmean(case.scores[name] for case in scored) for name in scored[0].scores}, scored


def _hash(config: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()
