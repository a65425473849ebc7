"""Owns the page of the hooks and of the contracts their components keep."""

from __future__ import annotations

import inspect

from generators.markdown import code
from medtrans import hookspecs, types
from medtrans.hookspecs import KINDS
from medtrans.options import FACTS

CONTRACTS = {
    "loss": ("medtrans.Loss",),
    "dataset": ("medtrans.Dataset", "medtrans.Case"),
    "metric": ("medtrans.Metric",),
    "method": ("medtrans.Method", "medtrans.Parts", "medtrans.components.WeightedLoss"),
    "transform": ("medtrans.Preprocess", "medtrans.Augmentation"),
    "callback": ("medtrans.Callback", "medtrans.RunInfo", "medtrans.Scored"),
}
"""The classes that say what a component of each kind keeps to, and what it is handed."""

TENSORS = ("pyramid", "as_pyramid", "Batch", "LossInputs", "DiscriminatorOutput", "batch_mean")
"""Names of `medtrans.types` that contracts speak of."""

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
    ]
    return "\n".join(parts)


def hook_part(kind: str, hook: str) -> str:
    """One hook: its summary, its facts and the contract of its components."""
    summary = inspect.getdoc(getattr(hookspecs, hook)) or ""
    facts = ", ".join(code(fact) for fact in FACTS[kind]) or "none"
    contract = NETWORKS[kind] if kind in NETWORKS else "\n".join(map(directive, CONTRACTS[kind]))
    return f"## `{hook}`\n\n{summary}\n\nFacts: {facts}.\n\n{contract}\n"


def directive(name: str) -> str:
    """What mkdocstrings replaces by the documentation of a name."""
    return f"::: {name}\n    options:\n      heading_level: 3\n"
