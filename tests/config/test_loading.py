"""A config is layered, checked whole, and every fault is told at once with its place."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import medtrans
from medtrans.config.experiment import Experiment
from medtrans.config.layers import shipped_configs
from medtrans.config.loading import load_config
from medtrans.errors import ConfigError, SetupError
from medtrans.plugins.interfaces import Ramp
from tests.conftest import GENERATOR_PLUGIN, Install

pytestmark = pytest.mark.usefixtures("install")  # so that no plugin is there but those a test installs
MINIMAL = """\
output_dir: runs/x
dataset: {name: phantom, options: {subjects: 4}}
source: [t1]
target: [t2]
preprocess: {intensity: {t1: {name: percentile}, t2: {name: percentile}}}
"""


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def faults_of(*sources: Any, overrides: tuple[str, ...] = ()) -> str:
    with pytest.raises(ConfigError) as error:
        load_config(sources, overrides)
    return str(error.value)


def test_defaults_extended_files_later_files_and_overrides_win_in_this_order(write: Any, tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    write("base/base.yaml", MINIMAL + "seed: 1\ntrain: {steps: 10, batch: 2}\n")
    first = write("a.yaml", "extends: [base/base.yaml]\noutput_dir: runs/y\n")  # relative to the extending file
    second = write("b.yaml", "seed: 2\ntrain: {steps: 20}\n")
    config = load_config([first, second], ["train.steps=30"]).config
    assert (config.output_dir, config.seed, config.train.steps, config.train.batch) == ("runs/y", 2, 30, 2)
    assert (config.generator.name, config.patch.size) == ("mdaunet", (96, 96, 96))
    assert list(config.losses) == ["l1", "perceptual_25d", "relativistic"]


def test_overrides_reach_mappings_and_list_elements_also_those_of_defaults(write: Any) -> None:
    config = load_config([write("c.yaml", MINIMAL)], ["patch.size.1=64", "losses.l1.weight=2", "losses.l2={}"]).config
    assert (config.patch.size, config.losses["l1"].weight, "l2" in config.losses) == ((96, 64, 96), 2, True)


def test_naming_another_component_clears_the_older_options(write: Any) -> None:
    text = MINIMAL + "generator: {name: mdaunet, options: {preset: tiny}}\nlosses: {l1: {weight: 3.0}}\n"
    other = ["losses.l1.name=l2", "dataset.name=paired_folders", "dataset.options={root: x, images: {t1: a, t2: b}}"]
    config = load_config([write("c.yaml", text)], other).config
    assert config.generator.options == {"preset": "tiny"}
    assert (config.losses["l1"].name, config.losses["l1"].weight) == ("l2", 3.0)
    assert "subjects" not in config.dataset.options


def test_null_takes_out_an_entry_of_an_earlier_layer_only(write: Any) -> None:
    layers = [write("a.yaml", MINIMAL + "losses: {l1: {}, l2: {}}\n"), write("b.yaml", "losses: {l2: null}\n")]
    assert list(load_config(layers).config.losses) == ["l1"]


def test_all_faults_are_reported_together_each_with_its_place(write: Any) -> None:
    text = MINIMAL + (
        "sed: 3\n"
        "train:\n"
        "  stepz: 5\n"
        "  batch: two\n"
        "  optimizer: {name: adam, options: {lrr: 0.1}}\n"
        "patch: {size: [32, 32, x]}\n"
        "generator: {name: mdaunett}\n"
        "losses: {l1: {weight: -1, options: {maskd: true}}}\n"
    )
    message = faults_of(
        write("c.yaml", text), overrides=("train.validate_every=0", "metrics={1: {name: psnr}}", "nonsense")
    )
    for expected in (
        "c.yaml:6: sed: .*'seed'",
        "c.yaml:8: train.stepz: .*'steps'",
        "c.yaml:9: train.batch: .*'two'",
        "c.yaml:10: train.optimizer.options.lrr: .*'lr'",
        "c.yaml:11: patch.size.2: .*'x'",
        "c.yaml:12: generator.name: .*'mdaunet'",
        "c.yaml:13: losses.l1.options.maskd: .*'masked'",
        "command line 'train.validate_every=0': train.validate_every: .*>= 1, found 0",
        "command line 'metrics=.*read as 1",
        "command line 'nonsense': ",
    ):
        assert re.search(expected, message)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("extends: [c.yaml]\n", "extends itself"),
        ("losses:\n  l1:\n", "c.yaml:7: losses.l1: .*'l1: {}'"),  # null takes out what an earlier layer has
        ("losses:\n  l1: {}\n  no: {weight: 2.0}\n", "c.yaml:8: losses.no: .*read as False"),
        ("seed: no\n", "seed: .*found False"),
        ("seed: 1\nseed: 2\n", "c.yaml:7: seed: the key stands twice"),
        ("train:\n\tsteps: 3\n", "c.yaml:7: .*tab"),
        ("train: {steps: .nan}\n", "train.steps"),
        ("seed: ${oc.env:HOME}\n", "oc.env:HOME"),
        ("generator: {_target_: os.system}\n", "_target_: unknown key"),
        ("generator: {name: 'os:system'}\n", "no plugin named 'os'"),
        ("generator: !!python/object/apply:os.system ['true']\n", "c.yaml:6: generator: tags"),
        ("split: {by: fractions, train: 0.9, validation: 0.2, test: 0.2}\n", "found 1.3"),
        ("split: {by: folds, folds: 4, fold: 4}\n", "folds = 4, found 4"),
        ("train: {best: dice}\n", "'dice'"),
        ("target: [ct]\n", "preprocess.intensity.ct: is required"),
        ("target: [t1]\n", "'t1'"),
        ("discriminator: null\n", "losses.relativistic: needs a discriminator"),
        ("losses: {l1: {weight: {start: 0, end: 1}}}\n", "losses.l1.weight.steps: is required"),
    ],
)
def test_a_fault_says_where_it_is_and_what_was_found(write: Any, text: str, expected: str) -> None:
    key = text.partition(":")[0]
    base = "".join(f"{line}\n" for line in MINIMAL.splitlines() if not line.startswith(f"{key}:"))
    filler = "\n" * (MINIMAL.count("\n") - base.count("\n"))
    path = write("c.yaml", base + filler + text)
    assert re.search(expected, faults_of(path))
    assert "'c.yaml'" in faults_of(path.with_name("cc.yaml"))  # a missing file, with the near name


def test_weights_may_change_with_the_step_and_optimisers_differ_by_role(write: Any) -> None:
    text = MINIMAL + "train: {optimizer: {generator: {name: adam}, discriminator: {name: sgd, options: {lr: 0.1}}}}\n"
    ramp = "losses.l1.weight={start: 0.0, end: 1.0, steps: 10, delay: 5}"
    experiment = load_config([write("c.yaml", text)], [ramp])
    assert experiment.build("train", "optimizer", "discriminator").lr == 0.1
    assert experiment.config.losses["l1"].weight == Ramp(0.0, 1.0, 10, delay=5)


def test_the_saved_config_runs_again_as_it_is(write: Any, tmp_path: Path) -> None:
    def saved(experiment: Experiment, name: str) -> Path:
        path = tmp_path / name
        path.write_text(experiment.saved_text(), encoding="utf-8")
        return path

    first = load_config([write("c.yaml", MINIMAL)], ["losses.l1.weight={start: 0, end: 1, steps: 3}"])
    again = load_config([saved(first, "saved.yaml")])
    assert again.saved() == first.saved()
    data = yaml.safe_load(saved(again, "again.yaml").read_text())
    assert data["generator"]["name"] == "builtin:mdaunet"
    assert data["versions"]["medtrans"]
    assert Path(data["output_dir"]).is_absolute()


def test_a_plugins_component_takes_one_line(write: Any, install: Install) -> None:
    install("swin", GENERATOR_PLUGIN)
    path = write("c.yaml", MINIMAL)
    experiment = load_config([path], ["generator.name=swin:small", "generator.options.width=2"])
    assert experiment.build("generator", in_channels=1, out_channels=1).body[0].out_channels == 2
    assert experiment.saved()["versions"]["medtrans-swin"] == "1.2.3"
    # Where a bare name is unknown, the plugins are named; none is imported to see what it has.
    assert "swin:..." in faults_of(write("c.yaml", MINIMAL + "generator: {name: small}\n"))


def test_a_broken_plugin_stops_only_the_config_that_names_it(write: Any, install: Install) -> None:
    install("bad", "import not_there_at_all")
    path = write("c.yaml", MINIMAL)
    assert load_config([path]).config.generator.name == "mdaunet"
    with pytest.raises(SetupError, match=r"generator\.name: plugin 'bad' from medtrans-bad 1\.2\.3"):
        load_config([path], ["generator.name=bad:x"])


@pytest.mark.parametrize("name", shipped_configs())
def test_every_shipped_config_is_valid(name: str) -> None:
    assert load_config([name]).config.output_dir


def test_a_shipped_layer_has_a_name_but_is_no_config() -> None:
    assert "layers/paper" in shipped_configs(layers=True)
    assert not [name for name in shipped_configs() if "layers" in name]
    assert load_config(["pix2pix_3d", "layers/paper"]).saved()["generator"]["name"].endswith("mdaunet")


@pytest.mark.parametrize("text", ["010", "1:30", "1_2", "0x1f", "0o7", "0b1", "08", "1_0.5", "!!binary aGk=", "'a\\0'"])
def test_what_yaml_reads_otherwise_than_a_reader_is_refused_with_its_line(write: Any, text: str) -> None:
    quoted = text.replace("'", '"')
    assert re.search(r"c.yaml:6: seed: ", faults_of(write("c.yaml", f"{MINIMAL}seed: {quoted}\n")))
    assert "command line" in faults_of(write("c.yaml", MINIMAL), overrides=(f"seed={quoted}",))


def test_a_number_may_have_an_exponent_and_a_date_is_text(write: Any) -> None:
    config = load_config([write("c.yaml", MINIMAL)], ["losses.l1.weight=1e-3", "output_dir=2026-01-02"]).config
    assert (config.losses["l1"].weight, config.output_dir) == (1e-3, "2026-01-02")


@pytest.mark.parametrize(
    "content",
    [b"3\n", b"[1, 2]\n", b"", b"\0\0\0", b"\xff\xfe\x00", b"a: &a [*a]\n", b"[" * 5000, b"x: !!python/name:sys\n",
     b"a: &a [1,1,1,1,1,1,1,1,1]\n" + b"".join(b"%c: &%c [%s]\n" % (n, n, b",".join([b"*%c" % (n - 1)] * 9))
                                                 for n in range(98, 110)),
     b"? [1]\n: 2\n", b"1: 2\n", b"seed: " + b"9" * 6000, b"losses: {'a.b': {name: l1}}\n", b"losses: {'': {}}\n",
     b'output_dir: "\\ud800"\n', b"extends: {a: 1}\n", b"<<: 3\n", b"target: ['../x']\n"],
)  # fmt: skip
def test_whatever_a_file_holds_is_a_fault_of_the_config(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(content)
    assert faults_of(path)


@pytest.mark.parametrize(
    "override", ["patch.size.-1=4", "patch.size.x=4", "patch.size.9=4", "losses=3", "train=[1]", "a..b=1", "seed=[1",
                 f"seed={2**64}", "seed=1.0", "losses.items={name: l1}"],
)  # fmt: skip
def test_whatever_an_override_says_is_a_fault_of_the_config(write: Any, override: str) -> None:
    assert faults_of(write("c.yaml", MINIMAL), overrides=(override,))


def test_short_forms_mean_the_long_ones_and_are_saved_as_such(write: Any) -> None:
    text = MINIMAL.replace("{name: percentile}", "percentile").replace(
        "dataset: {name: phantom", "dataset: {name: phantom"
    )
    short = ["generator=unet", "patch.size=24", "preprocess.spacing_mm=1.5", "train.optimizer=sgd", "losses={l1: l2}"]
    long = ["generator={name: unet}", "patch.size=[24, 24, 24]", "preprocess.spacing_mm=[1.5, 1.5, 1.5]",
            "train.optimizer={name: sgd}", "losses={l1: {name: l2}}"]  # fmt: skip
    first = load_config([write("c.yaml", text)], short).saved()
    assert first == load_config([write("d.yaml", MINIMAL)], long).saved()
    assert (first["generator"]["name"], first["patch"]["size"]) == ("builtin:unet", [24, 24, 24])


def test_an_override_of_one_entry_changes_the_defaults_and_a_whole_mapping_takes_their_place(write: Any) -> None:
    path = write("c.yaml", MINIMAL)
    config = load_config(
        [path], ["metrics.ssim.options.window=3", "losses.l1.weight=2", "callbacks.progress=null"]
    ).config
    assert list(config.metrics) == ["psnr", "ssim", "nmse", "mae"]
    assert config.metrics["ssim"].options == {"window": 3}
    assert list(config.losses) == ["l1", "perceptual_25d", "relativistic"]
    assert (config.losses["l1"].weight, list(config.callbacks)) == (2, ["tensorboard"])
    assert list(load_config([path], ["losses={l1: {}}", "callbacks={}"]).config.losses) == ["l1"]
    stated = write("d.yaml", MINIMAL + "losses: {l2: {}}\n")
    assert list(load_config([stated], ["losses.l1.weight=2"]).config.losses) == ["l2", "l1"]
    scored = load_config([path], ["metrics.mine.name=nmse", "protocol=mdaunet"]).config
    assert list(scored.metrics) == [*load_config([path], ["protocol=mdaunet"]).config.metrics, "mine"]


def test_another_form_takes_the_place_of_an_earlier_one(write: Any) -> None:
    roles = "train.optimizer={generator: adam, discriminator: {name: sgd, options: {lr: 0.1}}}"
    path = write(
        "c.yaml", MINIMAL + "train: {optimizer: {name: adam, options: {lr: 1.0e-3}}}\nsplit: {train: 0.8, test: 0}\n"
    )
    experiment = load_config([path], [roles, "split.folds=4"])
    assert experiment.build("train", "optimizer", "discriminator").lr == 0.1
    assert experiment.config.split.by == "folds"
    assert load_config([path], [roles, "train.optimizer=sgd"]).config.train.optimizer.options == {}
    assert (
        load_config([write("d.yaml", MINIMAL)], ["train.optimizer.options.lr=0.5"]).build("train", "optimizer").lr
        == 0.5
    )


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.epochs=10", "train.steps"),
        ("train.lr=1e-3", "train.optimizer.options.lr"),
        ("train.devices=cuda", "CUDA_VISIBLE_DEVICES"),
        ("method.options.emma=0.9", r"method\.options\.emma: .*'ema'"),
        ("target=[t3]", "command line.*: target: 't3'"),
        ("dataset={name: paired_folders, options: {root: x, images: {t1: a, t2: b}}}", None),
        ("generator.name=resvit:resvit", "pip install medtrans-resvit"),
        ("generator=resvit", "resvit:resvit"),
        ("generator=small_unet", "--plugin .*small_unet.py"),
    ],
)
def test_a_habit_from_elsewhere_is_answered_with_the_right_key(write: Any, override: str, expected: str | None) -> None:
    path = write("c.yaml", MINIMAL)
    write("small_unet.py", "raise SystemExit('a plugin that no config names is never imported')\n")
    if expected is None:
        faults = faults_of(path, overrides=(override, "target=[t3]"))
        assert "no modality 't3' in the dataset (has: t1, t2)" in faults
    else:
        assert re.search(expected, faults_of(path, overrides=(override,)))


def test_slips_are_told_before_heavy_libraries_are_imported_and_without_any_plugin(
    write: Any, install: Install
) -> None:
    install("swin", "raise SystemExit('a plugin that no config names is never imported')\n")
    text = (
        MINIMAL
        + "sed: 1\nlosses: {l1: {options: {maskd: true}}, l3: {}}\ngenerator: {name: unet, options: {widht: 3}}\n"
    )
    code = (
        f"import sys\nsys.path.insert(0, {str(Path(medtrans.__file__).parents[1])!r})\n"
        "from medtrans.cli.app import main\nsys.argv = ['medtrans', 'check', sys.argv[1]]\n"
        "try:\n    main()\nexcept SystemExit as end:\n    code = end.code\n"
        "heavy = {'torch', 'scipy', 'matplotlib', 'nibabel', 'medtrans_swin'}\n"
        "print(code, heavy & sys.modules.keys())\n"
        "import resource\nprint(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]))"
    )
    command = [sys.executable, "-c", code, str(write("c.yaml", text))]
    child = subprocess.run(command, check=False, capture_output=True, text=True)
    answer, seconds = child.stdout.splitlines()
    assert answer == "2 set()"
    assert float(seconds) < 10
    assert all(f"did you mean '{word}'" in child.stderr for word in ("seed", "masked", "l2", "width"))
