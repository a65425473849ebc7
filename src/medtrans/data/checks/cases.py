"""The inspection of cases before a run (is every image there, sound, registered, preparable), and its report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from medtrans.data.checks.images import apart, headers_of, looks_like_labels, voxel_faults
from medtrans.data.checks.registration import Registration, registration
from medtrans.data.cohort import Member, absent_images, array_digest, load_image, voxel_digest
from medtrans.errors import DataError, MedtransError
from medtrans.utils.messages import listed, sides
from medtrans.volume import NO_RULES, ReadingRules, Volume

if TYPE_CHECKING:
    from medtrans.data.preprocessing import Preprocessing
    from medtrans.volume import Grid

__all__ = ["CaseChecks", "CaseInspector", "CaseReport", "CheckReport", "Remark"]


_EXTRA = ("mask", "labels")
_SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Remark:
    """Something a reader should know of a case.

    Args:
        brief: in a few words, such as "t2 unreadable".
        text: what is wrong, where, what was found, what was expected, what to do.
    """

    brief: str
    text: str


@dataclass
class CaseChecks:
    """What was found in one case; what cases have in common is found by comparing these.

    Args:
        member: the case.
        grid: of its first source as stored; None where it is not known.
        sides: voxels of the case as networks see it; None where it cannot be prepared.
        faults: for which a run refuses it.
        warnings: with which a run goes on.
        resampled: by modality, how far the corners of another grid lie apart, in mm.
        registrations: by modality, how it lies against the first source.
        digests: hashes of voxels, of images as stored by modality, and of "source" and "target" as networks see them.
        clipped: by modality, the share of voxels its scaling clips.
        numbers: by modality, what its scaling was fitted to.
        uncovered: by modality, the share of voxels that its field of view leaves out.
    """

    member: Member
    grid: Grid | None = None
    sides: tuple[int, int, int] | None = None
    faults: list[Remark] = field(default_factory=list)
    warnings: list[Remark] = field(default_factory=list)
    resampled: Mapping[str, float] = field(default_factory=dict)
    registrations: dict[str, Registration] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    clipped: Mapping[str, float] = field(default_factory=dict)
    numbers: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    uncovered: Mapping[str, float] = field(default_factory=dict)

    def fault(self, brief: str, text: str) -> None:
        """Add a fault; its text says the case's number first."""
        self.faults.append(Remark(brief, f"{self.member.label}: {text}"))

    def warn(self, brief: str, text: str) -> None:
        """Add a warning, which names no case but by number."""
        self.warnings.append(Remark(brief, f"{self.member.label}, {text}"))


class CaseInspector:
    """Looks at cases one by one, each image being read once and forgotten.

    Args:
        preprocessing: of the run; what it refuses, a run refuses.
        rules: how images are read that would otherwise be refused.
        paired: whether source and target of a case belong together, so that their registration matters.
        prepares: whether the preprocessing has all that it needs; without, cases are not tried with it.
    """

    def __init__(
        self,
        preprocessing: Preprocessing,
        rules: ReadingRules = NO_RULES,
        *,
        paired: bool = True,
        prepares: bool = True,
    ) -> None:
        self._preprocessing = preprocessing
        self._rules = rules
        self._paired = paired
        self._prepares = prepares
        self._first = preprocessing.source[0]
        self._scans = tuple(dict.fromkeys((*preprocessing.source, *preprocessing.target)))

    def inspect(self, member: Member) -> CaseChecks:
        """Read every image of a case and say what is wrong with it."""
        found = CaseChecks(member)
        absent = absent_images(member.case, self._scans)
        for modality, text in absent.items():
            found.fault(f"{modality} missing", text)
        there = [name for name in (*self._scans, *_EXTRA) if name in member.case.images and name not in absent]
        refused = self._inspect_headers(found, there)
        images = self._read(found, [modality for modality in there if modality not in refused])
        self._inspect_voxels(found, images)
        if self._paired:
            self._measure(found, images)
        complete = all(modality in images for modality in self._scans)
        if self._prepares and complete and not found.faults:
            self._prepare(found, images)
        return found

    def _inspect_headers(self, found: CaseChecks, modalities: list[str]) -> set[str]:
        """Compare what headers say; returns the modalities whose header is refused."""
        headers, unreadable = headers_of(found.member.case, modalities, self._rules)
        for modality, faults in unreadable.items():
            for fault in faults:
                found.fault(f"{modality} unreadable", fault)
        grids = {modality: header.grid for modality, header in headers.items()}
        found.grid = grids.get(self._first)
        away, found.resampled = apart(found.member.case, self._first, grids)
        for modality, fault in away.items():
            found.fault(f"{modality} apart", fault)
        for modality, header in headers.items():
            for note in header.notes:
                found.warn(f"{modality} by rule", f"{modality}: {note}")
        return set(unreadable)

    def _read(self, found: CaseChecks, modalities: list[str]) -> dict[str, Volume]:
        images: dict[str, Volume] = {}
        for modality in modalities:
            try:
                scaling = self._preprocessing.scalings.get(modality)
                images[modality] = load_image(found.member.case, modality, self._rules, scaling)
            except MedtransError as error:
                for fault in error.faults:
                    if modality == "labels":  # a run does not open them
                        found.warn("labels unreadable", f"labels: {fault}")
                    else:
                        found.fault(f"{modality} unreadable", fault)
        if self._first in images:
            found.grid = images[self._first].grid
        return images

    def _inspect_voxels(self, found: CaseChecks, images: Mapping[str, Volume]) -> None:
        noted = {remark.text for remark in found.warnings}
        for modality, image in images.items():
            for note in image.notes:
                if f"{found.member.label}, {modality}: {note}" not in noted:
                    found.warn(f"{modality} by rule", f"{modality}: {note}")
            if modality in _EXTRA:
                continue
            where = f'case "{found.member.case.case}", {modality}'
            for brief, fault in voxel_faults(image, self._preprocessing.scalings[modality]).items():
                found.fault(f"{modality} {brief}", f"{where}: {fault}")
            different = looks_like_labels(image)
            if different:
                found.warn(
                    f"{modality} like labels",
                    f"{modality}: only {different} different values, all whole numbers: it looks like labels or a "
                    "mask, not like a scan. Check which file the dataset takes",
                )
            digest = voxel_digest(image)
            if digest is not None:
                found.digests[modality] = digest

    def _measure(self, found: CaseChecks, images: Mapping[str, Volume]) -> None:
        for modality in self._scans if self._first in images else ():
            if modality != self._first and modality in images:
                found.registrations[modality] = registration(images[self._first], images[modality], images.get("mask"))

    def _prepare(self, found: CaseChecks, images: Mapping[str, Volume]) -> None:
        try:
            prepared = self._preprocessing.prepare({name: image for name, image in images.items() if name != "labels"})
        except DataError as error:
            for fault in error.faults:
                found.fault("not preparable", f'case "{found.member.case.case}", {fault}')
            return
        found.sides = prepared.grid.shape
        found.clipped, found.numbers, found.uncovered = prepared.clipped, prepared.numbers, prepared.uncovered
        found.digests["source"] = array_digest(prepared.source)
        if prepared.target is not None:
            found.digests["target"] = array_digest(prepared.target)


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
        uncovered: by modality, the share of voxels that its field of view leaves out.
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
    uncovered: Mapping[str, float] = field(default_factory=dict)

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
