"""A checked config: its components built, saved as it runs again, and compared with another one.

Two saved configs are compared by key. A resumed run may change what changes no weight:
its steps, workers, callbacks, intervals, devices, and how it is scored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import yaml

from medtrans.config.layers import TreePath, dotted
from medtrans.config.schema import RunConfig
from medtrans.errors import MedtransError
from medtrans.plugins.discovery import Origin
from medtrans.plugins.optimizers import OPTIMIZERS, SCHEDULES
from medtrans.plugins.options import build
from medtrans.plugins.registry import Found, Registry

__all__ = ["CheckedSlot", "Experiment", "differences", "lasting", "may_change"]

OWN_KINDS: Mapping[str, Mapping[str, type]] = {"optimizer": OPTIMIZERS, "schedule": SCHEDULES}

_RESUMABLE = (
    "output_dir", "names", "callbacks", "versions", "train.steps", "train.workers", "train.validate_every",
    "train.validation_cases", "train.checkpoint_every", "train.keep", "train.devices", "train.rank_timeout_s",
    "train.memory", "train.channels_last", "train.compile", "train.best", "metrics", "protocol", "inference",
    "faithfulness", "downstream",
)  # fmt: skip


@dataclass(frozen=True)
class CheckedSlot:
    """A slot whose component exists and whose options hold."""

    found: Found
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Experiment:
    """A config whose names are components and whose options are checked.

    Args:
        config: the settings.
        registry: where components come from.
        slots: by their path in the config, such as `("losses", "l1")`.
    """

    config: RunConfig
    registry: Registry
    slots: Mapping[TreePath, CheckedSlot]

    def build(self, *path: str, **facts: Any) -> Any:
        """The component in the slot at `path`, made with its options and the facts it asks for.

        Raises:
            MedtransError: the component refuses its options; the slot's place in the config is named.
        """
        slot = self.slots[path]
        try:
            return build(slot.found.component, slot.found.kind, slot.options, facts)
        except MedtransError as error:
            raise type(error)(*(f"{dotted(path)}: {fault}" for fault in error.faults)) from error

    def under(self, *path: str) -> tuple[str, ...]:
        """The keys of the slots directly under a mapping, in the config's order."""
        return tuple(str(slot[-1]) for slot in self.slots if slot[:-1] == path)

    def origins(self) -> tuple[Origin, ...]:
        """The plugins the config names, each once."""
        return tuple(dict.fromkeys(slot.found.origin for slot in self.slots.values()))

    def saved(self) -> dict[str, Any]:
        """The config as plain data with qualified names, versions and absolute paths: it runs again as it is."""
        data = self.config.model_dump(mode="json")
        for path, slot in self.slots.items():
            here = entry_at(data, path)
            here["name"] = slot.found.name if slot.found.kind not in OWN_KINDS else here["name"]
            here["options"] = {name: _plain(value) for name, value in slot.options.items()}
        data["output_dir"] = str(Path(data["output_dir"]).absolute())
        for path in (("split", "path"), ("train", "initialise_from", "run")):
            parent = entry_at(data, path[:-1])
            if isinstance(parent, dict) and path[-1] in parent:
                parent[path[-1]] = str(Path(parent[path[-1]]).absolute())
        data["versions"] = {
            origin.distribution or f"{origin.prefix} (file)": origin.version for origin in self.origins()
        }
        return data

    def saved_text(self) -> str:
        """`saved` as YAML."""
        return yaml.safe_dump(self.saved(), sort_keys=False, allow_unicode=True, width=120)


def entry_at(data: Any, path: Sequence[str | int]) -> Any:
    for part in path:
        data = data.get(part) if isinstance(data, Mapping) else None
    return data


def _plain(value: Any) -> Any:
    """A checked option as YAML can hold it."""
    if isinstance(value, Path):
        return str(value.absolute())
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, tuple | list | set):
        return [_plain(inner) for inner in value]
    return value


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What differs between two saved configs in a way that a resumed run must not; `key: old -> new`."""
    before, after = dict(_flat(old)), dict(_flat(new))
    return [
        f"{key}: {before.get(key, 'absent')} -> {after.get(key, 'absent')}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key) and not may_change(key)
    ]


def lasting(saved: Mapping[str, Any]) -> dict[str, Any]:
    """What of a saved config stays as it is through all resumed runs, by key.

    Not among it is `train.batch`, which may follow the number of devices.
    """
    return {key: value for key, value in _flat(saved) if not may_change(key) and key != "train.batch"}


def may_change(key: str) -> bool:
    """Whether a resumed run may have another value at a key of its saved config."""
    return any(key == free or key.startswith(f"{free}.") for free in _RESUMABLE)


def _flat(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flat(inner, (*path, str(key)))
    else:
        yield ".".join(path), value
