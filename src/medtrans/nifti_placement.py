"""Where a NIfTI header places its volume: by sform, by qform, or by a rule the user chose."""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header

from medtrans.placement import (
    LARGEST_MM,
    SMALLEST_MM,
    TOLERANCE_VOXELS,
    XFORM_CODES,
    affine_fault,
    distance_mm,
    orientation,
    qform_affine,
    spacing_mm,
)
from medtrans.reading_rules import ReadingRules

__all__ = ["NiftiHeader", "placement_of"]

NiftiHeader: TypeAlias = Nifti1Header | Nifti2Header
_Placed: TypeAlias = tuple[np.ndarray, int, tuple[str, ...]]
_NOWHERE: _Placed = (np.eye(4), 0, ())  # the faults found keep this from being used


def placement_of(
    header: NiftiHeader, shape: tuple[int, int, int] | None, rules: ReadingRules, faults: list[str]
) -> _Placed:
    """Where a header places its volume.

    The sform counts, else the qform; where they are apart, or one cannot be used, the one the user trusts.

    Args:
        header: as read, unchecked.
        shape: None where it is not known.
        rules: of the user.
        faults: what is wrong is added to them; the result is then of no use.

    Returns:
        The affine, its code, and the rules that were needed.
    """
    codes = {form: int(header[f"{form}_code"]) for form in ("sform", "qform")}
    affines: dict[str, np.ndarray] = {}
    unusable: dict[str, str] = {}
    for form, code in codes.items():
        if code in XFORM_CODES:
            affine, fault = _sform(header) if form == "sform" else _qform(header)
            if fault is None:
                affines[form] = affine
            else:
                unusable[form] = fault
        elif code:
            faults.append(f"{form}_code: found {code}, expected 0 to {XFORM_CODES[-1]}. Export the scan again.")
    if not any(codes.values()):
        return _unplaced(header, rules, faults)
    if unusable:
        return _without(unusable, affines, codes, rules, faults)
    if shape is not None and len(affines) == 2:
        return _of_two(shape, affines, codes, rules, faults)
    return next(((affine, codes[form], ()) for form, affine in affines.items()), _NOWHERE)


def _unplaced(header: NiftiHeader, rules: ReadingRules, faults: list[str]) -> _Placed:
    if not rules.accept_unknown_space:
        faults.append(
            "sform_code and qform_code: found 0 in both, expected 1 to 5 in one: left and right, front and "
            "back are unknown. Export the scan again with its position, or set reading.accept_unknown_space: true to "
            "have it placed by pixdim alone."
        )
        return _NOWHERE
    spacing, fault = _spacing(header)
    if fault is not None:
        faults.append(f"{fault}. Export the scan again.")
        return _NOWHERE
    note = "sform_code and qform_code are 0: placed by pixdim alone (reading.accept_unknown_space)"
    return np.diag([*spacing, 1.0]), 1, (note,)


def _without(
    unusable: dict[str, str],
    affines: dict[str, np.ndarray],
    codes: dict[str, int],
    rules: ReadingRules,
    faults: list[str],
) -> _Placed:
    """The only form that can be used, if the user trusts it."""
    if rules.trust in affines:
        (other,) = unusable
        note = f"the {other} cannot be used ({unusable[other]}): placed by the {rules.trust} (reading.trust)"
        return affines[rules.trust], codes[rules.trust], (note,)
    advice = "".join(f", or set reading.trust: {sound} if that places the scan rightly" for sound in affines)
    faults += [f"{fault}. Export the scan again{advice}." for fault in unusable.values()]
    return _NOWHERE


def _of_two(
    shape: tuple[int, int, int],
    affines: dict[str, np.ndarray],
    codes: dict[str, int],
    rules: ReadingRules,
    faults: list[str],
) -> _Placed:
    sform, qform = affines["sform"], affines["qform"]
    apart, limit = distance_mm(shape, sform, qform), TOLERANCE_VOXELS * min(spacing_mm(sform))
    if apart <= limit:
        return sform, codes["sform"], ()
    positions = (
        f"two positions up to {apart:.4g} mm apart ({orientation(sform)} by sform, {orientation(qform)} by qform)"
    )
    if rules.trust is None:
        faults.append(
            f"sform and qform: found {positions}, expected at most {limit:.2g} mm. Look at the scan in a viewer, then "
            "set reading.trust to sform or qform, or the code of the wrong one to 0."
        )
        return _NOWHERE
    note = f"sform and qform give {positions}: placed by the {rules.trust} (reading.trust)"
    return affines[rules.trust], codes[rules.trust], (note,)


def _sform(header: NiftiHeader) -> tuple[np.ndarray, str | None]:
    affine = np.eye(4)
    affine[:3] = [header["srow_x"], header["srow_y"], header["srow_z"]]
    fault = affine_fault(affine)
    return affine, fault and f"srow_x, srow_y, srow_z: {fault}"


def _qform(header: NiftiHeader) -> tuple[np.ndarray, str | None]:
    direction = float(header["pixdim"][0])
    turn = [float(header[f"quatern_{axis}"]) for axis in "bcd"]
    _, fault = _spacing(header)
    if direction not in (-1, 0, 1):
        fault = f"pixdim[0]: found {direction:g}, expected 1 or -1"
    elif fault is None and not math.hypot(*turn) <= 1.0005:  # more than rounding to 4 digits makes of a unit quaternion
        fault = f"quatern_b, c, d: found {turn}, expected squares that sum up to at most 1"
    if fault is not None:
        return np.eye(4), fault
    affine = qform_affine(header)
    fault = affine_fault(affine)
    return affine, fault and f"qoffset_x, y, z: {fault}"


def _spacing(header: NiftiHeader) -> tuple[list[float], str | None]:
    spacing = [float(value) for value in header["pixdim"][1:4]]
    if all(SMALLEST_MM <= length <= LARGEST_MM for length in spacing):
        return spacing, None
    return spacing, f"pixdim: found spacing {spacing}, expected lengths above 0 in mm"
