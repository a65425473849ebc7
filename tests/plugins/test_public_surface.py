"""The public names are a stored list, each importable, and the package keeps the rules its users rely on."""

from __future__ import annotations

import ast
import json
import pickle
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import medtrans

ROOT = Path(__file__).parents[2]
PUBLIC = {
    "medtrans": """
        Augmentation Callback Case CheckReport Component ConfigError CycleMethod DataError Dataset
        DetailedMetric Loss MDAUNet MedtransError Method Metric MultiResUNet PLUGIN_API PairedMethod Parts
        PatchGAN Preprocess RunCancelledError RunFolder RunInfo RunInterruptedError Scored SetupError
        Surroundings TrainingError Translator UNet Volume __version__ check component duration_text hookimpl load
        read_weights run
    """,
    "medtrans.types": """
        Batch DiscriminatorOutput Loss LossInputs Pyramid as_pyramid batch_mean pyramid whole_batch
    """,
    "medtrans.volume": """
        Grid Header IMAGE_ENDINGS NIFTI_ENDINGS NO_RULES ReadingRules Volume files_of is_image_file read read_header
        stem_of write
    """,
    "medtrans.testing": """
        ConformanceError Verdict WeightedLoss build check_callback check_dataset check_discriminator
        check_generator check_loss check_method check_metric check_transform options_of verdicts
    """,
    "medtrans.testing.fixtures": """
        Conforms conforms
    """,
}
"""What others import, by module: a name that is taken out or renamed here breaks their code."""

TOLD = """
import importlib, json, sys
told = {}
for module in json.loads(sys.argv[1]):
    found = importlib.import_module(module)
    told[module] = [name for name in found.__all__ if getattr(found, name) is not None]
    assert set(told[module]) <= set(dir(found)), module
from medtrans.cli.app import main
print(json.dumps(told))
"""


def names_for_type_checkers() -> set[str]:
    module = ast.parse((ROOT / "src/medtrans/__init__.py").read_text())
    (tree,) = [node for node in module.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    return {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("medtrans")
        for alias in node.names
    }


def test_the_list_the_table_and_the_type_checkers_view_agree() -> None:
    assert set(medtrans.__all__) == set(medtrans._HOMES) == names_for_type_checkers()


def test_every_public_name_is_there_in_a_fresh_process_and_none_is_new() -> None:
    command = [sys.executable, "-c", TOLD, json.dumps(list(PUBLIC))]
    told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    for module, names in PUBLIC.items():
        assert set(told[module]) == set(names.split()), module


def test_every_class_and_function_that_medtrans_exports_is_documented() -> None:
    values = {name: getattr(medtrans, name) for name in medtrans.__all__}
    assert not [name for name, value in values.items() if callable(value) and not value.__doc__]


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nope'"):
        _ = medtrans.Nope


def test_public_things_pickle() -> None:
    case = medtrans.Case("a", "s", {"t1": Path("a.nii.gz")})
    assert pickle.loads(pickle.dumps(case)) == case


def test_no_assert_stands_in_the_package_and_every_file_says_what_it_is() -> None:
    for path in (ROOT / "src").rglob("*.py"):
        tree = ast.parse(path.read_text())
        assert not [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Assert)], path
        assert ast.get_docstring(tree), path


def test_the_dependencies_are_pinned_in_the_constraints_and_bounded_below_in_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in lines}
    names = {dependency.partition(">")[0].lower() for dependency in project["dependencies"]}
    assert names <= pinned
    assert "torchvision" not in names | pinned
    assert "monai" not in names
