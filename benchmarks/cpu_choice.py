"""The choice of a generator for a CPU: quality after some minutes of processor time.

    OMP_NUM_THREADS=1 python -m benchmarks.cpu_choice --minutes 5 20 60
    OMP_NUM_THREADS=1 python -m benchmarks.cpu_choice --only unet           one of them, others on other cores

`unet`, mdaunet's `fast` and `paper` presets, trained with L1 alone on the head phantom (64^3, 12 subjects, patches of
32^3, batch 2, Adam at 1e-3, running average 0.99), scored on 4 test subjects. They take turns.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from typing import Any

from benchmarks.harness.timed_training import trained_in_turns, trainee

GENERATORS: dict[str, dict[str, Any]] = {
    "unet": {"name": "unet"},
    "mdaunet fast": {"name": "mdaunet", "options": {"preset": "fast"}},
    "mdaunet paper": {"name": "mdaunet", "options": {"preset": "paper"}},
}


def main() -> None:
    """Train, and print a table."""
    parser = argparse.ArgumentParser(description="Which generator for a CPU.")
    parser.add_argument("--minutes", type=float, nargs="+", default=[5.0, 20.0, 60.0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=GENERATORS, nargs="+", default=list(GENERATORS))
    given = parser.parse_args()
    with ExitStack() as opened:
        trainees = {name: opened.enter_context(trainee([config(GENERATORS[name], given.seed)])) for name in given.only}
        trained_in_turns(trainees, [60 * minutes for minutes in given.minutes])
    print("| generator | " + " | ".join(f"{minutes:g} min" for minutes in given.minutes) + " |")
    print("|---" * (1 + len(given.minutes)) + "|")
    for name, one in trainees.items():
        cells = [f"{point.psnr:.2f} dB, {point.ssim:.3f} ({point.step} steps)" for point in one.points]
        print(f"| {name} | " + " | ".join(cells) + " |")


def config(generator: dict[str, Any], seed: int) -> dict[str, Any]:
    """One generator with L1 alone."""
    return {
        "output_dir": "unused",
        "seed": seed,
        "dataset": {"name": "phantom", "options": {"subjects": 12}},
        "source": ["t1"],
        "target": ["t2"],
        "split": {"by": "fractions", "train": 0.5, "validation": 0.17, "test": 0.33},
        "preprocess": {"intensity": {"t1": {"name": "percentile"}, "t2": {"name": "percentile"}}},
        "patch": {"size": [32, 32, 32], "per_volume": 4, "foreground": 0.1},
        "method": {"name": "paired", "options": {"ema": 0.99}},
        "generator": generator,
        "discriminator": None,
        "losses": {"l1": {}},
        "train": {
            "steps": 10**7,
            "batch": 2,
            "workers": 0,
            "optimizer": {"name": "adam", "options": {"lr": 1e-3}},
        },
        "inference": {"overlap": 0.25, "batch": 4},
    }


if __name__ == "__main__":
    main()
