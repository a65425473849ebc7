"""From a dataset's cases to checked, prepared volumes and training patches.

Read first: `datamodule.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medtrans.utils.lazy import lazy_names

if TYPE_CHECKING:
    from medtrans.data.checks.cases import CheckReport as CheckReport
    from medtrans.data.cohort import Cohort as Cohort
    from medtrans.data.cohort import Member as Member
    from medtrans.data.datamodule import DataModule as DataModule
    from medtrans.data.datamodule import load_cohort as load_cohort
    from medtrans.data.patches import training_loader as training_loader
    from medtrans.data.preprocessing import Prepared as Prepared
    from medtrans.data.preprocessing import Preprocessing as Preprocessing

__all__ = [
    "CheckReport",
    "Cohort",
    "DataModule",
    "Member",
    "Prepared",
    "Preprocessing",
    "load_cohort",
    "training_loader",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "CheckReport": "checks.cases",
            "Cohort": "cohort",
            "DataModule": "datamodule",
            "Member": "cohort",
            "Prepared": "preprocessing",
            "Preprocessing": "preprocessing",
            "load_cohort": "datamodule",
            "training_loader": "patches",
        },
    )
