"""The public names are one list, each importable, and the package keeps the rules its users rely on."""

from __future__ import annotations

import ast
import pickle
import tomllib
from pathlib import Path

import pytest

import medtrans

ROOT = Path(__file__).parents[1]
SOURCE = sorted((ROOT / "src").rglob("*.py"))


def names_for_type_checkers() -> set[str]:
    tree = ast.parse((ROOT / "src/medtrans/__init__.py").read_text())
    return {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("medtrans")
        for alias in node.names
    }


def test_the_list_the_table_and_the_type_checkers_view_agree() -> None:
    assert set(medtrans.__all__) == set(medtrans._HOMES) == names_for_type_checkers()


@pytest.mark.parametrize("name", medtrans.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    value = getattr(medtrans, name)
    assert name in dir(medtrans)
    if isinstance(value, type) or callable(value):
        assert value.__doc__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nope'"):
        _ = medtrans.Nope


def test_public_things_pickle() -> None:
    case = medtrans.Case("a", "s", {"t1": Path("a.nii.gz")})
    assert pickle.loads(pickle.dumps(case)) == case


@pytest.mark.parametrize("path", SOURCE, ids=lambda path: str(path.relative_to(ROOT / "src")))
def test_no_assert_stands_in_the_package_and_every_file_says_what_it_owns(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert not [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Assert)]
    assert ast.get_docstring(tree)


def test_the_dependencies_are_pinned_in_the_constraints_and_bounded_below_in_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in lines}
    names = {dependency.partition(">")[0].lower() for dependency in project["dependencies"]}
    assert names <= pinned
    assert "torchvision" not in names | pinned
    assert "monai" not in names
