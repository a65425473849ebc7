"""What differs between two configs, and which of it a run may be resumed with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["differences", "lasting"]

_RESUMABLE = (
    "output_dir", "names", "callbacks", "versions", "train.steps", "train.workers", "train.validate_every",
    "train.validation_cases", "train.checkpoint_every", "train.keep", "train.devices", "train.rank_timeout_s",
    "train.memory", "train.channels_last", "train.compile", "faithfulness", "downstream",
)  # fmt: skip


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What differs between two saved configs in a way that a resumed run must not; `key: old -> new`."""
    before, after = dict(_flat(old)), dict(_flat(new))
    return [
        f"{key}: {before.get(key, 'absent')} -> {after.get(key, 'absent')}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key) and not _may_change(key)
    ]


def lasting(saved: Mapping[str, Any]) -> dict[str, Any]:
    """What of a saved config stays as it is through all resumed runs, by key.

    Not among it is `train.batch`, which may follow the number of devices.
    """
    return {key: value for key, value in _flat(saved) if not _may_change(key) and key != "train.batch"}


def _may_change(key: str) -> bool:
    return any(key == free or key.startswith(f"{free}.") for free in _RESUMABLE)


def _flat(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flat(inner, (*path, str(key)))
    else:
        yield ".".join(path), value
