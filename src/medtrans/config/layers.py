"""Layers of config files and overrides merged into one tree that knows where each value came from.

Faults are collected in the tree rather than raised, so that a user sees all of them at once, each with file and line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from medtrans.config.reading import Read, TreePath, dotted, odd_text, read_yaml
from medtrans.errors import ConfigError
from medtrans.utils.messages import did_you_mean

__all__ = ["SINGLE_SLOTS", "SLOT_MAPPINGS", "Tree", "TreePath", "dotted", "merge_layers", "shipped_configs"]


SLOT_MAPPINGS = ("losses", "metrics", "callbacks", "augment")
"""Top-level mappings whose entries are slots named, by default, as their key."""

SINGLE_SLOTS: tuple[TreePath, ...] = (
    ("dataset",), ("method",), ("generator",), ("discriminator",), ("train", "optimizer"), ("train", "schedule"),
)  # fmt: skip
"""Slots for one component; without a name they hold the default's."""

_ROLES = ("generator", "discriminator")
_TRIPLES: tuple[TreePath, ...] = (("patch", "size"), ("inference", "window"), ("preprocess", "spacing_mm"))
_SPLIT_KEYS = {
    "path": "file", "folds": "folds", "fold": "folds",
    "train": "fractions", "validation": "fractions", "test": "fractions",
}  # fmt: skip

_LARGEST_FILE = 2**20


