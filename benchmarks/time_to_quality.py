"""Quality against time: the reference-style step and ours train the same networks on the same phantom.

    OMP_NUM_THREADS=1 python -m benchmarks.time_to_quality --minutes 10

Ours shares one forward pass of the generator, passes each slice through VGG once and draws an eighth of the slices; the
reference-style step does none of that (`harness/reference_step.py`). The quickstart's networks and losses; a perceptual
network with random weights. Processor time counts, that of scoring does not.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from typing import Any

from benchmarks.harness.reference_step import PlainStep
from benchmarks.harness.timed_training import Point, trained_in_turns, trainee
from medtrans.plugins.interfaces import Method

SIDE = 24


def main() -> None:
    """Train, print, and say when ours was as good as the other in the end."""
    parser = argparse.ArgumentParser(description="Quality against time.")
    parser.add_argument("--minutes", type=float, default=10.0, help="processor time of each training")
    parser.add_argument("--scores", type=int, default=20, help="times that each is scored")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with ExitStack() as opened:
        trainees = {
            "reference-style": opened.enter_context(trainee(["quickstart", changes(given.seed, None)], reference)),
            "ours": opened.enter_context(trainee(["quickstart", changes(given.seed, SIDE // 8)])),
        }
        trained_in_turns(trainees, [60 * given.minutes * (n + 1) / given.scores for n in range(given.scores)])
        print(verdict(trainees["reference-style"].points, trainees["ours"].points))


def verdict(theirs: list[Point], ours: list[Point]) -> str:
    """When ours reached in both scores what the other had in the end."""
    end = theirs[-1]
    there = next((one for one in ours if one.psnr >= end.psnr and one.ssim >= end.ssim), None)
    if there is None:
        return "ours did not reach it"
    return (
        f"ours reached the other's end ({end.psnr:.2f} dB, {end.ssim:.4f} after {end.seconds:.0f} s) after "
        f"{there.seconds:.0f} s ({there.psnr:.2f} dB, {there.ssim:.4f}): {end.seconds / there.seconds:.1f} times "
        "sooner (goal 2.5)"
    )


def reference(method: Method) -> Any:
    """The reference-style step of a method."""
    return PlainStep(method, three_copies=True).training_step


def changes(seed: int, slices: int | None) -> dict[str, Any]:
    """What differs from the quickstart: a schedule that does not depend on the number of steps, and the slices."""
    return {
        "output_dir": "unused",
        "seed": seed,
        "losses": {"perceptual_25d": {"options": {"slices_per_view": slices}}},
        "train": {"steps": 10**7, "schedule": {"name": "constant"}},
        "inference": {"overlap": 0.25},
    }


if __name__ == "__main__":
    main()
