"""What is compared: every published system of a shipped config, and every other generator by itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medtrans.config.experiment import Experiment
from medtrans.config.loading import load_config
from medtrans.errors import MedtransError
from medtrans.plugins.discovery import discover
from medtrans.plugins.hookspecs import Component
from medtrans.plugins.options import options_of
from medtrans.plugins.registry import Registry

ROOT = Path(__file__).parents[2]
SIDES = (96, 96, 96)
"""Of the patch of a generator that no config of published settings names."""


@dataclass(frozen=True)
class System:
    """A generator with all that trains it.

    Args:
        name: the config's, or the generator's where no config of published settings names it.
        layers: what `load_config` takes.
        settings: whose sizes these are: "published", "defaults", or "trial" for those that only tests use.
    """

    name: str
    layers: tuple[Any, ...]
    settings: str

    def experiment(self, overrides: Sequence[str] = ()) -> Experiment:
        """The checked config."""
        return load_config(list(self.layers), list(overrides))


def systems() -> list[System]:
    """All of them: published ones in the order of their configs, then the generators they leave out."""
    found, seen, used = [], set(), set()
    for path in config_files():
        try:
            experiment = load_config([path])
        except MedtransError as error:
            print(f"{path.relative_to(ROOT)}: left out, {error}")
            continue
        if experiment.slots["dataset",].found.name == "builtin:phantom":
            continue  # a config of the phantom has sizes of its own, for trials
        key = signature(experiment)
        used.add(experiment.slots["generator",].found.name)
        if key not in seen:
            seen.add(key)
            found.append(System(path.stem, (path,), "published"))
    return found + [alone for name, one in generators() if name not in used for alone in by_itself(name, one)]


def config_files() -> list[Path]:
    """The configs of medtrans and of the packages beside it."""
    return sorted(ROOT.glob("configs/*.yaml")) + sorted(ROOT.glob("plugins/*/configs/*.yaml"))


def signature(experiment: Experiment) -> str:
    """What two configs share that train the same networks by the same losses."""
    slots = {
        path: (slot.found.name, slot.options)
        for path, slot in experiment.slots.items()
        if path[0] in ("generator", "discriminator", "losses", "method")
    }
    return repr((sorted(slots.items(), key=str), experiment.config.patch.size, experiment.config.train.batch))


def generators() -> Iterator[tuple[str, Component]]:
    """Every generator that is installed, by the name a config gives it."""
    registry = Registry()
    for origin in discover():
        try:
            plugin = registry.plugin(origin.prefix)
        except MedtransError as error:
            print(f"{origin.prefix}: left out, {error}")
            continue
        for (kind, name), component in plugin.components.items():
            if kind == "generator":
                yield f"{origin.prefix}:{name}", component


def by_itself(name: str, component: Component) -> list[System]:
    """A generator trained by L1 alone; nothing where its author gives no options that it needs."""
    options: Mapping[str, Any] = {}
    settings = "defaults"
    if any(option.required for option in options_of(component, "generator")):
        options, settings = dict(getattr(component, "trial", {}).get("options", {})), "trial"
    layer = {
        "output_dir": "runs/compared",
        "dataset": {"name": "phantom"},
        "source": ["t1"],
        "target": ["t2"],
        "preprocess": {"intensity": {"t1": {"name": "minmax"}, "t2": {"name": "minmax"}}},
        "patch": {"size": list(SIDES)},
        "generator": {"name": name, "options": options},
        "discriminator": None,
        "losses": {"l1": {}},
        "train": {"batch": 1},
    }
    system = System(name.removeprefix("builtin:"), (layer,), settings)
    try:
        system.experiment()
    except MedtransError as error:
        print(f"{name}: left out, {error}")
        return []
    return [system]
