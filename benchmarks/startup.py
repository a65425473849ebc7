"""The time before anything happens: importing medtrans, and `medtrans --help`, beyond a bare interpreter.

    python -m benchmarks.startup

Processor time of child processes, turn by turn, the median of all turns.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
from collections.abc import Sequence
from statistics import median

from benchmarks.harness.timing import alternated

WORDS: dict[str, list[str]] = {
    "a bare interpreter": ["-c", "pass"],
    "import medtrans": ["-c", "import medtrans"],
    "medtrans --help": ["-m", "medtrans", "--help"],
    "medtrans run --help": ["-m", "medtrans", "run", "--help"],
}
GOALS = {"import medtrans": 0.15, "medtrans --help": 0.5}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Time before anything happens.")
    parser.add_argument("--repeats", type=int, default=9)
    given = parser.parse_args()
    for words in WORDS.values():
        seconds(words)
    found = alternated({name: lambda words=words: seconds(words) for name, words in WORDS.items()}, given.repeats)
    bare = median(found["a bare interpreter"])
    for name, several in found.items():
        beyond = f", {median(several) - bare:.3f} s beyond it (goal {GOALS[name]} s)" if name in GOALS else ""
        print(f"{name}: {median(several):.3f} s{beyond}")


def seconds(words: Sequence[str]) -> float:
    """Processor time of one child."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *words], stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
