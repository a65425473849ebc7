"""What a check found, as a table to read and as data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from medtrans.utils.messages import listed, sides

if TYPE_CHECKING:
    from medtrans.data.checks.images import Remark
    from medtrans.data.checks.registration import Registration

__all__ = ["CaseReport", "CheckReport"]


_SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class CaseReport:
    """What a check found in one case.

    Args:
        label: its number, "case_0001".
        case: its name.
        subject: whose images they are.
        split: train, validation or test.
        shape: voxels of the first source as stored; None where it cannot be read.
        spacing_mm: of these voxels.
        sides: voxels of the case as networks see it; None where it cannot be prepared.
        registrations: by modality, how it lies against the first source.
        faults: for which a run refuses it.
        warnings: with which a run goes on.
    """

    label: str
    case: str
    subject: str
    split: str
    shape: tuple[int, int, int] | None
    spacing_mm: tuple[float, float, float] | None
    sides: tuple[int, int, int] | None
    registrations: Mapping[str, Registration]
    faults: tuple[Remark, ...]
    warnings: tuple[Remark, ...]

    @property
    def state(self) -> str:
        """ "ok", or what is wrong in a few words."""
        wrong = ", ".join(dict.fromkeys(remark.brief for remark in self.faults))
        doubtful = ", ".join(dict.fromkeys(remark.brief for remark in self.warnings))
        return f"refused: {wrong}" if wrong else f"ok, but {doubtful}" if doubtful else "ok"


@dataclass(frozen=True)
class CheckReport:
    """What a check found. It stays with the data, since it names cases.

    Args:
        cases: all of them, in the cohort's order.
        faults: everything for which a run would refuse to begin, with what to do.
        warnings: what a run would go on with but a reader should know.
        parameters: number of parameters of each network.
        exit_code: that a run would end with; 0 where it would begin.
    """

    cases: tuple[CaseReport, ...]
    faults: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    parameters: Mapping[str, int] = field(default_factory=dict)
    exit_code: int = 0

    @property
    def ready(self) -> bool:
        """Whether a run would begin."""
        return self.exit_code == 0

    @property
    def splits(self) -> dict[str, int]:
        """The number of cases in each split."""
        counts = Counter(case.split for case in self.cases)
        return {split: counts[split] for split in _SPLITS}

    @property
    def refused(self) -> tuple[str, ...]:
        """The numbers of the cases that a run would refuse."""
        return tuple(case.label for case in self.cases if case.faults)

    def as_data(self) -> dict[str, Any]:
        """Everything as plain data for JSON."""
        return {
            "ready": self.ready,
            "splits": self.splits,
            "refused": list(self.refused),
            "faults": list(self.faults),
            "warnings": list(self.warnings),
            "parameters": dict(self.parameters),
            "cases": [{**asdict(case), "state": case.state} for case in self.cases],
        }

    def __str__(self) -> str:
        lines = [*_table(self.cases), ""]
        lines += [f"{split}: {count} cases" for split, count in self.splits.items()]
        lines += [f"{name}: {count:,} parameters" for name, count in self.parameters.items()]
        lines += [f"warning: {warning}" for warning in self.warnings]
        lines += [f"fault: {fault}" for fault in self.faults]
        return "\n".join([*lines, self._verdict()])

    def _verdict(self) -> str:
        if self.ready:
            return "ready to run"
        cases = f", {len(self.refused)} of {len(self.cases)} cases: {listed(self.refused)}" if self.refused else ""
        return f"not ready: a run would refuse{cases}"


def _table(cases: Sequence[CaseReport]) -> list[str]:
    rows = [("number", "case", "split", "voxels", "mm", "")]
    rows += [
        (case.label, case.case, case.split, sides(case.shape), sides(case.spacing_mm), case.state) for case in cases
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
