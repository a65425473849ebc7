"""The anatomy of the head phantom.

Positions and sizes are in mm in an average adult head: x to the right, y to the front, z up, origin between the ears'
tops. What is left-right asymmetric in people is so here: the right frontal and left occipital lobes reach farther, the
left ventricle is wider, the right transverse sinus and frontal sinus are larger.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medtrans.builtin.datasets.phantom.shapes import (
    Canvas,
    Distance,
    Point,
    Points,
    Waves,
    both,
    ellipsoid,
    smooth_both,
    smooth_union,
    tilted,
    tube,
    union,
)
from medtrans.builtin.datasets.phantom.tissues import Tissue

__all__ = ["CENTRE_MM", "FIELD_OF_VIEW_MM", "draw"]

FIELD_OF_VIEW_MM: Point = (200.0, 248.0, 216.0)
CENTRE_MM: Point = (0.0, 4.0, 4.0)

_SIDES = (-1.0, 1.0)


def draw(canvas: Canvas, points: Points, rng: np.random.Generator, *, lesions: bool) -> None:
    """Paint the head of one subject, whom `rng` draws; all else is the same with and without lesions."""
    # Painted from the outside in: each shape covers what was there, so the order is part of the anatomy. The random
    # numbers are drawn in this order too, and lesions last, so that they change nothing else of a subject.
    vault = ellipsoid(points, (0, -6, 20), (67, 84, 70))
    cavity = smooth_both(vault, _skull_base(points), 14)
    skin = _skin(points, vault)
    _soft_tissues(canvas, points, skin, vault, rng)
    # Bones, vessels and air stay 3 mm below the surface, whatever their own shape.
    inside = canvas.coverage(skin + 3)
    _bones(canvas, points, cavity, inside, rng)
    _neck(canvas, points, inside)
    _air_spaces(canvas, points, inside, rng)
    _orbits(canvas, points, inside)
    canvas.paint(Tissue.CSF, cavity)
    _cerebrum(canvas, points, cavity, rng)
    _hindbrain(canvas, points, cavity, rng)
    _ventricles(canvas, points, rng)
    _sinuses_of_the_dura(canvas, points, cavity)
    if lesions:
        _lesions(canvas, points, rng)


def _skull_base(points: Points) -> Distance:
    """Above the floor of the cavity: lower to the back, with hollows for the temporal lobes and the cerebellum."""
    x, y, z = points
    # A plane that falls to the back, less a hollow on either side and one behind; divided by about the steepness of the
    # plane, so that the value is near a distance in mm.
    temporal = 16 * np.exp(-np.square((np.abs(x) - 38) / 17) - np.square((y - 8) / 24))
    posterior = 10 * np.exp(-np.square(x / 45) - np.square((y + 54) / 30))
    return np.asarray((0.32 * y - z - 20 - temporal - posterior) / np.float32(1.1))


def _skin(points: Points, vault: Distance) -> Distance:
    face = ellipsoid(points, (0, 38, -46), (60, 56, 74))
    neck = tube(points, [(0, -24, -50), (0, -34, -260)], 56)
    nose = tube(points, [(0, 88, -12), (0, 104, -36)], 8)
    ears = union(*(ellipsoid(points, (side * 82, -12, -14), (5, 17, 28)) for side in _SIDES))
    head = smooth_union(smooth_union(vault - 14, face, 30), neck, 30)
    return smooth_union(smooth_union(head, nose, 14), ears, 6)


def _soft_tissues(canvas: Canvas, points: Points, skin: Distance, vault: Distance, rng: np.random.Generator) -> None:
    thickness = rng.uniform(3.5, 6.5)
    canvas.paint(Tissue.SKIN, skin)
    canvas.paint(Tissue.FAT, skin + 2.6)
    face_and_neck = points[2] + 0.25 * points[1] + 14
    canvas.paint(Tissue.MUSCLE, both(skin + 4 + thickness, face_and_neck))
    for side in _SIDES:
        temporalis = ellipsoid(points, (side * 70, 24, -6), (10, 32, 38))
        canvas.paint(Tissue.MUSCLE, both(temporalis, skin + 5))
    # Fat between the muscles: winding sheets.
    sheets = Waves(rng, 8, (30, 60)).sheets(points) - 1.8
    canvas.paint(Tissue.FAT, both(sheets, skin + 6, face_and_neck, -(vault - 8)))
    for side in _SIDES:
        canvas.paint(Tissue.GLAND, both(ellipsoid(points, (side * 58, -4, -52), (13, 16, 22)), skin + 5))


def _bones(
    canvas: Canvas, points: Points, cavity: Distance, inside: NDArray[np.float32], rng: np.random.Generator
) -> None:
    table = rng.uniform(7.0, 9.0)
    uneven = 1.2 * Waves(rng, 6, (40, 90))(points)
    skull = cavity - table - uneven
    face = [tube(points, [(side * 40, 72, -28), (side * 60, 44, -26), (side * 68, 6, -24)], 4.5) for side in _SIDES]
    face += [ellipsoid(points, (side * 32, -16, -34), (30, 10, 11)) for side in _SIDES]
    face += [
        ellipsoid(points, (6, 80, 14), (26, 11, 15)),
        tube(points, [(-28, 48, -64), (-20, 70, -66), (0, 80, -66), (20, 70, -66), (28, 48, -64)], 8),
        ellipsoid(points, (0, 12, -28), (22, 22, 12)),
        tube(points, [(0, 84, -6), (0, 94, -16)], 4),
    ]
    canvas.paint(Tissue.BONE, union(skull, *face), inside)
    # Marrow is what lies near the middle between the inner and the outer table of the skull.
    diploe = np.abs(cavity - table / 2 - uneven / 2) - 0.24 * table - 0.5 * uneven
    canvas.paint(Tissue.MARROW, diploe, inside)
    jaw = [(-50, 10, -36), (-48, 16, -72), (-36, 54, -90), (0, 80, -94), (36, 54, -90), (48, 16, -72), (50, 10, -36)]
    canvas.paint(Tissue.BONE, tube(points, jaw, 7.5), inside)
    canvas.paint(Tissue.MARROW, tube(points, jaw, 3.5), inside)


def _neck(canvas: Canvas, points: Points, inside: NDArray[np.float32]) -> None:
    below = points[2] + 46
    canvas.paint(Tissue.BONE, both(tube(points, [(0, -24, -60), (0, -34, -260)], 15), below), inside)
    canvas.paint(Tissue.MARROW, both(tube(points, [(0, -24, -62), (0, -34, -260)], 11), below), inside)
    canvas.paint(Tissue.BONE, both(tube(points, [(0, -50, -55), (0, -62, -260)], 15), below), inside)
    canvas.paint(Tissue.CSF, tube(points, [(0, -44, -40), (0, -60, -260)], 10), inside)
    for side, radius in ((-1.0, 5.0), (1.0, 6.5)):
        jugular = tube(points, [(side * 30, -4, -44), (side * 36, -6, -260)], radius)
        carotid = tube(points, [(side * 22, 6, -44), (side * 28, 8, -260)], 4)
        canvas.paint(Tissue.BLOOD, union(jugular, carotid), inside)


def _air_spaces(canvas: Canvas, points: Points, inside: NDArray[np.float32], rng: np.random.Generator) -> None:
    spaces = [ellipsoid(points, (side * 27, 60, -44), (14, 17, 17)) for side in _SIDES]
    spaces += [ellipsoid(points, (side * 6, 60, -38), (4, 30, 20)) for side in _SIDES]
    spaces += [ellipsoid(points, (side * 8, 58, -12), (5, 18, 8)) for side in _SIDES]
    spaces += [
        ellipsoid(points, (12, 80, 15), (13, 5, 10)),
        ellipsoid(points, (-8, 80, 12), (7, 4, 7)),
        ellipsoid(points, (4, 22, -24), (13, 12, 8)),
        tube(points, [(0, 24, -44), (0, 4, -62), (0, -4, -260)], 8),
        ellipsoid(points, (0, 56, -74), (24, 22, 3)),
    ]
    space = union(*spaces)
    canvas.paint(Tissue.MUCOSA, space - 2.5, inside)
    canvas.paint(Tissue.GAS, space, inside)
    # One maxillary sinus holds fluid up to a level of its own.
    side = rng.choice(_SIDES)
    fluid = both(ellipsoid(points, (side * 27, 60, -44), (14, 17, 17)), points[2] + 44 + rng.uniform(2, 18))
    canvas.paint(Tissue.MUCOSA, fluid, inside)
    for side in _SIDES:
        cells = Waves(rng, 6, (8, 14))(points) * 3
        canvas.paint(Tissue.GAS, both(ellipsoid(points, (side * 60, -28, -38), (9, 12, 14)), cells), inside)


def _orbits(canvas: Canvas, points: Points, inside: NDArray[np.float32]) -> None:
    for side in _SIDES:
        socket = smooth_union(
            ellipsoid(points, (side * 32, 74, -14), (19, 20, 18)),
            tube(points, [(side * 30, 66, -14), (side * 14, 34, -14)], 7),
            10,
        )
        canvas.paint(Tissue.BONE, both(socket - 3, points[1] - 78), inside)
        canvas.paint(Tissue.FAT, socket, inside)
        eye: Point = (side * 32, 82, -14)
        recti = union(
            *(
                tube(points, [(side * 32 + x, 78, -14 + z), (side * 15, 38, -14)], 2.4)
                for x, z in ((11, 0), (-11, 0), (0, 11), (0, -11))
            )
        )
        canvas.paint(Tissue.MUSCLE, recti, inside)
        canvas.paint(Tissue.WHITE, tube(points, [eye, (side * 14, 34, -14), (side * 4, 18, -10)], 2.6), inside)
        canvas.paint(Tissue.MUSCLE, ellipsoid(points, eye, (13.5, 13.5, 13.5)), inside)
        canvas.paint(Tissue.EYE, ellipsoid(points, eye, (12, 12, 12)), inside)


def _below_tentorium(points: Points) -> Distance:
    _, y, z = points
    return both(z + 6 - 0.15 * (y + 40), y + 25)


def _cerebrum(canvas: Canvas, points: Points, cavity: Distance, rng: np.random.Generator) -> None:
    x, y, _ = points
    hull = both(cavity + 4.5, -_below_tentorium(points) + 1)
    # The falx leans with the torque of the hemispheres.
    falx = np.abs(x - 0.045 * y) - 1.4
    callosum = ellipsoid(points, (0, -8, 16), (24, 42, 22))
    fissures = union(
        both(falx, -callosum),
        *(
            ellipsoid(tilted(points, (side * 54, 8, 2), -22), (side * 54, 8, 2), (18, 34, 2.5 + 0.4 * side))
            for side in _SIDES
        ),
    )
    depth = rng.uniform(13, 18)
    width = rng.uniform(1.6, 2.4)
    # Folds: thin sheets of CSF cut into the hull, no deeper than `depth`. White matter is what lies 3 mm and more below
    # every surface, so the cortex follows the folds by itself.
    sulci = both(Waves(rng, 14, (30, 50)).sheets(points) - width, -hull - depth)
    brain = both(hull, -fissures, -sulci)
    canvas.paint(Tissue.GREY, brain)
    canvas.paint(Tissue.WHITE, brain + rng.uniform(3.0, 3.8))
    for side in _SIDES:
        nuclei = union(
            ellipsoid(points, (side * 11, -14, 10), (8, 14, 10)),
            ellipsoid(points, (side * 12, 20, 14), (6, 11, 10)),
            ellipsoid(points, (side * 25, 5, 6), (6, 17, 10)),
        )
        canvas.paint(Tissue.GREY, nuclei, canvas.share(Tissue.WHITE, Tissue.GREY))


def _hindbrain(canvas: Canvas, points: Points, cavity: Distance, rng: np.random.Generator) -> None:
    cerebellum = both(ellipsoid(points, (1, -56, -26), (60, 36, 27)), cavity + 2.5, _below_tentorium(points) + 1)
    folia = Waves(rng, 8, (16, 24)).sheets(points)
    canvas.paint(Tissue.GREY, cerebellum)
    canvas.paint(Tissue.CSF, both(folia - 0.5, cerebellum, -cerebellum - 6))
    branches = both(folia * -1 + 2.6, cerebellum + 5)
    canvas.paint(Tissue.WHITE, union(branches, cerebellum + 15))
    stem = union(
        tube(points, [(0, -18, -4), (0, -24, -24), (0, -40, -50)], 10),
        ellipsoid(points, (0, -18, -28), (15, 12, 14)),
        tube(points, [(0, -40, -50), (0, -60, -260)], 6),
    )
    canvas.paint(Tissue.WHITE, stem)
    canvas.paint(Tissue.GREY, tube(points, [(0, -44, -60), (0, -60, -260)], 2.5))


def _ventricles(canvas: Canvas, points: Points, rng: np.random.Generator) -> None:
    wide = rng.uniform(0.8, 1.25)
    for side, scale in ((-1.0, 1.3 * wide), (1.0, wide)):
        lateral = union(
            tube(points, [(side * 8, 30, 16), (side * 9, 4, 24), (side * 15, -30, 22)], 5.2 * scale),
            tube(points, [(side * 15, -30, 22), (side * 24, -60, 12)], 4.4 * scale),
            tube(points, [(side * 18, -36, 18), (side * 30, -22, -2), (side * 32, 4, -12)], 2.8 * scale),
        )
        canvas.paint(Tissue.CSF, lateral)
    third = ellipsoid(points, (0, -6, 4), (2.4 * wide, 15, 10))
    fourth = ellipsoid(points, (0, -38, -27), (7, 5, 9))
    canvas.paint(Tissue.CSF, union(third, fourth, tube(points, [(0, -20, 0), (0, -36, -24)], 1.2)))


def _sinuses_of_the_dura(canvas: Canvas, points: Points, cavity: Distance) -> None:
    along_falx: Distance = np.abs(points[0] - 0.045 * points[1]) - np.float32(4)
    under_vault: Distance = np.abs(cavity + np.float32(2)) - np.float32(3.5)
    sagittal = both(along_falx, under_vault, -points[2])
    transverse = union(
        tube(points, [(-3, -86, -2), (54, -52, -16), (46, -24, -36)], 5.5),
        tube(points, [(-3, -86, -2), (-54, -52, -16), (-46, -24, -36)], 3.2),
    )
    canvas.paint(Tissue.BLOOD, union(sagittal, both(transverse, cavity - 1)))


def _lesions(canvas: Canvas, points: Points, rng: np.random.Generator) -> None:
    brain = canvas.share(Tissue.WHITE, Tissue.GREY)
    # Never more than the brain that is there: a lesion at the rim is cut off by the share of the brain.
    for number in range(int(rng.integers(5, 9))):
        largest = number == 0
        side = rng.choice(_SIDES)
        centre = (side * rng.uniform(22, 36), rng.uniform(-48, 40), rng.uniform(22, 46))
        radius = rng.uniform(11, 15) if largest else rng.uniform(3.5, 7)
        radii = (radius * rng.uniform(0.8, 1.2), radius * rng.uniform(0.8, 1.2), radius * rng.uniform(0.8, 1.2))
        ragged = 0.15 * radius * Waves(rng, 6, (2 * radius, 4 * radius))(points)
        canvas.paint(Tissue.LESION, ellipsoid(points, centre, radii) + ragged, brain)
