"""The command line: results on stdout, talk on stderr, an exit code for each kind of fault, and no traceback."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from medtrans.config.loading import load_config
from medtrans.volume import Volume, write
from tests.conftest import GENERATOR_PLUGIN, Install, Medtrans

pytestmark = pytest.mark.usefixtures("install")  # so that no plugin is there but those a test installs


@pytest.fixture
def config(tiny: dict[str, Any], tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(tiny, sort_keys=False))
    return path


def test_imports_and_help_load_no_torch_and_help_lists_the_verbs() -> None:
    code = (
        "import sys\nfrom medtrans import Component, Case\nfrom medtrans.cli.app import main\n"
        "assert 'numpy' not in sys.modules\nsys.argv = ['medtrans', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\nsys.exit('torch' in sys.modules)"
    )
    child = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert child.returncode == 0, child.stderr
    for verb in ("run", "check", "predict", "evaluate", "compare", "report", "show", "plugins"):
        assert f" {verb} " in child.stdout


def test_version_has_a_line_for_core_interface_and_each_plugin(medtrans: Medtrans, install: Install) -> None:
    install("swin", GENERATOR_PLUGIN)
    code, out, _ = medtrans("--version")
    assert code == 0
    assert out.splitlines()[1] == "plugin interface 1.0"
    assert "swin: medtrans-swin 1.2.3" in out


def test_five_typos_are_told_together_with_suggestions_before_anything_is_written(medtrans, config, tiny):
    typos = ("sed=1", "train.stepz=3", "generator.name=mdaunett", "discriminator.options.widht=3", "losses.l1.wieght=2")
    code, out, err = medtrans("run", str(config), *typos)
    assert (code, out) == (2, "")
    for suggestion in ("seed", "steps", "mdaunet", "width", "weight"):
        assert f"did you mean '{suggestion}'?" in err
    assert len(err.splitlines()) == 5
    assert not Path(tiny["output_dir"]).exists()


def test_check_run_predict_evaluate_and_report(medtrans, config, tiny, tmp_path):
    folder = Path(tiny["output_dir"])
    code, out, _ = medtrans("check", str(config))
    assert (code, out.splitlines()[-1]) == (0, "ready to run")
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


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["run", "nowhere.yaml"], 2, "'nowhere.yaml'"),
        (["predict", "nowhere", "a.nii.gz", "b.nii.gz"], 2, "nowhere"),
        (["show", "generatr"], 2, "'generator'"),
        (["show", "config", "quikstart"], 2, "'quickstart'"),
        (["check", "hcp_t1_t2", "dataset.options.root=/not/there"], 3, "/not/there"),
        (["run", "quickstart", "--resume", "--overwrite"], 2, "exclude each other"),
        (["evaluate"], 2, "--prediction FOLDER"),
        (["evaluate", "run", "--target", "t"], 2, "evaluate RUN"),
        (["evaluate", "--prediction", "p", "--target", "t", "--protocol", "synthrad25"], 2, "'synthrad2025'"),
        (["evaluate", "--prediction", "p", "--target", "t"], 2, "p: "),
        (["compare", "nowhere"], 2, "at least two runs"),
        (["compare", "nowhere", "elsewhere"], 2, "nowhere: "),
        (["compare", "a", "b", "--format", "html"], 2, "markdown, latex or json"),
    ],
)
def test_a_users_mistake_is_one_message_and_an_exit_code(medtrans, arguments, code, message):
    ended, out, err = medtrans(*arguments)
    assert (ended, out) == (code, "")
    assert message in err
    assert "Traceback" not in err


def test_show_prints_yaml_that_a_config_takes_as_it_is_and_lists_what_plugins_offer(medtrans, tiny, install):
    _, out, _ = medtrans("show", "generator", "mdaunet")
    pasted = yaml.safe_load(out)
    assert pasted["generator"]["options"]["preset"] == "paper"
    experiment = load_config([{**tiny, "generator": pasted["generator"]}])
    assert experiment.build("generator", in_channels=1, out_channels=1).levels == 4
    install("swin", GENERATOR_PLUGIN)
    _, out, _ = medtrans("show", "generators")
    assert "  mdaunet" in out
    assert "  swin:small" in out


def test_plugins_lists_the_broken_and_fails_where_that_is_asked(medtrans: Medtrans, install: Install) -> None:
    install("bad", "import not_there_at_all")
    code, out, _ = medtrans("plugins", "--strict")
    assert (code, "pip uninstall medtrans-bad" in out) == (4, True)
    found = json.loads(medtrans("plugins", "list", "--json")[1])
    assert [one["origin"]["prefix"] for one in found if one["problem"]] == ["bad"]


def images(folder: Path, offset: float) -> Path:
    folder.mkdir()
    for number in range(4):
        data = np.random.default_rng(number).random((10, 11, 12)).astype(np.float32)
        noise = np.random.default_rng(99 + number).random(data.shape).astype(np.float32)
        write(Volume(data + np.float32(offset) * noise, np.eye(4)), folder / f"scan{number}.nii.gz")
    return folder


def test_anybodys_images_are_scored_and_compared(medtrans: Medtrans, tmp_path: Path) -> None:
    target = images(tmp_path / "target", 0)
    for name, offset in (("worse", 0.4), ("better", 0.2)):
        prediction, output = images(tmp_path / name, offset), tmp_path / f"{name}_scores"
        arguments = ["--prediction", str(prediction), "--target", str(target), "--range", "0", "1", "--metric", "psnr"]
        arguments += ["--metric", "ssim", "--option", "ssim.window=5", "--output", str(output)]
        code, out, err = medtrans("evaluate", *arguments)
        assert code == 0, err
        # how many, in which unit, over which range, and that so few say little
        assert all(found in out for found in ("4 test cases", "psnr [dB]", "R = 1", "[0, 1], clipped", "fewer than 20"))
    runs = [str(tmp_path / f"{name}_scores") for name in ("worse", "better")]
    code, out, _ = medtrans("compare", *runs, "--metric", "psnr", "--output", str(tmp_path / "tables"))
    assert code == 0
    assert out == (tmp_path / "tables" / "comparison.md").read_text()
    assert "| run 2 |" in out
    assert "| 4 of 4 |" in out
    assert medtrans("compare", *runs, "--format", "latex")[1].count(r"\hline") == 3
    data = json.loads(medtrans("compare", *runs, "--format", "json", "--metric", "psnr")[1])
    assert data["comparisons"] == json.loads((tmp_path / "tables" / "comparison.json").read_text())["comparisons"]
