"""Taking the first weights from another run."""

from __future__ import annotations

import logging

from torch import nn

from medtrans.config.schema import InitialiseSettings
from medtrans.errors import ConfigError
from medtrans.plugins.interfaces import Method
from medtrans.runs import checkpoint
from medtrans.runs.folder import RunFolder

__all__ = ["initialise"]


_log = logging.getLogger("medtrans")


def initialise(method: Method, settings: InitialiseSettings) -> None:
    """Copy the tensors that are equal in name and shape from a run's best weights, or its newest.

    Raises:
        ConfigError: the run has no weights, a network is not there, or no tensor of it fits.
    """
    folder = RunFolder.existing(settings.run)
    found = checkpoint.best(folder.checkpoints) or checkpoint.newest(folder.checkpoints)
    if found is None or found.step == 0:
        raise ConfigError(f"train.initialise_from.run: {folder.path} has no checkpoint of trained weights")
    weights, networks = found.networks(), method.networks()
    for name in settings.networks:
        if name not in weights or name not in networks:
            raise ConfigError(
                f"train.initialise_from.networks: '{name}' is not in both runs "
                f"(there: {', '.join(weights)}; here: {', '.join(networks)})"
            )
        own = networks[name].state_dict()
        fitting = {key: value for key, value in weights[name].items() if key in own and own[key].shape == value.shape}
        if not fitting:
            raise ConfigError(
                f"train.initialise_from: no tensor of '{name}' fits by name and shape; check the networks"
            )
        networks[name].load_state_dict({**own, **fitting})
        _follow(networks, name)
        _log.info("%s: %d of %d tensors taken from step %d", name, len(fitting), len(own), found.step)


def _follow(networks: dict[str, nn.Module], name: str) -> None:
    """The running average of a network begins at its new weights."""
    average = networks.get(f"{name}_average")
    if average is not None:
        average.load_state_dict(networks[name].state_dict())
