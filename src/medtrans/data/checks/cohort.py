"""What shows only when a cohort's cases are compared: duplicates, shifted pairs, the patch that fits all, clipping."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from medtrans.data.checks.cases import Remark
from medtrans.data.checks.registration import median_shift_mm, outliers
from medtrans.data.cohort import find_duplicates
from medtrans.plugins.input_size import padded_sides
from medtrans.plugins.interfaces import Preprocess
from medtrans.utils.messages import listed
from medtrans.utils.messages import sides as sides_text

if TYPE_CHECKING:
    from medtrans.data.checks.cases import CaseChecks
    from medtrans.data.preprocessing import Prepared

__all__ = ["clipping_warnings", "mark_duplicates", "patch_warnings", "registration_warnings", "uncovered_texts"]


_SYSTEMATIC_MM = 1.5
_CLIPPED = 0.001  # share of a case's voxels that may be clipped beyond what the scaling clips on purpose
_UNCOVERED = 0.01  # share of a case's voxels
_NAMED = 3  # cases a modality; the others are counted


def mark_duplicates(found: Sequence[CaseChecks]) -> list[str]:
    """Mark the cases in two splits that hold the same voxels; returns the faults, one a pair."""
    by_number = {each.member.number: each for each in found}
    faults = []
    for pair in find_duplicates([each.member for each in found], [each.digests for each in found]):
        faults.append(str(pair))
        for own, other in ((pair.earlier, pair.later), (pair.later, pair.earlier)):
            by_number[own.number].faults.append(Remark(f"same {pair.held} as {other.label}", str(pair)))
    return faults


def registration_warnings(found: Sequence[CaseChecks], first: str) -> list[str]:
    """Mark the cases whose images seem shifted against the first source; returns what is to be said of the cohort."""
    warnings = []
    for modality in dict.fromkeys(name for each in found for name in each.registrations):
        measured = {each.member.number: each for each in found if modality in each.registrations}
        registrations = {number: each.registrations[modality] for number, each in measured.items()}
        for number, distance in outliers(registrations).items():
            one = registrations[number]
            where = f"{_vector(one.shift_mm or (0, 0, 0))}, overlap of foregrounds {one.overlap:.0%}"
            measured[number].warn(
                f"{modality} {distance:.1f} mm off",
                f"{modality}: seems shifted against {first} ({where}). Look at the pair in a viewer; register it, or "
                "exclude the case",
            )
        usual = median_shift_mm(registrations)
        if usual is not None and float(np.linalg.norm(usual)) > _SYSTEMATIC_MM:
            warnings.append(
                f"{modality} seems shifted against {first} in the whole cohort, typically by {_vector(usual)}: look at "
                "some pairs in a viewer"
            )
        notes = {measured[number].member.label: one.note for number, one in registrations.items() if one.note}
        if notes:
            which = f"{len(notes)} of {len(registrations)} cases ({listed(list(notes))})"
            warnings.append(f"{modality}: registration could not be measured in {which}: {next(iter(notes.values()))}")
    return warnings


def patch_warnings(
    found: Sequence[CaseChecks], patch: tuple[int, int, int], multiple: tuple[int, int, int], generator: str
) -> list[str]:
    """Mark the cases that are smaller than a patch; returns what is to be said of its size.

    Args:
        found: of every case.
        patch: sides of a patch in voxels, as the config has them; they are cut rounded up to the multiple.
        multiple: what the networks want sides to divide by.
        generator: its name.
    """
    whole = padded_sides(patch, multiple)
    if whole == patch:
        return _too_large(found, patch, multiple)
    lower = [max(step, side // step * step) for side, step in zip(patch, multiple, strict=True)]
    rounded = (
        f"patch.size {sides_text(patch)}: generator {generator} needs multiples of {sides_text(multiple)}; patches are "
        f"cut at {sides_text(whole)}. Nearest: {sides_text(lower)} or {sides_text(whole)}; set one of them"
    )
    return [rounded, *_too_large(found, whole, multiple)]


def _too_large(found: Sequence[CaseChecks], patch: Sequence[int], multiple: Sequence[int]) -> list[str]:
    sides = {each.member.number: each.sides for each in found if each.sides is not None}
    small = [each for each in found if each.sides is not None and any(np.less(each.sides, patch))]
    if not small:
        return []
    for each in small:
        text = f"{sides_text(each.sides)} voxels after resampling and cropping, patches have {sides_text(patch)}"
        each.warnings.append(Remark("smaller than a patch", f"{each.member.label}: {text}"))
    largest = np.min([*sides.values(), tuple(patch)], axis=0)
    whole = largest // multiple * multiple
    fits = sides_text(whole if whole.all() else largest)
    which = f"{len(small)} of {len(sides)} cases, such as {small[0].member.label} ({sides_text(small[0].sides)}"
    advice = f"what is missing is filled with background. Largest that fits all: {fits}. Set it, or leave it so"
    return [f"patch.size {sides_text(patch)} does not fit {which} after resampling and cropping); {advice}"]


def _vector(shift_mm: Sequence[float]) -> str:
    named = zip(shift_mm, (("right", "left"), ("front", "back"), ("up", "down")), strict=True)
    parts = [f"{abs(mm):.1f} mm {words[mm < 0]}" for mm, words in named if abs(mm) >= 0.05]
    return ", ".join(parts) or "0 mm"


def clipping_warnings(
    cases: Iterable[tuple[str, CaseChecks | Prepared]], scalings: Mapping[str, Preprocess]
) -> list[str]:
    """A warning for each of the worst cases in which more than 0.1 % of voxels are clipped without intent.

    Args:
        cases: label ("case_0001"), and the case with its numbers and shares of clipped voxels.
        scalings: by modality.
    """
    found: dict[str, list[tuple[float, str, str]]] = {}
    for label, prepared in cases:
        for modality, share in prepared.clipped.items():
            scaling = scalings[modality]
            if share > scaling.clips + _CLIPPED:
                kept = _kept(scaling, prepared.numbers[modality])
                found.setdefault(modality, []).append((share, label, kept))
    warnings = []
    for modality, several in found.items():
        ranked = sorted(several, key=lambda one: (-one[0], one[1]))
        warnings += [
            f"{label}, {modality}: {100 * share:.2g} % of voxels lie outside {kept} and are clipped; widen "
            f"preprocess.intensity.{modality}, or look at the case"
            for share, label, kept in ranked[:_NAMED]
        ]
        if len(ranked) > _NAMED:
            warnings.append(f"{modality}: the same in {len(ranked) - _NAMED} more cases")
    return warnings


def uncovered_texts(shares: Mapping[str, float]) -> dict[str, str]:
    """By modality, what is to be said of images whose field of view leaves out 1 % or more of a case."""
    return {
        modality: f"{modality}: its field of view ends early, {share:.1%} of the voxels have no data; they count "
        "neither in training nor in scores"
        for modality, share in shares.items()
        if share >= _UNCOVERED
    }


def _kept(scaling: Preprocess, numbers: Mapping[str, float]) -> str:
    low, high = scaling.invert(np.array([[[0.0, 1.0]]], dtype=np.float32), numbers).ravel()
    limits = f"{low:.6g} to {high:.6g} {scaling.unit}".rstrip()
    return f"its own limits {limits}" if scaling.fitted else f"the window {limits}"
