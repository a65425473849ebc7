"""The page of the hooks and of the contracts their components keep."""

from __future__ import annotations

import inspect
from typing import Any

from medtrans import types
from medtrans.plugins import hookspecs
from medtrans.plugins.hookspecs import KINDS
from medtrans.plugins.options import FACT_MEANINGS, FACTS
from medtrans.testing.kits import KITS
from medtrans.testing.rules import Rule
from medtrans.testing.transform import AUGMENTATION_RULES, SCALING_RULES

from .markdown import code, table

CONTRACTS = {
    "loss": ("medtrans.Loss",),
    "dataset": ("medtrans.Dataset", "medtrans.Case"),
    "metric": ("medtrans.Metric", "medtrans.DetailedMetric", "medtrans.Surroundings"),
    "method": ("medtrans.Method", "medtrans.Parts", "medtrans.plugins.interfaces.WeightedLoss"),
    "transform": ("medtrans.Preprocess", "medtrans.Augmentation"),
    "callback": ("medtrans.Callback", "medtrans.RunInfo", "medtrans.Scored"),
}
"""The classes that say what a component of each kind keeps to, and what it is handed."""

TENSORS = ("pyramid", "as_pyramid", "Batch", "LossInputs", "DiscriminatorOutput", "batch_mean")
"""Names of `medtrans.types` that contracts speak of."""

KIT = (
    "medtrans.testing.verdicts",
    "medtrans.testing.Verdict",
    "medtrans.testing.ConformanceError",
    "medtrans.testing.fixtures.Conforms",
)
"""The other public names of the kit."""

NETWORKS = {
    "generator": (
        "A `torch.nn.Module` whose `forward(source)` gives a tensor or a pyramid (a tuple, finest first; level l holds "
        "every 2^l-th voxel). Two attributes are looked for: `multiple`, what the sides of a source must divide by "
        "(a number or three, default 1; volumes are padded to it and cropped back), and `window`, the sides of the "
        "sliding window it wants, `None` for a whole extent (default: the patch)."
    ),
    "discriminator": (
        "A `torch.nn.Module` whose `forward(candidate, source)` takes two pyramids and gives a "
        "`medtrans.types.DiscriminatorOutput`: a tuple of logit maps, and for each the feature maps that losses may "
        "compare."
    ),
}

HOOKS_INTRO = """\
# Hooks and contracts

The plugin interface is version {version}. A plugin is a module with functions marked `@medtrans.hookimpl`, named as
below. Each takes no argument and returns a list of [`Component`][medtrans.Component]. [Write a plugin](../plugin.md)
shows the whole of one.

A component is an ordinary class or function. medtrans passes those of the *facts* below that the signature names; all
other parameters are options that a config may set, checked against their annotations.

Each kind has a contract, and each contract rules that `medtrans.testing` tries: `medtrans plugins test NAME` prints a
verdict on each, and `excused={{"the rule": "the reason"}}` leaves one out.
"""


def hooks_page() -> str:
    """The hooks a plugin may fill, and what its components must keep to."""
    parts = [
        HOOKS_INTRO.format(version=hookspecs.PLUGIN_API),
        *(hook_part(kind, hook) for kind, hook in KINDS.items()),
        "## Tensors that are handed over\n",
        inspect.getdoc(types) or "",
        "",
        *(directive(f"medtrans.types.{name}") for name in TENSORS),
        "## The kit\n",
        "Beside the check of each kind, above:\n",
        *(directive(name) for name in KIT),
    ]
    return "\n".join(parts)


def hook_part(kind: str, hook: str) -> str:
    """One hook: its summary, its facts and the contract of its components."""
    summary = inspect.getdoc(getattr(hookspecs, hook)) or ""
    rows = [(code(fact), FACT_MEANINGS[fact]) for fact in FACTS[kind]]
    facts = table(("fact", "meaning"), rows) if rows else "No facts are told.\n"
    contract = NETWORKS[kind] if kind in NETWORKS else "\n".join(map(directive, CONTRACTS[kind]))
    return f"## `{hook}`\n\n{summary}\n\n{facts}\n{contract}\n\n{kit_part(kind)}"


def kit_part(kind: str) -> str:
    """The rules that the kit tries, and how it is called."""
    check = directive(f"medtrans.testing.{KITS[kind].check.__name__}")
    if kind == "transform":
        return (
            f"### Rules for an intensity scaling\n\n{rules(SCALING_RULES)}\n"
            f"### Rules for an augmentation\n\n{rules(AUGMENTATION_RULES)}\n{check}"
        )
    return f"### Rules for a {kind}\n\n{rules(KITS[kind].rules(None))}\n{check}"


def rules(listed: tuple[Rule[Any], ...]) -> str:
    """Each rule with what it means."""
    return table(
        ("a component ...", "which means"),
        [(rule.sentence, " ".join((inspect.getdoc(rule.check) or "").split())) for rule in listed],
    )


def directive(name: str) -> str:
    """What mkdocstrings replaces by the documentation of a name."""
    return f"::: {name}\n    options:\n      heading_level: 3\n"
