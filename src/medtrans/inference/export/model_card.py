"""The card of an exported model: what it does, how it was trained and scored, and what it must not be used for."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from medtrans._version import __version__
from medtrans.errors import ConfigError
from medtrans.inference.translator import Translator
from medtrans.runs import checkpoint
from medtrans.runs.folder import RunFolder
from medtrans.utils.messages import DASH, between, inert_markdown, number, sides

__all__ = ["model_card"]


_FRONT = """\
---
library_name: medtrans
license: {licence}
tags: [medical-imaging, image-translation, 3d]
---
"""

_NOTICE = """\
**Research use only.** The images this model writes are synthetic. They can show structures that are not there and hide
structures that are. They must not be used for diagnosis, treatment or any decision about a patient.
"""

_USE = """\
## Use

```bash
pip install {packages}
medtrans predict FOLDER IN.nii.gz OUT.nii.gz
```

or, in Python, `medtrans.load("FOLDER").translate("IN.nii.gz")`. FOLDER is the one this page lies in, wherever it was
put; nothing else is needed. Every file in it is compared with `manifest.json` before it is used, and none is code.
"""


def model_card(
    folder: RunFolder, translator: Translator, networks: Mapping[str, Mapping[str, Tensor]], licence: str
) -> str:
    """The card as Markdown; it names no case, no file and no folder.

    Args:
        folder: of the run.
        translator: of it.
        networks: the exported weights by network.
        licence: of the weights, in the words of whoever exports.

    Raises:
        ConfigError: the run's table of cases is missing or damaged.
    """
    config = translator.experiment.saved()
    found = checkpoint.best(folder.checkpoints) or checkpoint.newest(folder.checkpoints)
    step = 0 if found is None else found.step
    parameters = {name: sum(tensor.numel() for tensor in weights.values()) for name, weights in networks.items()}
    units = {name: translator.preprocessing.scalings[name].unit for name in config["target"]}
    summary = folder.read_json(folder.summary) if folder.summary.is_file() else None
    # Where cases go by their names, the run's warnings may speak of them so.
    warnings = () if summary is None or config["names"] else summary["warnings"]
    title = f"{' + '.join(config['source'])} to {' + '.join(config['target'])}"
    others = [name for name in config["versions"] if name != "medtrans" and not name.endswith("(file)")]
    parts = [
        _FRONT.format(licence=_quoted(licence)),
        f"# {inert_markdown(title)}\n",
        _NOTICE,
        _table("## Task", _task(config, units)),
        _USE.format(packages=" ".join(["medtrans", *others])),
        _table("## Training", _training(config, step, parameters, _splits(folder))),
        _scores(summary),
        *([f"## Warnings of the run\n\n{_list(warnings)}"] if warnings else []),
        _table("## Software", [("medtrans", __version__), *sorted(config["versions"].items())]),
        f"## Licence\n\nOf these weights: {inert_markdown(licence)}. medtrans itself is under Apache-2.0.\n",
    ]
    return "\n".join(parts)


def _task(config: Mapping[str, Any], units: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    yield "from", ", ".join(config["source"])
    yield "to", ", ".join(f"{name} [{units[name]}]" if units[name] else name for name in config["target"])
    spacing = config["preprocess"]["spacing_mm"]
    yield "voxels", "as the image has them" if spacing is None else f"{sides(spacing)} mm"
    for name, slot in config["preprocess"]["intensity"].items():
        yield f"intensity of {name}", slot["name"].removeprefix("builtin:")
    yield "image files", "NIfTI, MetaImage, NRRD in; NIfTI out, on the grid of the first source"


def _training(
    config: Mapping[str, Any], step: int, parameters: Mapping[str, int], splits: Mapping[str, Sequence[int]]
) -> Iterator[tuple[str, str]]:
    yield "method", config["method"]["name"].removeprefix("builtin:")
    yield "generator", config["generator"]["name"].removeprefix("builtin:")
    yield "discriminator", (config["discriminator"] or {"name": "none"})["name"].removeprefix("builtin:")
    for name, count in parameters.items():
        yield f"parameters of {name}", f"{count:,}"
    yield "losses", ", ".join(f"{name} × {_weight(slot['weight'])}" for name, slot in config["losses"].items())
    yield "steps", f"{step:,}, {config['train']['batch']} patches of {sides(config['patch']['size'])} voxels in a batch"
    yield "seed", str(config["seed"])
    yield "dataset component", config["dataset"]["name"].removeprefix("builtin:")
    for split, numbers in splits.items():
        yield f"{split} cases", f"{len(numbers)}: {_ranges(numbers)}" if numbers else "none"


def _splits(folder: RunFolder) -> dict[str, list[int]]:
    """The numbers of the cases in each split."""
    splits: dict[str, list[int]] = {"train": [], "validation": [], "test": []}
    try:
        with folder.cases.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                splits[row["split"]].append(int(row["number"]))
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise ConfigError(f"{folder.cases}: is missing or damaged ({error}); the card needs it") from error
    return splits


def _scores(summary: Mapping[str, Any] | None) -> str:
    if summary is None:
        return "## Scores\n\nThe model was not scored on test cases.\n"
    rows = [("", "mean", "SD", "95 % interval", "cases"), ("---",) * 5]
    for name, score in summary["metrics"].items():
        interval = between(score["ci95"]) or DASH
        unit = f" [{score['unit']}]" if score["unit"] else ""
        better = "higher" if score["higher_is_better"] else "lower"
        rows.append(
            (f"{name}{unit}, {better} is better", number(score["mean"]), number(score["sd"]), interval, str(score["n"]))
        )
        for baseline, scored in summary["baselines"].items():
            rows.append((f"{name} of the baseline {baseline}", number(scored[name]["mean"]), "", "", ""))
    definitions = [f"{name}: {score['definition']}" for name, score in summary["metrics"].items()]
    text = "\n".join(f"| {' | '.join(inert_markdown(cell) for cell in row)} |" for row in rows)
    return f"## Scores\n\nOn the test cases.\n\n{text}\n\n{_list(definitions)}"


def _table(heading: str, rows: Iterator[tuple[str, str]] | Sequence[tuple[str, str]]) -> str:
    lines = "\n".join(f"| {inert_markdown(name)} | {inert_markdown(value)} |" for name, value in rows)
    return f"{heading}\n\n| | |\n| --- | --- |\n{lines}\n"


def _list(lines: Sequence[str]) -> str:
    return "".join(f"- {inert_markdown(line)}\n" for line in lines)


def _quoted(text: str) -> str:
    escaped = " ".join(text.split()).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _weight(weight: Any) -> str:
    return f"{weight['start']:g} to {weight['end']:g}" if isinstance(weight, Mapping) else f"{weight:g}"


def _ranges(numbers: Sequence[int]) -> str:
    """`case_0001 to case_0003, case_0007`."""
    runs: list[list[int]] = []
    for case in sorted(numbers):
        if runs and case == runs[-1][-1] + 1:
            runs[-1].append(case)
        else:
            runs.append([case])
    return ", ".join(
        f"case_{run[0]:04d}" if len(run) == 1 else f"case_{run[0]:04d} to case_{run[-1]:04d}" for run in runs
    )