@dataclass
class Tree:
    """Plain merged data, where each value was last written, and the faults met on the way.

    `incomplete` says that a file could not be read, so that what is missing may stand there; `unread` are the paths of
    single values that could not.
    """

    data: dict[str, Any] = field(default_factory=dict)
    marks: dict[TreePath, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    incomplete: bool = False
    unread: set[TreePath] = field(default_factory=set)

    def where(self, path: TreePath) -> str:
        """The place of the value at `path`, or of the nearest enclosing one."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.marks:
                return self.marks[path[:length]]
        return self.marks.get((), "config")


def shipped_configs(*, layers: bool = False) -> dict[str, Path]:
    """The configs that come with medtrans, by the path of their file without its ending, such as `quickstart`.

    Args:
        layers: those in folders called `layers` too, which are parts of configs.
    """
    packaged = Path(str(files("medtrans"))) / "configs"
    folder = packaged if packaged.is_dir() else Path(__file__).parents[3] / "configs"
    inner = {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.yaml"))}
    return {name: path for name, path in inner.items() if layers or "layers" not in name.split("/")[:-1]}


def merge_layers(
    sources: Sequence[str | Path | Mapping[str, Any]], overrides: Sequence[str], defaults: Mapping[str, Any]
) -> Tree:
    """Merge files (with what they extend), mappings and `key=value` overrides; the later wins.

    Args:
        sources: paths, names of shipped configs, or plain mappings.
        overrides: `losses.l1.weight=2`; list elements by index, `patch.size.1=64`.
        defaults: the schema's defaults, so that an override can change one element of a default list.
    """
    tree = Tree()
    for source in sources:
        if isinstance(source, Mapping):
            _add(tree, _of_mapping(source))
        else:
            _add_file(tree, _locate(source), ())
    # Which entries metrics have by default depends on the protocol, so entries come after all other keys.
    for override in sorted(overrides, key=lambda one: one.partition(".")[0] in SLOT_MAPPINGS):
        _add_override(tree, override, defaults)
    _check_references(tree)
    return tree


def _of_mapping(source: Mapping[str, Any]) -> Read:
    """A mapping from Python, with text as keys."""
    read = Read(_plain(source), {(): "config"})
    read.faults += [
        f"config: {dotted((*path, str(key)))}: the key is {key!r}, expected text" for path, key in _odd_keys(source)
    ]
    return read


def _locate(source: str | Path) -> Path:
    path = Path(source)
    if not path.exists() and path.suffix == "":
        return shipped_configs(layers=True).get(str(source), path)
    return path


def _add_file(tree: Tree, path: Path, parents: tuple[Path, ...]) -> None:
    if path.resolve() in parents:
        tree.faults.append(f"{path}: extends itself by way of {', '.join(str(parent) for parent in parents)}")
        return
    try:
        read = _read_file(path)
    except ConfigError as error:
        tree.faults += error.faults
        tree.incomplete = True
        return
    extends = read.data.pop("extends", None)
    parents_named = [extends] if isinstance(extends, str) else extends or []
    if not isinstance(parents_named, list) or not all(isinstance(one, str) and one for one in parents_named):
        place = read.marks.get(("extends",), path)
        tree.faults.append(f"{place}: extends: expected a path or a list of paths, found {extends!r}")
        tree.incomplete = True
        return
    for parent in parents_named:
        _add_file(tree, path.parent / parent, (*parents, path.resolve()))
    _add(tree, read)


def _read_file(path: Path) -> Read:
    read = read_yaml(_text(path), str(path))
    read.data = {} if read.data is None else read.data
    if not isinstance(read.data, dict):
        found = "a list" if isinstance(read.data, list) else repr(read.data)[:60]
        raise ConfigError(f"{path}: expected a mapping of keys at the top level, found {found}", *read.faults)
    return read


def _text(path: Path) -> str:
    if problem := odd_text(str(path)):
        raise ConfigError(f"no config file: its path {problem}")
    if not path.is_file():
        folder = path.parent if path.parent.is_dir() else Path()
        near = did_you_mean(path.name, [other.name for other in folder.glob("*.yaml")] + list(shipped_configs()))
        raise ConfigError(f"no config file at '{path}' (looked in {folder.resolve()}){near}")
    if path.stat().st_size > _LARGEST_FILE:
        raise ConfigError(f"{path}: larger than {_LARGEST_FILE} bytes, which is no config")
    try:
        return path.read_text(encoding="utf-8-sig")
    except (UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"{path}: cannot be read as UTF-8 text: {error}") from error


def _add(tree: Tree, read: Read) -> None:
    tree.faults += read.faults
    tree.marks |= read.marks
    tree.unread |= read.unread
    data: dict[str, Any] = read.data
    _spell_out(data)
    # Before the merge, since afterwards nobody can tell an inherited option from one that was meant for the component
    # of this layer: a merge alone would hand the options of `adam` on to `sgd`.
    _take_out(tree, data, read.marks)
    drop_stale(tree.data, data)
    tree.data = _merged(tree.data, data)


def _merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Both, key by key; where both have a key and are no mappings there, the new value."""
    both = {key for key in old.keys() & new.keys() if isinstance(old[key], Mapping) and isinstance(new[key], Mapping)}
    return {**old, **{key: _merged(old[key], value) if key in both else value for key, value in new.items()}}


def _spell_out(data: dict[str, Any]) -> None:
    """Put the long form in place of a component's bare name in a slot, and of one number where all axes have one."""
    slots = [*SINGLE_SLOTS, *((*path, role) for path in SINGLE_SLOTS if path[0] == "train" for role in _ROLES)]
    for mapping in (*((one,) for one in SLOT_MAPPINGS), ("preprocess", "intensity")):
        slots += [(*mapping, name) for name in _at(data, mapping) or {}]
    for path in slots:
        holder, key = _at(data, path[:-1]), str(path[-1])
        if holder is not None and isinstance(holder.get(key), str):
            holder[key] = {"name": holder[key]}
    split = _at(data, ("split",)) or {}
    ways = {_SPLIT_KEYS[one] for one in split if one in _SPLIT_KEYS}
    if "by" not in split and len(ways) == 1:
        split["by"] = ways.pop()
    for path in _TRIPLES:
        holder, key = _at(data, path[:-1]), str(path[-1])
        if holder is not None and type(holder.get(key)) in (int, float):
            holder[key] = [holder[key]] * 3


def _at(data: Any, path: TreePath) -> dict[str, Any] | None:
    """The mapping at a path, if there is one."""
    for part in path:
        data = data.get(part) if isinstance(data, dict) else None
    return data if isinstance(data, dict) else None


def _odd_keys(value: Any, path: TreePath = ()) -> Iterator[tuple[TreePath, Any]]:
    """The keys that are no text, each with the path of its mapping."""
    if isinstance(value, Mapping):
        yield from ((path, key) for key in value if not isinstance(key, str))
        for key, inner in value.items():
            yield from _odd_keys(inner, (*path, str(key)))


def _plain(value: Any) -> Any:
    """A copy with text as keys and lists, down to the leaves."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def _add_override(tree: Tree, override: str, defaults: Mapping[str, Any]) -> None:
    place = f"command line '{override}'"
    key, equals, text = override.partition("=")
    parts = key.split(".")
    if not equals or not all(parts):
        tree.faults.append(f"{place}: expected key=value, such as train.steps=10")
        return
    try:
        read = read_yaml(text, place, lines=False)
    except ConfigError as error:
        tree.faults += error.faults
        return
    if re.fullmatch(r"-?\d+", parts[-1]):
        if not _set_element(tree.data, parts, read.data, defaults):
            tree.faults.append(f"{place}: there is no such list element")
        path: TreePath = tuple(int(part) if part.isdigit() else part for part in parts)
        tree.marks[path] = place
        tree.faults += read.faults
        return
    if len(parts) > 1 and parts[0] in SLOT_MAPPINGS and parts[0] not in tree.data:
        # An override that names one entry changes the entries that are there, also those by default.
        protocol = tree.data.get("protocol", "native")
        published = parts[0] == "metrics" and protocol != "native"
        tree.data[parts[0]] = {} if published else deepcopy(defaults[parts[0]])
    nested = read.data
    for part in reversed(parts):
        nested = {part: nested}
    marks = {(*parts, *path): where for path, where in read.marks.items()}
    _add(tree, Read(nested, marks, read.faults, {(*parts, *path) for path in read.unread}))


def _set_element(data: dict[str, Any], parts: list[str], value: Any, defaults: Mapping[str, Any]) -> bool:
    """Set one element of a list that the files or the schema's defaults give."""
    *parents, last = parts
    here, default = data, defaults
    for part in parents[:-1]:
        default = default.get(part) if isinstance(default, Mapping) else {}  # type: ignore[assignment]  # a default of None has no parts
        here = here.setdefault(part, {})
        if not isinstance(here, dict):
            return False
    given = default.get(parents[-1]) if parents and isinstance(default, Mapping) else None
    elements = here.setdefault(parents[-1], list(given) if isinstance(given, list) else {}) if parents else None
    if not isinstance(elements, list) or not last.isdigit() or int(last) >= len(elements):
        return False
    elements[int(last)] = value
    return True


def drop_stale(old: dict[str, Any], new: Mapping[str, Any]) -> None:
    """Clear from `old` what belongs to a component, or a way to split, that `new` replaces by another."""
    for key, value in new.items():
        before = old.get(key)
        if not isinstance(value, Mapping) or not isinstance(before, dict):
            continue
        if "name" in value and value["name"] != before.get("name", key):
            before.pop("options", None)
        if "by" in value and value["by"] != before.get("by", "fractions"):
            before.clear()
        roles = bool(before.keys() & set(_ROLES))
        if key in ("optimizer", "schedule") and (value.keys() & {"name"} if roles else value.keys() & set(_ROLES)):
            before.clear()  # one for all in place of one for each role, or the reverse
        drop_stale(before, value)


def _take_out(tree: Tree, data: dict[str, Any], marks: Mapping[TreePath, str]) -> None:
    """Remove the entries of slot mappings that the new layer sets to null."""
    for mapping in SLOT_MAPPINGS:
        entries = data.get(mapping)
        if not isinstance(entries, dict):
            continue
        for name in [name for name, entry in entries.items() if entry is None]:
            del entries[name]
            if name in (tree.data.get(mapping) or {}):
                del tree.data[mapping][name]
            else:
                place = marks.get((mapping, str(name)), marks.get((), "config"))
                tree.faults.append(
                    f"{place}: {mapping}.{name}: null takes out an entry of an earlier layer, and there is none; "
                    f"write '{name}: {{}}' to have it with its defaults"
                )


def _check_references(tree: Tree) -> None:
    for path, value in _leaves(tree.data):
        if isinstance(value, str) and ("${" in value or value == "???"):
            tree.faults.append(
                f"{tree.where(path)}: {dotted(path)}: references such as {value!r} are not offered, so that a config "
                "means the same everywhere; write the value itself"
            )


def _leaves(value: Any, path: TreePath = ()) -> Iterator[tuple[TreePath, Any]]:
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(inner, (*path, key))
    else:
        yield path, value
