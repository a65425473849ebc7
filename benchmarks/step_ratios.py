"""The ratios of training steps: ours, the naive one, the reference-style one, and ours on an eighth of the slices.

    OMP_NUM_THREADS=1 python -m benchmarks.step_ratios
    OMP_NUM_THREADS=1 python -m benchmarks.step_ratios --width 32      twice the paper's width

The paper's generator and discriminator, its losses with random VGG weights, one patch of 48^3. All steps take turns in
one process; the median over turns of the ratio of processor time is what counts.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.harness.reference_step import PlainStep
from benchmarks.harness.subject import Subject, opened_subject
from benchmarks.harness.timing import Spread, alternated, processor_seconds
from medtrans.config.loading import load_config
from medtrans.types import Batch

GOALS = {"naive / step": 1.02, "reference / step": 2.2, "step / step on 1/8 of the slices": 1.5}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Ratios of training steps.")
    parser.add_argument("--side", type=int, default=48)
    parser.add_argument("--width", type=int, default=16, help="channels of level 0; the paper's network has 16")
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    with opened_subject(load_config([config(given.side, given.width)])) as subject:
        seconds = measured(subject, given)
    for name, several in seconds.items():
        print(f"{name}: {Spread.of(several).shown()} s of processor time")
    pairs = {
        "naive / step": ("naive", "step"),
        "reference / step": ("reference", "step"),
        "step / step on 1/8 of the slices": ("step", "step on 1/8 of the slices"),
    }
    if "step in bf16" in seconds:
        pairs["step / step in bf16"] = ("step", "step in bf16")
    for name, (one, other) in pairs.items():
        goal = f", goal {GOALS[name]}" if name in GOALS else ""
        print(f"{name}: {Spread.of_ratios(seconds[one], seconds[other]).shown('.3f')}{goal}")


def config(side: int, width: int) -> dict[str, Any]:
    """The paper's system on one small patch of the phantom."""
    return {
        "output_dir": "unused",
        "dataset": {"name": "phantom", "options": {"subjects": 5, "size": [64, 64, 64]}},
        "source": ["t1"],
        "target": ["t2"],
        "preprocess": {"intensity": {"t1": {"name": "percentile"}, "t2": {"name": "percentile"}}},
        "patch": {"size": [side] * 3},
        "generator": {"name": "mdaunet", "options": {"preset": "paper", "width": width}},
        "losses": {
            "l1": {},
            "perceptual_25d": {"options": {"weights": "random"}},
            "relativistic": {"weight": 1e-4},
        },
        "train": {"batch": 1, "workers": 0},
    }


def measured(subject: Subject, given: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds of processor time of every kind of step, turn by turn."""
    fewer = subject.another_method()
    fewer.losses["perceptual_25d"].slices_per_view = given.side // 8
    steps: dict[str, Callable[[Batch, int], Any]] = {
        "step": subject.method.training_step,
        "naive": PlainStep(subject.another_method(), three_copies=False).training_step,
        "reference": PlainStep(subject.another_method(), three_copies=True).training_step,
        "step on 1/8 of the slices": fewer.training_step,
    }
    if computes_bf16():
        other = subject.another_method().training_step

        def in_bf16(batch: Batch, step: int) -> None:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                other(batch, step)

        steps["step in bf16"] = in_bf16
    else:
        print("bf16: left out, this processor has no instructions for it")
    with subject.batches() as batches:
        batch = next(batches)
    for take in steps.values():
        take(batch, 0)
    calls = {name: lambda take=take: processor_seconds(lambda: take(batch, 1)) for name, take in steps.items()}
    return alternated(calls, given.repeats)


def computes_bf16() -> bool:
    """Whether the processor multiplies in bfloat16; without, torch converts, which is slower than float32."""
    return bool(torch.cpu._is_avx512_bf16_supported())


if __name__ == "__main__":
    main()
