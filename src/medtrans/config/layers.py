"""Layers of config files and overrides merged into one tree that knows where each value came from.

The only file that knows OmegaConf and YAML input. Faults are collected in the tree rather than raised, so that a user
sees all of them at once, each with file and line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from medtrans.errors import ConfigError
from medtrans.utils.messages import did_you_mean

__all__ = ["SLOT_MAPPINGS", "Tree", "merge_layers", "shipped_configs"]


SLOT_MAPPINGS = ("losses", "metrics", "callbacks", "augment")
"""Top-level mappings whose entries are slots named, by default, as their key."""

_LARGEST_FILE = 2**20

TreePath = tuple[str | int, ...]


@dataclass
class Tree:
    """Plain merged data, where each value was last written, and the faults met on the way.

    `incomplete` says that a file could not be read, so that what is missing may stand there.
    """

    data: dict[str, Any] = field(default_factory=dict)
    marks: dict[TreePath, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    incomplete: bool = False

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
            _add(tree, dict(source), {(): "config"})
        else:
            _add_file(tree, _locate(source), ())
    for override in overrides:
        _add_override(tree, override, defaults)
    _check_references(tree)
    return tree


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
        data, marks = _parsed(path)
    except ConfigError as error:
        tree.faults += error.faults
        tree.incomplete = True
        return
    extends = data.pop("extends", None) or []
    for parent in [extends] if isinstance(extends, str) else extends:
        _add_file(tree, path.parent / str(parent), (*parents, path.resolve()))
    _add(tree, data, marks)


def _parsed(path: Path) -> tuple[dict[Any, Any], dict[TreePath, str]]:
    """A file's data, and the line of each value in it."""
    text = _text(path)
    # Read twice: OmegaConf gives the data that is merged, yaml's own nodes the lines, which OmegaConf does not keep.
    # Nothing is resolved: a reference (`${...}`) may read the environment, and is refused once all layers are merged.
    try:
        data = OmegaConf.to_container(OmegaConf.create(text), resolve=False)
        marks = _marks(str(path), yaml.compose(text, yaml.SafeLoader))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line if error.problem_mark else 0
        raise ConfigError(f"{path}:{line + 1}: not valid YAML: {_yaml_problem(error, text, line)}") from error
    except (OmegaConfBaseException, yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not a config: {str(error).splitlines()[0]}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected a mapping of keys at the top level, found {type(data).__name__}")
    return data, marks


def _text(path: Path) -> str:
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


def _yaml_problem(error: yaml.MarkedYAMLError, text: str, line: int) -> str:
    lines = text.splitlines()
    indentation = lines[line][: -len(lines[line].lstrip()) or None] if line < len(lines) else ""
    if "\t" in indentation:
        return "a tab is used for indentation; YAML allows only spaces. Replace the tab"
    return f"{error.problem or 'cannot be parsed'}{f' ({error.context})' if error.context else ''}"


def _marks(name: str, node: yaml.Node | None, path: TreePath = ()) -> dict[TreePath, str]:
    if node is None:
        return {path: name}
    marks = {path: name if not path else f"{name}:{node.start_mark.line + 1}"}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = _marks(name, value, (*path, str(key.value)))
            inner[*path, str(key.value)] = f"{name}:{key.start_mark.line + 1}"
            marks |= inner
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            marks |= _marks(name, value, (*path, index))
    return marks


def _add(tree: Tree, data: dict[str, Any], marks: dict[TreePath, str]) -> None:
    for path, key in _odd_keys(data):
        places = (marks[path[:length]] for length in range(len(path), -1, -1) if path[:length] in marks)
        tree.faults.append(
            f"{next(places, 'config')}: {dotted((*path, str(key)))}: the key is read as {key!r}, which is no text "
            "(YAML does so with words such as no, on, null and 012); put it in quotes"
        )
    data = _with_text_keys(data)
    # Before the merge, since afterwards nobody can tell an inherited option from one that was meant for the component
    # of this layer: a merge alone would hand the options of `adam` on to `sgd`.
    _take_out(tree, data, marks)
    drop_stale(tree.data, data)
    merged = OmegaConf.to_container(OmegaConf.merge(tree.data, data), resolve=False)
    tree.data = {str(key): value for key, value in merged.items()} if isinstance(merged, dict) else {}
    tree.marks |= marks


def _odd_keys(value: Any, path: TreePath = ()) -> Iterator[tuple[TreePath, Any]]:
    """The keys that are no text, each with the path of its mapping."""
    if isinstance(value, Mapping):
        yield from ((path, key) for key in value if not isinstance(key, str))
        for key, inner in value.items():
            yield from _odd_keys(inner, (*path, str(key)))


def _with_text_keys(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _with_text_keys(inner) for key, inner in value.items()}
    return value


def _add_override(tree: Tree, override: str, defaults: Mapping[str, Any]) -> None:
    place = f"command line '{override}'"
    key, equals, text = override.partition("=")
    if not equals or not all(key.split(".")):
        tree.faults.append(f"{place}: expected key=value, such as train.steps=10")
        return
    try:
        value = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={text}"]), resolve=False)["value"]  # type: ignore[index,call-overload]  # a dotlist always gives a mapping
    except (OmegaConfBaseException, yaml.YAMLError, UnicodeEncodeError) as error:
        tree.faults.append(f"{place}: the value is not valid YAML: {str(error).splitlines()[0]}")
        return
    parts = key.split(".")
    if not any(part.isdigit() for part in parts):
        nested: Any = value
        for part in reversed(parts):
            nested = {part: nested}
        _add(tree, nested, {tuple(parts): place})
        return
    if not _set_element(tree.data, parts, value, defaults):
        tree.faults.append(f"{place}: there is no such list element")
        return
    tree.marks[tuple(int(part) if part.isdigit() else part for part in parts)] = place


def _set_element(data: dict[str, Any], parts: list[str], value: Any, defaults: Mapping[str, Any]) -> bool:
    """Set one element of a list that the files or the schema's defaults give."""
    first = next(index for index, part in enumerate(parts) if part.isdigit())
    here: Any = data
    default: Any = defaults
    for part in parts[:first]:
        default = default.get(part) if isinstance(default, Mapping) else None
        if not isinstance(here, dict):
            return False
        here = here.setdefault(part, list(default) if isinstance(default, list | tuple) else {})
    if not isinstance(here, list) or first != len(parts) - 1 or int(parts[first]) >= len(here):
        return False
    here[int(parts[first])] = value
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


def dotted(path: TreePath) -> str:
    """A path as a user writes it."""
    return ".".join(str(part) for part in path)
