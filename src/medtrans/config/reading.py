"""YAML text as plain data in which every value means what a reader sees, each with its line.

YAML 1.1 reads 010 as 8, 1:30 as 90 and 1_2 as 12: such numbers are faults here. 1e-3 is a number, a date is text.
Tags, NUL characters, keys that are no text, keys that stand twice and nests without end are faults too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import yaml

from medtrans.errors import ConfigError

__all__ = ["Read", "TreePath", "dotted", "odd_text", "read_yaml"]

TreePath: TypeAlias = tuple[str | int, ...]

_MOST_VALUES = 100_000  # an anchor used ten times, nine levels deep, is a billion values in two hundred characters
_MOST_DIGITS = 40
_PLAIN = "!plain"  # the tag of what is neither quoted nor tagged
_CORE = "tag:yaml.org,2002:"
_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?")
_ODD_NUMBER = re.compile(
    r"[-+]?(0b[01_]+|0x[0-9a-fA-F_]+|0o[0-7_]+|0[0-9_]+|[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?|[0-9][0-9_]*"
    r"(\.[0-9_]*)?([eE][-+]?[0-9_]+)?|\.[0-9][0-9_]*([eE][-+]?[0-9_]+)?)"
)
_WORDS: Mapping[str, Any] = {
    **dict.fromkeys(("", "~", "null"), None),
    **dict.fromkeys(("true", "yes", "on"), True),
    **dict.fromkeys(("false", "no", "off"), False),
    ".nan": float("nan"),
    **dict.fromkeys((".inf", "+.inf"), float("inf")),
    "-.inf": float("-inf"),
}


class _Loader(yaml.SafeLoader):
    """Only its parser is used: no value is made by it."""


_Loader.yaml_implicit_resolvers = {}
_Loader.add_implicit_resolver(_PLAIN, re.compile(""), None)


@dataclass
class Read:
    """What a text says.

    Args:
        data: mappings with text as keys, lists, text, numbers, truth values and None.
        marks: where each value stands.
        faults: what cannot be taken as it is, each with its place.
        unread: the paths of these; there `data` has None.
    """

    data: Any = None
    marks: dict[TreePath, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    unread: set[TreePath] = field(default_factory=set)


def read_yaml(text: str, name: str, *, lines: bool = True) -> Read:
    """The one document in a text.

    Args:
        text: YAML.
        name: what places begin with.
        lines: whether places have the line, as those in a file do.

    Raises:
        ConfigError: it is not YAML, or nests too deep.
    """
    read = Read()
    try:
        node = yaml.compose(text, _Loader)
        read.data = None if node is None else _Walk(read, name, lines).value(node, ())
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line if error.problem_mark else 0
        place = f"{name}:{line + 1}" if lines else name
        raise ConfigError(f"{place}: not valid YAML: {_problem(error, text, line)}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: not valid YAML: {str(error).splitlines()[0]}") from error
    except RecursionError as error:
        raise ConfigError(f"{name}: nests too deep, or contains itself by an anchor, for a config") from error
    read.marks[()] = name
    return read


def odd_text(text: str) -> str:
    """What makes a text useless as a name or path of anything, as a clause; "" for every other text."""
    if "\0" in text:
        return f"has a NUL character in {text[:40]!r}; take it out"
    if any("\ud800" <= character <= "\udfff" for character in text):
        return f"has characters that are not UTF-8 in {text[:40]!r}; rename or retype it"
    return ""


def dotted(path: TreePath) -> str:
    """A path as a user writes it."""
    return ".".join(str(part) for part in path)


@dataclass
class _Walk:
    """The way through the parsed nodes, which also counts them."""

    read: Read
    name: str
    lines: bool
    seen: int = 0

    def value(self, node: yaml.Node, path: TreePath) -> Any:
        self.seen += 1
        if self.seen > _MOST_VALUES:
            raise ConfigError(f"{self.place(node)}: more than {_MOST_VALUES} values, anchors counted as often as used")
        self.read.marks[path] = self.place(node)
        if isinstance(node, yaml.MappingNode) and node.tag == f"{_CORE}map":
            return self.mapping(node, path)
        if isinstance(node, yaml.SequenceNode) and node.tag == f"{_CORE}seq":
            return [self.value(inner, (*path, index)) for index, inner in enumerate(node.value)]
        if not isinstance(node, yaml.ScalarNode) or node.tag not in (_PLAIN, f"{_CORE}str"):
            tag = node.tag.replace(_CORE, "!!")
            return self.fault(node, path, f"tags such as {tag} are not offered; write the value itself")
        return self.scalar(node, path)

    def mapping(self, node: yaml.MappingNode, path: TreePath) -> dict[str, Any]:
        found: dict[str, Any] = {}
        inherited: dict[str, Any] = {}
        for key, inner in node.value:
            if key.tag == _PLAIN and key.value == "<<":
                sources = inner.value if isinstance(inner, yaml.SequenceNode) else [inner]
                for source in reversed(sources):  # the first named wins
                    merged = self.value(source, (*path, "<<"))
                    if isinstance(merged, dict):
                        inherited |= merged
                    else:
                        self.fault(source, path, "<< takes in mappings only")
                continue
            name = self.key(key, path)
            if name in found:
                self.fault(key, (*path, name), "the key stands twice; take one out")
            found[name] = self.value(inner, (*path, name))
            self.read.marks[*path, name] = self.place(key)
        return inherited | found

    def key(self, node: yaml.Node, path: TreePath) -> str:
        name = str(node.value) if isinstance(node, yaml.ScalarNode) else "?"
        before = len(self.read.faults)
        value = self.value(node, (*path, name))
        if not isinstance(value, str) and len(self.read.faults) == before:
            self.fault(
                node, (*path, name), f"the key is read as {value!r}, which is no text (so are words such as no, on and "
                "null, and numbers); put it in quotes",
            )  # fmt: skip
        return name

    def scalar(self, node: yaml.ScalarNode, path: TreePath) -> Any:
        text = str(node.value)
        if problem := odd_text(text):
            return self.fault(node, path, problem)
        if node.tag != _PLAIN:
            return text
        plainly = text in (text.lower(), text.upper(), text.capitalize()) or "." in text[:2]
        if plainly and text.lower() in _WORDS:
            return _WORDS[text.lower()]
        if len(text) > _MOST_DIGITS and (_INT.fullmatch(text) or _ODD_NUMBER.fullmatch(text)):
            return self.fault(
                node, path, f"a number of {len(text)} digits is none that a config needs; put text in quotes"
            )
        if _INT.fullmatch(text):
            return int(text)
        if _FLOAT.fullmatch(text) and not re.match(r"[-+]?0[0-9]", text):
            return float(text)
        if _ODD_NUMBER.fullmatch(text):
            return self.fault(
                node,
                path,
                f"{text} is a number that versions of YAML read differently (1_2 as 12, 1:30 as 90, 010 as 8); write "
                "it in plain decimal digits, or put text in quotes",
            )
        return text

    def fault(self, node: yaml.Node, path: TreePath, problem: str) -> None:
        self.read.unread.add(path)
        self.read.faults.append(f"{self.place(node)}: {f'{dotted(path)}: ' if path else ''}{problem}")

    def place(self, node: yaml.Node) -> str:
        return f"{self.name}:{node.start_mark.line + 1}" if self.lines else self.name


def _problem(error: yaml.MarkedYAMLError, text: str, line: int) -> str:
    lines = text.splitlines()
    indentation = lines[line][: -len(lines[line].lstrip()) or None] if line < len(lines) else ""
    if "\t" in indentation:
        return "a tab is used for indentation; YAML allows only spaces. Replace the tab"
    return f"{error.problem or 'cannot be parsed'}{f' ({error.context})' if error.context else ''}"
