"""Owns the way from YAML and overrides to a checked experiment, with every fault reported at once."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from medtrans.components import Augmentation, Component, Preprocess
from medtrans.errors import ConfigError, MedtransError, SetupError
from medtrans.faults import did_you_mean, wording
from medtrans.layers import SLOT_MAPPINGS, Tree, TreePath, dotted, merge_layers
from medtrans.optimizers import OPTIMIZERS
from medtrans.options import build, check_options
from medtrans.plugins import Found, Origin, Registry
from medtrans.probe import probe_all
from medtrans.protocols import PROTOCOLS
from medtrans.schedules import SCHEDULES
from medtrans.schema_paths import data_path, known_keys
from medtrans.settings import RunConfig

__all__ = ["Experiment", "differences", "lasting", "load_config"]

_SINGLE_SLOTS = {"dataset": "dataset", "method": "method", "generator": "generator", "discriminator": "discriminator"}
_MAPPING_KINDS = dict(zip(SLOT_MAPPINGS, ("loss", "metric", "callback", "transform"), strict=True))
_OWN_KINDS: Mapping[str, Mapping[str, type]] = {"optimizer": OPTIMIZERS, "schedule": SCHEDULES}
_IN_HU = ("ct", "cbct")
_RESUMABLE = (
    "output_dir", "names", "callbacks", "versions", "train.steps", "train.workers", "train.validate_every",
    "train.validation_cases", "train.checkpoint_every", "train.keep", "train.devices", "train.rank_timeout_s",
    "train.memory", "train.channels_last", "train.compile", "faithfulness", "downstream",
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
            here = _at(data, path)
            here["name"] = slot.found.name if slot.found.kind not in _OWN_KINDS else here["name"]
            here["options"] = {name: _plain(value) for name, value in slot.options.items()}
        data["output_dir"] = str(Path(data["output_dir"]).absolute())
        for path in (("split", "path"), ("train", "initialise_from", "run")):
            parent = _at(data, path[:-1])
            if isinstance(parent, dict) and path[-1] in parent:
                parent[path[-1]] = str(Path(parent[path[-1]]).absolute())
        data["versions"] = {
            origin.distribution or f"{origin.prefix} (file)": origin.version for origin in self.origins()
        }
        return data

    def saved_text(self) -> str:
        """`saved` as YAML."""
        return yaml.safe_dump(self.saved(), sort_keys=False, allow_unicode=True, width=120)


def load_config(
    sources: Sequence[str | Path | Mapping[str, Any]], overrides: Sequence[str] = (), *, plugins: Sequence[Path] = ()
) -> Experiment:
    """Read, merge and check a config.

    Args:
        sources: files, names of shipped configs, or mappings; the later wins.
        overrides: `key=value`.
        plugins: single-file plugins to have at hand.

    Raises:
        ConfigError: with all faults, each with its place, what was found and what was expected.
        SetupError: nothing is wrong with the config but a plugin it names is broken.
    """
    registry = Registry(tuple(plugins))
    tree = merge_layers(sources, overrides, _defaults())
    if tree.incomplete:
        raise ConfigError(*tree.faults)
    for mapping in SLOT_MAPPINGS:
        _name_by_key(tree.data.get(mapping))
    tree.faults += _protocol_metrics(tree)
    checks = _check_slots(registry, tree)
    config, schema_faults = _validated(tree)
    faults = [*tree.faults, *schema_faults, *checks.faults]
    if config is not None:
        faults += _cross_faults(config, tree, checks.slots)
    if faults:
        raise ConfigError(*dict.fromkeys(faults + checks.broken))
    if checks.broken or config is None:
        raise SetupError(*dict.fromkeys(checks.broken))
    return Experiment(config, registry, checks.slots)


@dataclass
class _Checks:
    slots: dict[TreePath, CheckedSlot] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)


def _check_slots(registry: Registry, tree: Tree) -> _Checks:
    checks = _Checks()
    for path, kind, name, options in _slots_in(_overlaid(tree.data)):
        place = f"{tree.where((*path, 'name'))}: {dotted((*path, 'name'))}"
        try:
            found = _find(registry, kind, name, path)
            checked, problems = check_options(found.component, kind, options)
        except ConfigError as error:
            elsewhere = _elsewhere(registry, kind, name)
            checks.faults += [f"{place}: {fault}{elsewhere}" for fault in error.faults]
        except SetupError as error:
            checks.broken += [f"{place}: {fault}" for fault in error.faults]
        except (ImportError, AttributeError) as error:
            checks.broken.append(f"{place}: {kind} '{name}' cannot be imported: {error}; install what it needs")
        else:
            checks.slots[path] = CheckedSlot(found, checked)
            hint = f" (medtrans show {kind} {name})" if kind not in _OWN_KINDS else ""
            for problem in problems:
                at = (*path, "options", *problem.path)
                checks.faults.append(f"{tree.where(at)}: {dotted(at)}: {problem.message}{hint}")
    return checks


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


def _protocol_metrics(tree: Tree) -> list[str]:
    """Put a protocol's metrics before the config's own; returns a fault for each that would change one of them."""
    protocol = tree.data.get("protocol", "native")
    published = PROTOCOLS[protocol].metrics if isinstance(protocol, str) and protocol in PROTOCOLS else {}
    own = tree.data.get("metrics", {})
    if not published or not isinstance(own, dict):
        return []
    faults = []
    for key in published.keys() & own.keys():
        slot = own[key] if isinstance(own[key], dict) else {}
        name, options = str(slot.get("name", key)).removeprefix("builtin:"), slot.get("options", {})
        theirs = published[key].get("options", {})
        plain = name == key and not options
        same = name == published[key]["name"] and isinstance(options, dict) and theirs.items() <= options.items()
        if not (plain or same):
            faults.append(
                f"{tree.where(('metrics', key))}: metrics.{key}: protocol {protocol} says what {key} is; leave it out, "
                f"or score yours under another key, such as {key}_own"
            )
    tree.data["metrics"] = {**deepcopy(dict(published)), **{key: own[key] for key in own if key not in published}}
    return faults


def _validated(tree: Tree) -> tuple[RunConfig | None, list[str]]:
    try:
        return RunConfig.model_validate_json(json.dumps(tree.data)), []
    except ValidationError as error:
        faults = []
        for problem in error.errors():
            path = data_path(problem["loc"], tree.data)
            known = known_keys(RunConfig, path[:-1]) if problem["type"] == "extra_forbidden" else ()
            faults.append(f"{tree.where(path)}: {dotted(path) or 'config'}: {wording(dict(problem), known)}")
        return None, faults


def _find(registry: Registry, kind: str, name: str, path: TreePath) -> Found:
    if kind in _OWN_KINDS:
        known = _OWN_KINDS[kind]
        if name not in known:
            raise ConfigError(f"no {kind} named '{name}'{did_you_mean(name, known)} (known: {', '.join(known)})")
        return Found(kind, name, Component(name, known[name]), registry.plugin("builtin").origin)
    found = registry.find(kind, name)
    factory = found.component.load() if kind == "transform" else None
    wanted = Augmentation if path[0] == "augment" else Preprocess
    if isinstance(factory, type) and not issubclass(factory, wanted):
        raise ConfigError(f"'{name}' is no {'augmentation' if wanted is Augmentation else 'intensity scaling'}")
    return found


def _elsewhere(registry: Registry, kind: str, name: str) -> str:
    """A hint at plugins that offer an unknown bare name; only then are others looked into, from outside."""
    if ":" in name or kind in _OWN_KINDS:
        return ""
    probes = probe_all(registry.others())
    offered = [f"{found.origin.prefix}:{one}" for found in probes for one in found.components.get(kind, [])]
    same = [full for full in offered if full.partition(":")[2] == name]
    broken = sum(bool(found.problem) for found in probes)
    hint = f"; a plugin has it: write '{same[0]}'" if same else did_you_mean(name, offered)
    return hint + (f"; {broken} plugin(s) failed to load: medtrans plugins" if broken else "")


def _cross_faults(config: RunConfig, tree: Tree, slots: Mapping[TreePath, CheckedSlot]) -> Iterator[str]:
    for modality in (*config.source, *config.target):
        if modality not in config.preprocess.intensity:
            place = tree.where(("preprocess", "intensity"))
            yield (
                f"{place}: preprocess.intensity.{modality}: is required and missing; give {modality} a scaling such as "
                "{name: percentile} for MR or {name: window} for CT"
            )
    yield from _units_lost(config, tree, slots)
    yield from _protocol_faults(config, tree, slots)
    repeated = {name for name in config.source if config.source.count(name) > 1} | (
        set(config.source) & set(config.target)
    )
    for name in sorted(repeated):
        yield f"{tree.where(('target',))}: target: '{name}' stands twice among source and target; name each once"
    best = config.train.best
    if best is not None and best not in config.metrics:
        known = did_you_mean(best, config.metrics)
        yield f"{tree.where(('train', 'best'))}: train.best: no metric '{best}' among metrics{known}"
    if config.discriminator is None:
        for name in config.losses:
            slot = slots.get(("losses", name))
            if slot is not None and getattr(slot.found.component.load(), "adversarial", False):
                yield (
                    f"{tree.where(('losses', name))}: losses.{name}: needs a discriminator, and discriminator is null; "
                    "take one of the two out"
                )


def _protocol_faults(config: RunConfig, tree: Tree, slots: Mapping[TreePath, CheckedSlot]) -> Iterator[str]:
    """Targets whose intensities a protocol in Hounsfield units cannot score."""
    for modality in config.target if PROTOCOLS[config.protocol].intensities == "stored" else ():
        path = ("preprocess", "intensity", modality)
        slot = slots.get(path)
        fitted = slot is not None and getattr(slot.found.component.load(), "fitted", False)
        if fitted or (slot is not None and slot.options.get("unit", "HU") != "HU"):
            yield (
                f"{tree.where(('protocol',))}: protocol: {config.protocol} scores Hounsfield units, and {modality} is "
                f"not scaled by a window in HU; choose another protocol, or write {dotted(path)}: {{name: window}}"
            )


def _units_lost(config: RunConfig, tree: Tree, slots: Mapping[TreePath, CheckedSlot]) -> Iterator[str]:
    """Targets in Hounsfield units whose scaling would take the unit away."""
    for modality in config.target:
        path = ("preprocess", "intensity", modality)
        slot = slots.get(path)
        if modality.lower() in _IN_HU and slot is not None and getattr(slot.found.component.load(), "fitted", False):
            yield (
                f"{tree.where(path)}: {dotted(path)}: '{slot.found.name.removeprefix('builtin:')}' scales each image "
                f"by numbers of its own, so that predictions would not be in Hounsfield units; a {modality} target "
                f"needs one scale for all images: write {modality}: "
                "{name: window, options: {range: [-1024.0, 3000.0]}}"
            )


def _slots_in(data: Mapping[str, Any]) -> Iterator[tuple[TreePath, str, str, dict[str, Any]]]:
    """Every slot in plain data that has the shape of one."""
    places: list[tuple[TreePath, str]] = [((key,), kind) for key, kind in _SINGLE_SLOTS.items()]
    for mapping, kind in _MAPPING_KINDS.items():
        places += [((mapping, name), kind) for name in _keys(data.get(mapping))]
    places += [
        (("preprocess", "intensity", name), "transform") for name in _keys(_at(data, ("preprocess", "intensity")))
    ]
    for kind in _OWN_KINDS:
        roles = [role for role in ("generator", "discriminator") if role in _keys(_at(data, ("train", kind)))]
        places += [(("train", kind, role), kind) for role in roles] or [(("train", kind), kind)]
    for path, kind in places:
        slot = _at(data, path)
        if isinstance(slot, Mapping) and isinstance(slot.get("name"), str):
            options = slot.get("options", {})
            yield path, kind, slot["name"], options if isinstance(options, dict) else {}


def _name_by_key(mapping: Any) -> None:
    for key in _keys(mapping):
        if isinstance(mapping[key], dict):
            mapping[key].setdefault("name", key)


def _keys(value: Any) -> list[str]:
    return [str(key) for key in value] if isinstance(value, Mapping) else []


def _at(data: Any, path: Sequence[str | int]) -> Any:
    for part in path:
        data = data.get(part) if isinstance(data, Mapping) else None
    return data


def _defaults() -> dict[str, Any]:
    optional = {name: info.get_default() for name, info in RunConfig.model_fields.items() if not info.is_required()}
    dumped: dict[str, Any] = RunConfig.model_construct(**optional).model_dump(mode="json", include=set(optional))
    return dumped


def _overlaid(data: Mapping[str, Any]) -> dict[str, Any]:
    """Plain data over the schema's defaults, as far as slots are concerned."""
    whole = _defaults() | dict(data)
    if isinstance(data.get("train"), Mapping):
        whole["train"] = {**_defaults()["train"], **data["train"]}
    return whole


def _flat(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flat(inner, (*path, str(key)))
    else:
        yield ".".join(path), value


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
