"""A trained run or an export, loaded as a translator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medtrans.config.loading import load_config
from medtrans.data.fingerprint import Fingerprint
from medtrans.data.preprocessing import Preprocessing, make_preprocessing
from medtrans.errors import ConfigError, DataError
from medtrans.inference.export.format import Exported, is_export, read_export
from medtrans.inference.translator import Translator
from medtrans.runs import checkpoint
from medtrans.runs.folder import RunFolder
from medtrans.training.build import make_method

__all__ = ["load"]


_NOT_EXPORTED: Mapping[str, Any] = {
    "output_dir": ".",
    "dataset": {"name": "builtin:phantom"},
    "losses": {"l1": {"name": "builtin:l1"}},
    "metrics": {},
    "callbacks": {},
    "train": {"best": None},
}
"""What a config must have and translating does not need."""


def load(run: Path | str, overrides: Sequence[str] = (), *, plugins: Sequence[Path] = ()) -> Translator:
    """A trained run, or what was exported of it, as an object that translates, on a GPU where there is one.

    Args:
        run: folder of the run or of the export.
        overrides: `key=value` over its config, for what changes no weight, such as `reading.trust=sform`.
        plugins: the single-file plugins it was trained with; a folder never brings code by itself.

    Raises:
        ConfigError: there is no run or it holds no weights.
        DataError: its weights, or any file of an export, are damaged.

    Example:
        >>> import medtrans
        >>> translator = medtrans.load("runs/t1_to_t2")  # doctest: +SKIP
        >>> translator.translate("t1.nii.gz")  # doctest: +SKIP
    """
    if is_export(Path(run)):
        return _load_export(Path(run), overrides, plugins)
    folder = RunFolder.existing(run)
    experiment = load_config([folder.config], overrides, plugins=plugins)
    chosen = checkpoint.best(folder.checkpoints) or checkpoint.newest(folder.checkpoints)
    if chosen is None or chosen.step == 0:
        raise ConfigError(f"{folder.path}: no trained weights yet; let the run reach its first checkpoint")
    method = make_method(experiment, training_cases=None)
    weights = chosen.networks()
    for name, network in method.networks().items():
        _fill(network, weights.get(name, {}), f"{chosen.folder.name}/{name}")
    state = chosen.state()
    preprocessing = make_preprocessing(experiment)
    preprocessing.restore(state["learned"])
    known = state.get("fingerprint")
    return Translator(
        experiment,
        method,
        preprocessing,
        state["target_numbers"],
        masked=state["masked"],
        fingerprint=None if known is None else Fingerprint(known),
        backgrounds=state.get("backgrounds"),
    )


def _load_export(folder: Path, overrides: Sequence[str], plugins: Sequence[Path]) -> Translator:
    found = read_export(folder)
    experiment = load_config([_NOT_EXPORTED, found.settings], overrides, plugins=plugins)
    method = make_method(experiment, training_cases=None)
    networks = method.networks()
    for name, weights in found.weights().items():
        if name not in networks:
            raise DataError(f"{folder}: {name}.safetensors: the method has no such network; copy the export again")
        _fill(networks[name], weights, f"{folder}: {name}.safetensors")
    preprocessing = make_preprocessing(experiment)
    strangers = [name for name in (*found.learned, *found.target_numbers) if name not in preprocessing.scalings]
    if strangers:
        raise DataError(f"{folder}: intensities of {strangers[0]}, which is neither source nor target; copy it again")
    preprocessing.restore(found.learned)
    for target in experiment.config.target:
        _check_target_numbers(preprocessing, target, found)
    return Translator(
        experiment,
        method,
        preprocessing,
        found.target_numbers,
        masked=found.masked,
        backgrounds=found.backgrounds,
    )


def _check_target_numbers(preprocessing: Preprocessing, target: str, found: Exported) -> None:
    scaling = preprocessing.scalings[target]
    try:
        if scaling.fitted:
            scaling.invert(np.zeros((1, 1, 1), dtype=np.float32), found.target_numbers[target])
    except (LookupError, ValueError) as error:
        raise DataError(
            f"{found.folder}: the numbers that {target} is written in are not there; copy it again"
        ) from error


def _fill(network: torch.nn.Module, weights: Mapping[str, torch.Tensor], where: str) -> None:
    """Load weights that must fit in name and shape and be finite; onto this process's GPU where there is one."""
    own = network.state_dict()
    faults = [f"{name} is missing" for name in own if name not in weights]
    faults += [f"{name} is not of this network" for name in weights if name not in own]
    faults += [
        f"{name} has shape {tuple(weights[name].shape)}, expected {tuple(tensor.shape)}"
        for name, tensor in own.items()
        if name in weights and weights[name].shape != tensor.shape
    ]
    faults += [
        f"{name} is not finite"
        for name, tensor in weights.items()
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all())
    ]
    if faults:
        raise DataError(f"{where}: the weights do not fit the network: {'; '.join(faults[:3])} ({len(faults)} faults)")
    network.load_state_dict(dict(weights))
    if torch.cuda.is_available():
        network.to("cuda")
