"""A config is layered, checked whole, and every fault is told at once with its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from medtrans.config import Experiment, differences, load_config
from medtrans.errors import ConfigError, SetupError
from medtrans.layers import shipped_configs
from medtrans.ramp import Ramp

from .conftest import GENERATOR_PLUGIN, Install

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


def test_the_design_of_a_config_is_accepted_and_filled_with_defaults(write: Any) -> None:
    config = load_config([write("c.yaml", MINIMAL)]).config
    assert (config.generator.name, config.train.steps, config.patch.size) == ("mdaunet", 100_000, (96, 96, 96))
    assert list(config.losses) == ["l1", "perceptual_25d", "relativistic"]


def test_later_files_and_then_overrides_win(write: Any) -> None:
    first = write("a.yaml", MINIMAL + "seed: 1\ntrain: {steps: 10, batch: 2}\n")
    second = write("b.yaml", "seed: 2\ntrain: {steps: 20}\n")
    config = load_config([first, second], ["train.steps=30"]).config
    assert (config.seed, config.train.steps, config.train.batch) == (2, 30, 2)


def test_extended_files_are_merged_first_and_relative_to_the_extending_one(write: Any, tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    write("base/base.yaml", MINIMAL + "seed: 7\n")
    config = load_config([write("c.yaml", "extends: [base/base.yaml]\noutput_dir: runs/y\n")]).config
    assert (config.seed, config.output_dir) == (7, "runs/y")


def test_a_file_that_extends_itself_is_a_fault(write: Any) -> None:
    assert "extends itself" in faults_of(write("c.yaml", "extends: [c.yaml]\n" + MINIMAL))


def test_overrides_reach_mappings_and_list_elements_also_those_of_defaults(write: Any) -> None:
    experiment = load_config([write("c.yaml", MINIMAL)], ["patch.size.1=64", "losses.l1.weight=2", "losses.l2={}"])
    assert experiment.config.patch.size == (96, 64, 96)
    assert experiment.config.losses["l1"].weight == 2
    assert "l2" in experiment.config.losses


def test_naming_another_component_clears_the_older_options(write: Any) -> None:
    path = write(
        "c.yaml", MINIMAL + "generator: {name: mdaunet, options: {preset: tiny}}\nlosses: {l1: {weight: 3.0}}\n"
    )
    experiment = load_config(
        [path],
        ["losses.l1.name=l2", "dataset.name=paired_folders", "dataset.options={root: x, images: {t1: a, t2: b}}"],
    )
    assert experiment.config.generator.options == {"preset": "tiny"}
    assert experiment.config.losses["l1"].name == "l2"
    assert experiment.config.losses["l1"].weight == 3.0
    assert "subjects" not in experiment.config.dataset.options


def test_null_takes_out_an_entry_of_an_earlier_layer_only(write: Any) -> None:
    layers = [write("a.yaml", MINIMAL + "losses: {l1: {}, l2: {}}\n"), write("b.yaml", "losses: {l2: null}\n")]
    assert list(load_config(layers).config.losses) == ["l1"]
    message = faults_of(write("c.yaml", MINIMAL + "losses:\n  l1:\n"))
    assert "c.yaml:7: losses.l1" in message
    assert "write 'l1: {}'" in message


def test_a_key_that_yaml_reads_as_no_text_is_named_with_its_line(write: Any) -> None:
    path = write("a.yaml", MINIMAL + "losses:\n  l1: {}\n  no: {weight: 2.0}\n")
    with pytest.raises(ConfigError) as caught:
        load_config([path], ["metrics={1: {name: psnr}}"])
    (by_file,) = [fault for fault in caught.value.faults if "is read as False" in fault]
    assert by_file.startswith(f"{path}:{len(MINIMAL.splitlines()) + 1}: losses.False: ")
    assert "put it in quotes" in by_file
    assert any(fault.startswith("command line 'metrics=") and "read as 1" in fault for fault in caught.value.faults)


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
    message = faults_of(write("c.yaml", text), overrides=("train.validate_every=0", "nonsense"))
    for expected in (
        "c.yaml:6: sed: unknown key; did you mean 'seed'?",
        "c.yaml:8: train.stepz: unknown key; did you mean 'steps'?",
        "c.yaml:9: train.batch: expected a whole number, found 'two'",
        "c.yaml:10: train.optimizer.options.lrr: unknown key; did you mean 'lr'?",
        "c.yaml:11: patch.size.2: expected a whole number, found 'x'",
        "c.yaml:12: generator.name: no generator named 'mdaunett'; did you mean 'mdaunet'?",
        "c.yaml:13: losses.l1.options.maskd: unknown key; did you mean 'masked'?",
        "command line 'train.validate_every=0': train.validate_every: expected a number >= 1, found 0",
        "command line 'nonsense': expected key=value",
    ):
        assert expected in message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("seed: no\n", "seed: expected a whole number, found False (YAML reads yes, no, on and off"),
        ("seed: 1\nseed: 2\n", "c.yaml:7: not valid YAML"),
        ("train:\n\tsteps: 3\n", "c.yaml:7: not valid YAML: a tab is used"),
        ("train: {steps: .nan}\n", "train.steps"),
        ("seed: ${oc.env:HOME}\n", "references such as '${oc.env:HOME}' are not offered"),
        ("generator: {_target_: os.system}\n", "_target_: unknown key"),
        ("generator: {name: 'os:system'}\n", "no plugin named 'os' is installed"),
        ("generator: !!python/object/apply:os.system ['true']\n", "c.yaml:6: not valid YAML"),
        ("split: {by: fractions, train: 0.9, validation: 0.2, test: 0.2}\n", "must add up to 1, found 1.3"),
        ("split: {by: folds, folds: 4, fold: 4}\n", "fold must be below folds = 4, found 4"),
        ("train: {best: dice}\n", "no metric 'dice' among metrics"),
        ("target: [ct]\n", "preprocess.intensity.ct: is required and missing"),
        ("target: [t1]\n", "'t1' stands twice"),
        ("discriminator: null\n", "losses.relativistic: needs a discriminator, and discriminator is null"),
        ("losses: {l1: {weight: {start: 0, end: 1}}}\n", "losses.l1.weight.steps: is required and missing"),
    ],
)  # fmt: skip
def test_a_fault_says_what_was_found_and_what_was_expected(write: Any, text: str, expected: str) -> None:
    key = text.partition(":")[0]
    base = "".join(f"{line}\n" for line in MINIMAL.splitlines() if not line.startswith(f"{key}:"))
    filler = "\n" * (MINIMAL.count("\n") - base.count("\n"))
    assert expected in faults_of(write("c.yaml", base + filler + text))


def test_a_missing_file_is_named_with_the_folder_and_near_names(write: Any, tmp_path: Path) -> None:
    write("config.yaml", MINIMAL)
    message = faults_of(tmp_path / "confg.yaml")
    assert "no config file at" in message
    assert "did you mean 'config.yaml'?" in message


def test_a_ramp_is_a_number_that_changes_with_the_step(write: Any) -> None:
    path = write("c.yaml", MINIMAL + "losses: {l1: {weight: {start: 0.0, end: 1.0, steps: 10, delay: 5}}}\n")
    weight = load_config([path]).config.losses["l1"].weight
    assert weight == Ramp(0.0, 1.0, 10, delay=5)
    assert [weight.at(step) for step in (0, 5, 10, 15, 99)] == [0.0, 0.0, 0.5, 1.0, 1.0]


def test_optimisers_and_schedules_may_be_given_per_role(write: Any) -> None:
    text = MINIMAL + "train: {optimizer: {generator: {name: adam}, discriminator: {name: sgd, options: {lr: 0.1}}}}\n"
    experiment = load_config([write("c.yaml", text)])
    assert experiment.build("train", "optimizer", "discriminator").lr == 0.1


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


def test_an_unknown_bare_name_that_a_plugin_has_is_suggested_in_full(write: Any, install: Install) -> None:
    install("swin", GENERATOR_PLUGIN)
    message = faults_of(write("c.yaml", MINIMAL + "generator: {name: small}\n"))
    assert "a plugin has it: write 'swin:small'" in message


def test_a_broken_plugin_stops_only_the_config_that_names_it(write: Any, install: Install) -> None:
    install("bad", "import not_there_at_all")
    path = write("c.yaml", MINIMAL)
    assert load_config([path]).config.generator.name == "mdaunet"
    with pytest.raises(SetupError, match=r"generator\.name: plugin 'bad' from medtrans-bad 1\.2\.3"):
        load_config([path], ["generator.name=bad:x"])


def test_a_resumed_run_may_change_its_length_but_not_its_method() -> None:
    old = {"seed": 0, "train": {"steps": 10, "workers": 2, "batch": 3}}
    assert differences(old, {"seed": 0, "train": {"steps": 20, "workers": 0, "batch": 3}}) == []
    assert differences(old, {"seed": 1, "train": {"steps": 10, "workers": 2, "batch": 4}}) == [
        "seed: 0 -> 1",
        "train.batch: 3 -> 4",
    ]


@pytest.mark.parametrize("name", shipped_configs())
def test_every_shipped_config_is_valid(name: str) -> None:
    assert load_config([name]).config.output_dir


def test_a_shipped_layer_has_a_name_but_is_no_config() -> None:
    assert "layers/paper" in shipped_configs(layers=True)
    assert not [name for name in shipped_configs() if "layers" in name]
    assert load_config(["pix2pix_3d", "layers/paper"]).saved()["generator"]["name"].endswith("mdaunet")
