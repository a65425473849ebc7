"""The way from YAML files and `key=value` to a checked experiment, with every fault reported at once."""

from __future__ import annotations

import json
import re
import types
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from medtrans.config.experiment import OWN_KINDS, CheckedSlot, Experiment, entry_at
from medtrans.config.hints import right_key, where_it_may_be
from medtrans.config.layers import SINGLE_SLOTS, SLOT_MAPPINGS, Tree, TreePath, dotted, merge_layers
from medtrans.config.protocols import PROTOCOLS
from medtrans.config.schema import RunConfig
from medtrans.errors import ConfigError, SetupError
from medtrans.plugins.hookspecs import Component
from medtrans.plugins.interfaces import Augmentation, Preprocess
from medtrans.plugins.options import check_options, options_of
from medtrans.plugins.registry import BUILTIN, Found, Registry
from medtrans.plugins.source import option_names
from medtrans.utils.messages import did_you_mean, wording

__all__ = ["check_names", "load_config"]


_SINGLE_SLOTS = {"dataset": "dataset", "method": "method", "generator": "generator", "discriminator": "discriminator"}
_MAPPING_KINDS = dict(zip(SLOT_MAPPINGS, ("loss", "metric", "callback", "transform"), strict=True))
_NAME = re.compile(r"[\w+()][\w+(): -]{0,99}")
_IN_HU = ("ct", "cbct")  # targets whose predictions must come out in Hounsfield units


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
    registry, tree, config = _read(sources, overrides, plugins)
    checks = _check_slots(registry, tree)
    faults = [*checks.faults, *cross_faults(config, tree, checks.slots)]
    if faults:
        raise ConfigError(*dict.fromkeys(faults + checks.broken))
    if checks.broken:
        raise SetupError(*dict.fromkeys(checks.broken))
    return Experiment(config, registry, checks.slots)


def check_names(sources: Sequence[str | Path], overrides: Sequence[str], plugins: Sequence[Path]) -> None:
    """Tell at once what is wrong with keys, values and the names of components and options; imports no component.

    Raises:
        ConfigError: as `load_config`, except for values of options and what depends on components.
    """
    _read(sources, overrides, plugins)


def _read(
    sources: Sequence[str | Path | Mapping[str, Any]], overrides: Sequence[str], plugins: Sequence[Path]
) -> tuple[Registry, Tree, RunConfig]:
    """The merged settings, right as far as can be known before any component is imported."""
    registry = Registry(tuple(plugins))
    tree = merge_layers(sources, overrides, _defaults())
    if tree.incomplete:
        raise ConfigError(*tree.faults)
    _name_slots(tree.data)
    faults = [*tree.faults, *_odd_names(tree), *_protocol_metrics(tree)]
    config, schema_faults = validated(tree)
    faults += [*schema_faults, *_misnamed(registry, tree)]
    if config is not None:
        faults += plain_faults(config, tree)
    if faults or config is None:
        raise ConfigError(*dict.fromkeys(faults))
    return registry, tree, config


def _misnamed(registry: Registry, tree: Tree) -> Iterator[str]:
    """Names of components and options that are not there, as far as nothing has to be imported to know."""
    for path, kind, name, options in _slots_in(_overlaid(tree.data)):
        place = f"{tree.where((*path, 'name'))}: {dotted((*path, 'name'))}"
        try:
            known = _known_options(registry, kind, name)
        except ConfigError as error:
            hint = where_it_may_be(registry, kind, name, tree) if kind not in OWN_KINDS else ""
            yield from (f"{place}: {fault}{hint}" for fault in error.faults)
            continue
        for option in options:
            if known is not None and option not in known:
                at = (*path, "options", option)
                problem = wording({"type": "extra_forbidden", "loc": at}, known)
                yield f"{tree.where(at)}: {dotted(at)}: {problem}{_shown_by(kind, name)}"


def _known_options(registry: Registry, kind: str, name: str) -> list[str] | None:
    """The names of a component's options; None where only an import tells."""
    if kind in OWN_KINDS:
        return [option.name for option in options_of(_find(registry, kind, name, ()).component, kind)]
    prefix = name.rpartition(":")[0]
    if not registry.origin(prefix or BUILTIN).own:
        return None
    return option_names(registry.find(kind, name).component, kind)


def _shown_by(kind: str, name: str) -> str:
    return f" (medtrans show {kind} {name})"


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
            checks.faults += [f"{place}: {fault}" for fault in error.faults]
        except SetupError as error:
            checks.broken += [f"{place}: {fault}" for fault in error.faults]
        except (ImportError, AttributeError) as error:
            checks.broken.append(f"{place}: {kind} '{name}' cannot be imported: {error}; install what it needs")
        else:
            checks.slots[path] = CheckedSlot(found, checked)
            for problem in problems:
                at = (*path, "options", *problem.path)
                checks.faults.append(f"{tree.where(at)}: {dotted(at)}: {problem.message}{_shown_by(kind, name)}")
    return checks


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


