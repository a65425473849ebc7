"""What to write instead: the right key for a habit from elsewhere, and where an unknown component may come from."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from medtrans.config.layers import Tree, TreePath, dotted
from medtrans.plugins.registry import OWN_PACKAGES, Registry

__all__ = ["right_key", "where_it_may_be"]


_RATE = "the learning rate is an option of the optimiser: train.optimizer.options.lr=1e-3"
_LENGTH = "training is counted in updates: train.steps=10000; train.epoch_steps says how many make an epoch"
_GPU = (
    "expected auto or a number of devices; a GPU is taken where there is one, and the environment's "
    "CUDA_VISIBLE_DEVICES chooses which"
)
_HABITS: Mapping[str, str] = {
    **dict.fromkeys(("lr", "learning_rate"), _RATE),
    **dict.fromkeys(("epochs", "max_epochs", "n_epochs", "num_epochs"), _LENGTH),
    **dict.fromkeys(("max_steps", "iterations", "n_iter"), "write train.steps"),
    **dict.fromkeys(("batch_size",), "write train.batch"),
    **dict.fromkeys(("num_workers",), "write train.workers"),
    **dict.fromkeys(("device", "gpu", "gpus", "accelerator"), f"write train.devices: {_GPU}"),
    **dict.fromkeys(("weight_decay", "betas", "momentum"), "an option of the optimiser: train.optimizer.options"),
    **dict.fromkeys(("patch_size", "roi_size"), "write patch.size"),
    **dict.fromkeys(("model", "network", "net"), "write generator"),
    **dict.fromkeys(("optim",), "write train.optimizer"),
    **dict.fromkeys(("scheduler", "lr_scheduler"), "write train.schedule"),
    **dict.fromkeys(("loss", "criterion"), "write losses, a mapping such as {l1: {weight: 1.0}}"),
    **dict.fromkeys(("data", "data_dir"), "write dataset, and the folder as dataset.options.root"),
    **dict.fromkeys(("amp", "fp16"), "write train.precision: 16-mixed or bf16-mixed"),
    **dict.fromkeys(("output", "out_dir", "save_dir"), "write output_dir"),
}  # fmt: skip
"""Words that a reader of other tools brings, at the top level or under `train`."""


def right_key(path: TreePath, found: object = None) -> str:
    """A clause that names the right key, for keys that are usual elsewhere; "" for others."""
    if dotted(path) == "train.devices" and isinstance(found, str):
        return f"{_GPU}, found {found!r}"
    usual = len(path) == 1 or (len(path) == 2 and path[0] == "train")
    return f"unknown key; {_HABITS[str(path[-1])]}" if usual and path[-1] in _HABITS else ""


def where_it_may_be(registry: Registry, kind: str, name: str, tree: Tree) -> str:
    """Where an unknown name may come from, by the names of plugins alone: none that no config names is imported."""
    prefix, colon, bare = name.rpartition(":")
    if colon and prefix in [one.prefix for one in (*registry.others(), *registry.shadowed())]:
        return ""
    folders = {Path(), *(Path(mark.rpartition(":")[0]).parent for mark in tree.marks.values() if ".y" in mark)}
    plugin = prefix or bare
    full = f"{plugin}:{bare}"
    file = next((file for folder in folders if (file := folder / f"{plugin}.py").is_file()), None)
    if file is not None:
        return f"; {file} lies there: load it by --plugin {shlex.quote(str(file))} and write '{full}'"
    if plugin in OWN_PACKAGES:
        installed = any(one.prefix == plugin for one in registry.others())
        remedy = "" if installed else f"pip install {OWN_PACKAGES[plugin]}, and "
        return f"; {OWN_PACKAGES[plugin]} has it: {remedy}write '{full}'"
    others = ", ".join(f"{one.prefix}:..." for one in registry.others())
    return "" if colon else f"; a plugin's component is written with its plugin: {others} (medtrans show {kind})"
