"""The command line: results on stdout, talk on stderr, an exit code for each kind of fault, and no traceback."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from medtrans.cli import main
from medtrans.config import load_config

from .conftest import GENERATOR_PLUGIN, Install

Medtrans = Callable[..., tuple[int, str, str]]


@pytest.fixture
def medtrans(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Medtrans:
    """Run a command in this process; returns exit code, stdout and stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["medtrans", *arguments])
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def config(tiny: dict[str, Any], tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(tiny, sort_keys=False))
    return path


@pytest.mark.parametrize(
    "statement", ["import medtrans", "import medtrans.cli", "from medtrans import Component, Case"]
)
def test_importing_loads_no_torch(statement: str) -> None:
    code = f"{statement}; import sys; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_help_loads_no_torch_and_lists_the_verbs() -> None:
    code = (
        "import sys\nfrom medtrans.cli import main\nsys.argv = ['medtrans', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\nsys.exit('torch' in sys.modules)"
    )
    child = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert child.returncode == 0, child.stderr
    for verb in ("run", "check", "predict", "evaluate", "report", "show", "plugins"):
        assert f" {verb} " in child.stdout


def test_version_has_a_line_for_core_interface_and_each_plugin(medtrans: Medtrans, install: Install) -> None:
    install("swin", GENERATOR_PLUGIN)
    code, out, _ = medtrans("--version")
    assert code == 0
    assert out.splitlines()[1] == "plugin interface 1.0"
    assert "swin: medtrans-swin 1.2.3" in out


def test_five_typos_are_told_together_with_suggestions_before_anything_is_written(
    medtrans: Medtrans, config: Path, tiny: dict[str, Any]
) -> None:
    data = yaml.safe_load(config.read_text())
    data["sed"] = 1
    data["train"]["stepz"] = 3
    data["generator"]["name"] = "mdaunett"
    data["discriminator"]["options"]["widht"] = 3
    data["losses"]["l1"] = {"wieght": 2}
    config.write_text(yaml.safe_dump(data, sort_keys=False))
    code, out, err = medtrans("run", str(config))
    assert (code, out) == (2, "")
    for suggestion in ("'seed'", "'steps'", "'mdaunet'", "'width'", "'weight'"):
        assert f"did you mean {suggestion}?" in err
    assert len(err.splitlines()) == 5
    assert "Traceback" not in err
    assert not Path(tiny["output_dir"]).exists()


def test_run_predict_evaluate_and_report(
    medtrans: Medtrans, config: Path, tiny: dict[str, Any], tmp_path: Path
) -> None:
    folder = Path(tiny["output_dir"])
    code, out, err = medtrans("run", str(config), "train.steps=1")
    assert code == 0, err
    assert "source_l" in out
    assert out.strip().endswith("report.html")
    before = json.loads((folder / "summary.json").read_text())
    (prediction,) = (folder / "predictions").glob("*.nii.gz")
    code, out, _ = medtrans("predict", str(folder), str(prediction), str(tmp_path / "out.nii.gz"))
    assert (code, out.strip()) == (0, str(tmp_path / "out.nii.gz"))
    (folder / "report.html").unlink()
    assert medtrans("evaluate", str(folder))[0] == 0
    assert json.loads((folder / "summary.json").read_text())["metrics"] == before["metrics"]
    (folder / "report.html").unlink()
    assert medtrans("report", str(folder))[0] == 0
    assert (folder / "report.html").is_file()


def test_check_says_ready(medtrans: Medtrans, config: Path, tiny: dict[str, Any]) -> None:
    code, out, _ = medtrans("check", str(config))
    assert (code, out.splitlines()[-1]) == (0, "ready to run")
    assert not Path(tiny["output_dir"]).exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["run", "nowhere.yaml"], 2, "no config file at 'nowhere.yaml'"),
        (["predict", "nowhere", "a.nii.gz", "b.nii.gz"], 2, "no run here"),
        (["show", "generatr"], 2, "did you mean 'generator'?"),
        (["show", "generator", "mdaunett"], 2, "did you mean 'mdaunet'?"),
        (["show", "config", "quikstart"], 2, "did you mean 'quickstart'?"),
        (["check", "hcp_t1_t2", "dataset.options.root=/not/there"], 3, "/not/there"),
        (["run", "quickstart", "--resume", "--overwrite"], 2, "exclude each other"),
    ],
)
def test_a_users_mistake_is_one_message_and_an_exit_code(
    medtrans: Medtrans, arguments: list[str], code: int, message: str
) -> None:
    ended, out, err = medtrans(*arguments)
    assert (ended, out) == (code, "")
    assert message in err
    assert "Traceback" not in err


def test_show_prints_yaml_that_a_config_takes_as_it_is(medtrans: Medtrans, tiny: dict[str, Any]) -> None:
    _, out, _ = medtrans("show", "generator", "mdaunet")
    pasted = yaml.safe_load(out)
    assert pasted["generator"]["options"]["preset"] == "paper"
    experiment = load_config([{**tiny, "generator": pasted["generator"]}])
    assert experiment.build("generator", in_channels=1, out_channels=1).levels == 4


def test_show_lists_builtins_and_plugins_components(medtrans: Medtrans, install: Install) -> None:
    install("swin", GENERATOR_PLUGIN)
    _, out, _ = medtrans("show", "generators")
    assert "  mdaunet" in out
    assert "  swin:small" in out
    _, out, _ = medtrans("show", "generator", "swin:small")
    assert yaml.safe_load(out)["generator"] == {"name": "swin:small", "options": {"width": 4}}


def test_plugins_lists_the_broken_and_how_to_remove_them(medtrans: Medtrans, install: Install) -> None:
    install("swin", GENERATOR_PLUGIN)
    install("bad", "import not_there_at_all")
    code, out, _ = medtrans("plugins")
    assert code == 0
    assert "generator: small, mdaunet" in out
    assert "pip uninstall medtrans-bad" in out
    assert medtrans("plugins", "--strict")[0] == 4
    found = json.loads(medtrans("plugins", "list", "--json")[1])
    assert {one["origin"]["prefix"]: bool(one["problem"]) for one in found} == {
        "builtin": False, "bad": True, "swin": False,
    }  # fmt: skip