def _find(registry: Registry, kind: str, name: str, path: TreePath) -> Found:
    if kind in OWN_KINDS:
        known = OWN_KINDS[kind]
        if name not in known:
            raise ConfigError(f"no {kind} named '{name}'{did_you_mean(name, known)} (known: {', '.join(known)})")
        return Found(kind, name, Component(name, known[name]), registry.plugin("builtin").origin)
    found = registry.find(kind, name)
    factory = found.component.load() if kind == "transform" else None
    wanted = Augmentation if path[0] == "augment" else Preprocess
    if isinstance(factory, type) and not issubclass(factory, wanted):
        raise ConfigError(f"'{name}' is no {'augmentation' if wanted is Augmentation else 'intensity scaling'}")
    return found


def _slots_in(data: Mapping[str, Any]) -> Iterator[tuple[TreePath, str, str, dict[str, Any]]]:
    """Every slot in plain data that has the shape of one."""
    places: list[tuple[TreePath, str]] = [((key,), kind) for key, kind in _SINGLE_SLOTS.items()]
    for mapping, kind in _MAPPING_KINDS.items():
        places += [((mapping, name), kind) for name in _keys(data.get(mapping))]
    places += [
        (("preprocess", "intensity", name), "transform") for name in _keys(entry_at(data, ("preprocess", "intensity")))
    ]
    for kind in OWN_KINDS:
        roles = [role for role in ("generator", "discriminator") if role in _keys(entry_at(data, ("train", kind)))]
        places += [(("train", kind, role), kind) for role in roles] or [(("train", kind), kind)]
    for path, kind in places:
        slot = entry_at(data, path)
        if isinstance(slot, Mapping) and isinstance(slot.get("name"), str):
            options = slot.get("options", {})
            yield path, kind, slot["name"], options if isinstance(options, dict) else {}


def _name_slots(data: dict[str, Any]) -> None:
    """Give each slot without a name that of its key, or of the default."""
    for mapping in SLOT_MAPPINGS:
        for key in _keys(data.get(mapping)):
            if isinstance(data[mapping][key], dict):
                data[mapping][key].setdefault("name", key)
    defaults = _defaults()
    for path in SINGLE_SLOTS:
        slot, default = entry_at(data, path), entry_at(defaults, path)
        if isinstance(slot, dict) and isinstance(default, dict) and not slot.keys() & {"generator", "discriminator"}:
            slot.setdefault("name", default["name"])


def _odd_names(tree: Tree) -> Iterator[str]:
    """Names that become those of files, columns and parameters, and cannot."""
    named: list[tuple[TreePath, str]] = [
        ((mapping, key), key) for mapping in SLOT_MAPPINGS for key in _keys(tree.data.get(mapping))
    ]
    for role in ("source", "target"):
        modalities = tree.data.get(role)
        named += (
            [((role,), name) for name in modalities if isinstance(name, str)] if isinstance(modalities, list) else []
        )
    for path, name in named:
        if not _NAME.fullmatch(name) or (":" in name and path[0] in ("source", "target")):
            yield (
                f"{tree.where(path)}: {dotted(path)}: '{name[:60]}' cannot be a name; expected up to 100 letters, "
                "digits, spaces, and - + _ ( ) between"
            )


def _keys(value: Any) -> list[str]:
    return [str(key) for key in value] if isinstance(value, Mapping) else []


def _defaults() -> dict[str, Any]:
    optional = {name: info.get_default() for name, info in RunConfig.model_fields.items() if not info.is_required()}
    dumped: dict[str, Any] = RunConfig.model_construct(**optional).model_dump(mode="json", include=set(optional))
    return dumped


def _overlaid(data: Mapping[str, Any]) -> dict[str, Any]:
    """Plain data over the schema's defaults, as far as slots are concerned."""
    defaults = _defaults()
    own = {"train": {**defaults["train"], **data["train"]}} if isinstance(data.get("train"), Mapping) else {}
    return defaults | dict(data) | own


def validated(tree: Tree) -> tuple[RunConfig | None, list[str]]:
    try:
        return RunConfig.model_validate_json(json.dumps(tree.data)), []
    except ValidationError as error:
        faults = []
        for problem in error.errors():
            path = data_path(problem["loc"], tree.data)
            if any(path[: len(one)] == one for one in tree.unread):
                continue  # that fault is told already
            known = known_keys(RunConfig, path[:-1]) if problem["type"] == "extra_forbidden" else ()
            clause = right_key(path, problem.get("input")) or wording(dict(problem), known)
            faults.append(f"{tree.where(path)}: {dotted(path) or 'config'}: {clause}")
        return None, faults


