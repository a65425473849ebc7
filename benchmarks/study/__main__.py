"""The study from the command line: its configs, and finished runs in one table.

    python -m benchmarks.study config mr_ct unet --smoke > unet.yaml      a config of the grid, for `medtrans run`
    python -m benchmarks.study table runs/study/smoke                     the table of all runs below it
    python -m benchmarks.study table runs/study/smoke --page docs/study.md    the same, between the markers of a page
    python -m benchmarks.study equal-time runs/a runs/b                   steps of b that take as long as all of a's

Runs lie in ROOT/TASK/METHOD. Those that have not ended are left out of the table.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import yaml

from benchmarks.study.grid import ABLATIONS, METHODS, TASKS, config
from medtrans.errors import MedtransError


def main(words: Sequence[str] | None = None) -> None:
    """Do what the command line says."""
    given = parser().parse_args(words)
    try:
        given.do(given)
    except MedtransError as error:
        raise SystemExit("\n".join(error.faults)) from error


def parser() -> argparse.ArgumentParser:
    """The command line."""
    whole = argparse.ArgumentParser(prog="python -m benchmarks.study", description="The study on the phantom.")
    verbs = whole.add_subparsers(required=True, metavar="config | table | equal-time")

    one = verbs.add_parser("config", help="print a config of the grid")
    one.add_argument("task", choices=TASKS)
    one.add_argument("method", choices=METHODS)
    one.add_argument("--smoke", action="store_true", help="small, for two CPU cores")
    one.add_argument("--ablation", choices=ABLATIONS, metavar="NAME", help=", ".join(ABLATIONS))
    one.set_defaults(do=print_config)

    all_runs = verbs.add_parser("table", help="gather finished runs into one table")
    all_runs.add_argument("root", type=Path, help="folder of ROOT/TASK/METHOD")
    all_runs.add_argument("--reference", default="mdaunet", help="the method that the others are tested against")
    all_runs.add_argument("--page", type=Path, help="Markdown page with the markers")
    all_runs.set_defaults(do=print_table)

    equal = verbs.add_parser("equal-time", help="steps that take as long as all of a reference's")
    equal.add_argument("reference", type=Path, metavar="REFERENCE")
    equal.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    equal.set_defaults(do=print_equal_time)
    return whole


def print_config(given: argparse.Namespace) -> None:
    """A config as YAML."""
    found = config(given.task, given.method, smoke=given.smoke, ablation=given.ablation)
    print(yaml.safe_dump(found, sort_keys=False, default_flow_style=None), end="")


def print_table(given: argparse.Namespace) -> None:
    """The table, or nothing where it goes on a page."""
    from benchmarks.study.runs import cells  # here, so that a loop's many configs are printed quickly
    from benchmarks.study.table import table, with_table

    text = table(cells(given.root), given.reference)
    if given.page:
        given.page.write_text(with_table(given.page.read_text(encoding="utf-8"), text), encoding="utf-8")
    else:
        print(text, end="")


def print_equal_time(given: argparse.Namespace) -> None:
    """An override for each run."""
    from benchmarks.study.runs import equal_time_steps

    for run in given.runs:
        print(f"{run}: train.steps={equal_time_steps(given.reference, run)}")


if __name__ == "__main__":
    main()
