"""Owns the end of the study: finished runs in one table.

    python docs/study.py runs/study/smoke                                  the table of all runs below it
    python docs/study.py runs/study/smoke --page docs/study.md             the same, between the markers of a page
    python docs/study.py --equal-time runs/a runs/b                        steps of b that take as long as all of a's

Runs lie in ROOT/TASK/METHOD. Those that have not ended are left out.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from studied.cells import cells, equal_time_steps
from studied.table import table, with_table

from medtrans.errors import MedtransError


def main() -> int:
    """Gather what the command line names."""
    parser = argparse.ArgumentParser(description="Gather the runs of a study into one table.")
    parser.add_argument("root", type=Path, nargs="?", help="folder of ROOT/TASK/METHOD")
    parser.add_argument("--reference", default="mdaunet", help="the method that the others are tested against")
    parser.add_argument("--page", type=Path, help="Markdown page with the markers")
    parser.add_argument("--equal-time", type=Path, nargs="+", metavar="RUN", help="the reference, then others")
    given = parser.parse_args()
    if given.equal_time:
        reference, *others = given.equal_time
        for run in others:
            print(f"{run}: train.steps={equal_time_steps(reference, run)}")
        return 0
    if given.root is None:
        parser.error("give the folder that holds the runs")
    try:
        text = table(cells(given.root), given.reference)
    except MedtransError as error:
        raise SystemExit("\n".join(error.faults)) from error
    if given.page:
        given.page.write_text(with_table(given.page.read_text(encoding="utf-8"), text), encoding="utf-8")
    else:
        print(text, end="")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
