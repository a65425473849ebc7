"""Pages and tables a person reads.

Read first: `run_report.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medtrans.utils.lazy import lazy_names

if TYPE_CHECKING:
    from medtrans.report.comparison import write_comparison as write_comparison
    from medtrans.report.run_report import write_report as write_report

__all__ = [
    "write_comparison",
    "write_report",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "write_comparison": "comparison",
            "write_report": "run_report",
        },
    )
