"""What a paper says of a run: its data in a table, and a paragraph of methods with the works that its parts cite."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from medtrans.data.cohort import KnownCase
from medtrans.errors import MedtransError
from medtrans.plugins.registry import component
from medtrans.utils.messages import number, sides

__all__ = ["data_rows", "methods_paragraph", "references"]


_SPLITS = {"train": "to train", "validation": "to choose the weights", "test": "to test"}


def data_rows(
    config: Mapping[str, Any],
    cases: Sequence[KnownCase],
    fingerprint: Mapping[str, Any] | None,
    scored_in: Mapping[str, str],
) -> list[tuple[str, str]]:
    """What a run was made of, as (what, found); numbers only, which name nobody.

    Args:
        config: the run's, as it may be shared.
        cases: its table of cases.
        fingerprint: of the training cases, as a checkpoint holds it; None where it holds none, as in older runs.
        scored_in: by target, the intensities that scores refer to.
    """
    rows = [(f"cases {doing}", _counted(cases, split)) for split, doing in _SPLITS.items()]
    medians = {name: found["median"] for name, found in (fingerprint or {}).get("numbers", {}).items()}

    def add(what: str, keys: Sequence[str], said: Callable[[Sequence[float]], str]) -> None:
        if fingerprint and all(key in medians for key in keys):
            values = said([medians[key] for key in keys])
            rows.append((what, f"{values} (median of {_several(fingerprint['cases'], 'training case')})"))

    add("voxel size", [f"spacing {axis} [mm]" for axis in "ijk"], lambda found: f"{sides(found)} mm")
    add("shape", [f"sides {axis} [voxels]" for axis in "ijk"], lambda found: f"{sides(found)} voxels")
    add("foreground", ["foreground share"], lambda found: f"{100 * found[0]:.0f} % of an image")
    for source in config["source"]:
        add(
            f"{source} as stored",
            [f"{source} percentile {share}" for share in ("0.5", "50", "99.5")],
            lambda found: f"{' / '.join(map(number, found))} at percentiles 0.5, 50 and 99.5",
        )
    if fingerprint:
        rows.append(("axes stored as", ", ".join(fingerprint["orientations"])))
    scalings = config["preprocess"]["intensity"]
    rows += [(f"{name} scaled by", _slot(slot)) for name, slot in scalings.items()]
    return rows + [(f"{target} scored in", place) for target, place in scored_in.items()]


def methods_paragraph(
    config: Mapping[str, Any], cases: Sequence[KnownCase], summary: Mapping[str, Any], weights: str
) -> str:
    """A paragraph for a paper's methods, in whole sentences, true of this run.

    Args:
        config: the run's, as it may be shared.
        cases: its table of cases.
        summary: the content of `summary.json`.
        weights: those that were tested, in words; "" where that is not known.
    """
    train, preprocess, inference = config["train"], config["preprocess"], config["inference"]
    discriminator = config["discriminator"]
    networks = f"a 3D {_name(config['generator'])} network"
    if discriminator:
        networks += f" against a {_name(discriminator)} discriminator"
    spacing = preprocess["spacing_mm"]
    grid = "kept on their own voxels" if spacing is None else f"resampled to {sides(spacing)} mm"
    scaled = "; ".join(f"{name} by {_slot(slot)}" for name, slot in preprocess["intensity"].items())
    losses = ", ".join(f"{name} ({_weight(slot['weight'])})" for name, slot in config["losses"].items())
    count = train["batch"] * train["accumulate"]
    patches = f"{count} {'patch' if count == 1 else 'patches'} of {sides(config['patch']['size'])} voxels"
    tested = f"The {weights}{',' if ',' in weights else ''} were tested. " if weights else ""
    augmented = ", ".join(_slot(slot) for slot in config.get("augment", {}).values())
    augmented = f"Patches were augmented ({augmented}). " if augmented else ""
    scores = "; ".join(f"{name}: {found['definition']}" for name, found in summary["metrics"].items())
    window = f"windows of {sides(inference['window'])} voxels" if inference["window"] else "windows"
    split = "; ".join(f"{_counted(cases, name)} {doing}" for name, doing in _SPLITS.items())
    images = f"from {' and '.join(config['source'])} to {' and '.join(config['target'])}"
    version = config.get("versions", {}).get("medtrans", "")
    return (
        f"Images were translated {images} by {networks}, trained by the {_name(config['method'])} method of medtrans "
        f"{version}. Subjects were split once, so that none is in two parts: {split}. Images were {grid}, and their "
        f"intensities scaled ({scaled}). Training took {train['steps']:,} steps of {patches} with "
        f"{_optimizer(train['optimizer'])}, the losses with their weights being {losses}, from seed {config['seed']}. "
        f"{augmented}{tested}Test images were translated in overlapping {window} (overlap {inference['overlap']:g}). "
        "Scores are given with 95 % intervals over subjects and beside trivial baselines; they are defined as follows. "
        f"{scores}."
    )


def references(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The works that the descriptions of a run's components cite, as (component, works), where they cite any.

    Args:
        config: the run's, as plain data. A component that is not installed any more is left out.
    """
    found = {}
    for kind, name in _components(config):
        try:
            described = inspect.getdoc(component(kind, name).factory) or ""
        except MedtransError:
            continue
        if cited := dict.fromkeys(work.replace("(", "") for work in _WORK.findall(" ".join(described.split()))):
            found[name.removeprefix("builtin:")] = "; ".join(cited)
    return list(found.items())


# "Ha et al. ... arXiv 2412.00575", "Zhang et al., CVPR 2018", and in brackets "Smith 2018".
_WORK = re.compile(
    r"[A-Z][\w-]+(?: et al\.| and [A-Z][\w-]+)[^.;()]{0,90}\(?(?:arXiv \d{4}\.\d{4,5}|(?:19|20)\d\d\b)"
    r"|(?<=\()[A-Z][\w-]+ (?:19|20)\d\d(?=\))"
)


def _components(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for kind in ("method", "generator", "discriminator"):
        if config[kind]:
            yield kind, config[kind]["name"]
    for place, kind in (("losses", "loss"), ("metrics", "metric")):
        yield from ((kind, slot["name"]) for slot in config[place].values())
    yield from (("transform", slot["name"]) for slot in config["preprocess"]["intensity"].values())


def _counted(cases: Sequence[KnownCase], split: str) -> str:
    own = [one.subject for one in cases if one.split == split]
    subjects = len(set(own))
    return f"{_several(len(own), 'case')} of {_several(subjects, 'subject')}"


def _several(count: int, one: str) -> str:
    return f"{count:,} {one}{'' if count == 1 else 's'}"


def _name(slot: Mapping[str, Any]) -> str:
    return str(slot["name"]).removeprefix("builtin:")


def _slot(slot: Mapping[str, Any]) -> str:
    options = ", ".join(f"{key} {value}" for key, value in (slot.get("options") or {}).items())
    return f"{_name(slot)} ({options})" if options else _name(slot)


def _optimizer(settings: Mapping[str, Any]) -> str:
    """One for all networks, or one for each."""
    if "name" in settings:
        return _slot(settings)
    return " and ".join(f"{_slot(one)} for the {network}" for network, one in settings.items())


def _weight(weight: Any) -> str:
    return f"{weight:g}" if isinstance(weight, int | float) else f"{weight['start']:g} to {weight['end']:g}"