def plain_faults(config: RunConfig, tree: Tree) -> Iterator[str]:
    """What contradicts itself, whatever the components are."""
    for modality in (*config.source, *config.target):
        if modality not in config.preprocess.intensity:
            yield _unscaled(config, tree, modality)
    repeated = {name for name in config.source if config.source.count(name) > 1} | (
        set(config.source) & set(config.target)
    )
    for name in sorted(repeated):
        yield f"{tree.where(('target',))}: target: '{name}' stands twice among source and target; name each once"
    best = config.train.best
    if best is not None and best not in config.metrics:
        known = did_you_mean(best, config.metrics)
        yield f"{tree.where(('train', 'best'))}: train.best: no metric '{best}' among metrics{known}"


def _unscaled(config: RunConfig, tree: Tree, modality: str) -> str:
    """A modality without a scaling: one that the dataset has not, or one that was forgotten."""
    role = "target" if modality in config.target else "source"
    offered = config.dataset.options.get("images")
    if isinstance(offered, Mapping) and offered and modality not in offered:
        near, has = did_you_mean(modality, offered), ", ".join(offered)
        return f"{tree.where((role,))}: {role}: no modality '{modality}' in the dataset (has: {has}){near}"
    scaled = ", ".join(config.preprocess.intensity) or "none"
    return (
        f"{tree.where((role,))}: {role}: '{modality}' has no scaling (scaled: {scaled})"
        f"{did_you_mean(modality, config.preprocess.intensity)}; preprocess.intensity.{modality}: is required and "
        f"missing; give {modality} a scaling such as {{name: percentile}} for MR or {{name: window}} for CT"
    )


def cross_faults(config: RunConfig, tree: Tree, slots: Mapping[TreePath, CheckedSlot]) -> Iterator[str]:
    """What contradicts what a component says of itself."""
    from torch.nn import ModuleDict  # losses are kept in one, so that their names may be none of its own

    for name in config.losses:
        if hasattr(ModuleDict, name):
            yield f"{tree.where(('losses', name))}: losses.{name}: '{name}' cannot be a loss's key; choose another"
    yield from _scaling_faults(config, tree, slots)
    if config.discriminator is None:
        for name in config.losses:
            slot = slots.get(("losses", name))
            if slot is not None and getattr(slot.found.component.load(), "adversarial", False):
                yield (
                    f"{tree.where(('losses', name))}: losses.{name}: needs a discriminator, and discriminator is null; "
                    "take one of the two out"
                )


def _scaling_faults(config: RunConfig, tree: Tree, slots: Mapping[TreePath, CheckedSlot]) -> Iterator[str]:
    """Targets in Hounsfield units whose scaling takes the unit away, and those that a protocol in HU cannot score."""
    for modality in config.target:
        path = ("preprocess", "intensity", modality)
        slot = slots.get(path)
        if slot is None:
            continue
        fitted = getattr(slot.found.component.load(), "fitted", False)
        if modality.lower() in _IN_HU and fitted:
            yield (
                f"{tree.where(path)}: {dotted(path)}: '{slot.found.name.removeprefix('builtin:')}' scales each image "
                f"by numbers of its own, so that predictions would not be in Hounsfield units; a {modality} target "
                f"needs one scale for all images: write {modality}: "
                "{name: window, options: {range: [-1024.0, 3000.0]}}"
            )
        in_hu = not fitted and slot.options.get("unit", "HU") == "HU"
        if PROTOCOLS[config.protocol].intensities == "stored" and not in_hu:
            yield (
                f"{tree.where(('protocol',))}: protocol: {config.protocol} scores Hounsfield units, and {modality} is "
                f"not scaled by a window in HU; choose another protocol, or write {dotted(path)}: {{name: window}}"
            )


def data_path(location: Sequence[str | int], data: Any) -> TreePath:
    """A pydantic location without the names of union branches."""
    path: list[str | int] = []
    for index, part in enumerate(location):
        inside = (isinstance(data, Mapping) and part in data) or (isinstance(data, list) and isinstance(part, int))
        if inside:
            data = data[part] if not isinstance(data, list) or part < len(data) else None  # type: ignore[operator]  # an index into a list
        elif index < len(location) - 1 or not isinstance(data, Mapping):
            continue
        path.append(part)
    return tuple(path)


def known_keys(root: type[BaseModel], path: TreePath) -> list[str]:
    """The keys that the schema knows at `path`, of all branches where a place may take several forms."""
    kinds: list[Any] = [root]
    for part in path:
        kinds = [inner for kind in kinds for inner in _children(kind, part)]
    return sorted({name for kind in kinds for name in _names(kind)})


def _children(kind: Any, part: str | int) -> list[Any]:
    if get_origin(kind) is dict:
        return _branches(get_args(kind)[1])
    if isinstance(kind, type) and issubclass(kind, BaseModel) and part in kind.model_fields:
        return _branches(kind.model_fields[str(part)].annotation)
    return []


def _branches(annotation: Any) -> list[Any]:
    if get_origin(annotation) is Annotated:
        return _branches(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [branch for option in get_args(annotation) for branch in _branches(option)]
    return [annotation]


def _names(kind: Any) -> list[str]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return list(kind.model_fields)
    if is_dataclass(kind):
        return [field.name for field in fields(kind)]
    return []
