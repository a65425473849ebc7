"""The checks of a merged config: against the schema, and of what must fit together."""

from __future__ import annotations

import json
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from medtrans.config.layers import Tree, TreePath, dotted
from medtrans.config.protocols import PROTOCOLS
from medtrans.config.schema import RunConfig
from medtrans.plugins.registry import Found
from medtrans.utils.messages import did_you_mean, wording

__all__ = ["data_path", "known_keys"]


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


_IN_HU = ("ct", "cbct")


@dataclass(frozen=True)
class CheckedSlot:
    """A slot whose component exists and whose options hold."""

    found: Found
    options: Mapping[str, Any]


def validated(tree: Tree) -> tuple[RunConfig | None, list[str]]:
    try:
        return RunConfig.model_validate_json(json.dumps(tree.data)), []
    except ValidationError as error:
        faults = []
        for problem in error.errors():
            path = data_path(problem["loc"], tree.data)
            known = known_keys(RunConfig, path[:-1]) if problem["type"] == "extra_forbidden" else ()
            faults.append(f"{tree.where(path)}: {dotted(path) or 'config'}: {wording(dict(problem), known)}")
        return None, faults


def cross_faults(config: RunConfig, tree: Tree, slots: Mapping[TreePath, CheckedSlot]) -> Iterator[str]:
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
