"""CSV tables whose texts a spreadsheet shows and does not run.

Names of subjects and metrics come from folders and plugins. A spreadsheet takes a cell that begins like a formula for
one, and splits a line wherever its own country separates columns; an apostrophe there makes it a text, and is taken off
again when the table is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

__all__ = ["as_given", "table_text"]

_BEGINS = r"(?:^|(?<=[;|\t\r\n]))"
_FORMULA = r"(?=['\s]*[=+@\-\uff1d\uff0b\uff20\uff0d])"  # full-width signs count too
_TO_BE_QUOTED = re.compile(_BEGINS + _FORMULA)
_QUOTED = re.compile(_BEGINS + "'" + _FORMULA)


def table_text(rows: Iterable[Sequence[object]]) -> str:
    """The rows as CSV; numbers stay as they are."""
    return "".join(",".join(_quoted(_inert(str(cell))) for cell in row) + "\n" for row in rows)


def as_given(cell: str) -> str:
    """A cell as `table_text` was given it."""
    return _QUOTED.sub("", cell)


def _inert(cell: str) -> str:
    try:
        float(cell)
    except ValueError:
        return _TO_BE_QUOTED.sub("'", cell)
    return cell


def _quoted(cell: str) -> str:
    # Python's own writer leaves a carriage return bare, at which its own reader ends the row.
    return '"' + cell.replace('"', '""') + '"' if re.search(r'[,"\r\n]', cell) else cell
