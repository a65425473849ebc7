"""How often intervals hold the true mean, and how often tests find what is not there.

    python -m benchmarks.intervals

Prints the figures of docs/evaluation.md: scores are drawn from a normal distribution, 10,000 times for each number.
"""

from __future__ import annotations

import argparse

import numpy as np

from medtrans.evaluation.statistics import mean_interval, sign_flip_p, wilcoxon_p

MEAN, SD = 30.0, 2.0


def coverage(n: int, draws: int) -> float:
    """The share of 95 % intervals from `n` subjects that hold the true mean."""
    names = [f"{number:03d}" for number in range(n)]
    hits = 0
    for seed in range(draws):
        scores = np.random.default_rng(seed).normal(MEAN, SD, n)
        low, high = mean_interval(scores, names, seed=seed) or (np.inf, -np.inf)
        hits += low <= MEAN <= high
    return hits / draws


def false_alarms(n: int, draws: int, seed: int) -> tuple[float, float]:
    """The shares of p-values up to 0.05 where nothing differs: Wilcoxon's and the permutation test's."""
    differences = np.random.default_rng(seed).normal(size=(draws, n))
    tests = wilcoxon_p(differences), sign_flip_p(differences, seed=seed)
    return float((tests[0] <= 0.05).mean()), float((tests[1] <= 0.05).mean())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--draws", type=int, default=10_000, help="experiments for each number")
    draws = parser.parse_args().draws
    for n in (4, 6, 10, 19, 20, 50):
        print(f"95 % interval of the mean, n = {n}: holds it in {coverage(n, draws):.1%} of {draws} draws")
    for seed in (0, 1, 2):
        ranks, permutation = false_alarms(20, draws, seed)
        print(f"level at 5 %, n = 20, seed {seed}: Wilcoxon {ranks:.2%}, permutation {permutation:.2%}")


if __name__ == "__main__":
    main()
