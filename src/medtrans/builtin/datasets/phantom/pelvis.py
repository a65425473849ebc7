"""The anatomy of the pelvis phantom.

Positions and sizes are in mm in an average adult lying on the back: x to the right, y to the front, z up (to the head),
origin midway between the heads of the femora. The sigmoid colon is on the left and the caecum on the right.
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
    column,
    ellipsoid,
    smooth_both,
    smooth_union,
    tilted,
    tube,
    union,
)
from medtrans.builtin.datasets.phantom.tissues import Tissue

__all__ = ["CENTRE_MM", "FIELD_OF_VIEW_MM", "draw"]

FIELD_OF_VIEW_MM: Point = (400.0, 272.0, 240.0)
CENTRE_MM: Point = (0.0, -4.0, 24.0)

_SIDES = (-1.0, 1.0)


def draw(canvas: Canvas, points: Points, rng: np.random.Generator, *, lesions: bool) -> None:
    """Paint the pelvis of one subject, whom `rng` draws; all else is the same with and without lesions."""
    skin = _skin(points)
    cavity = _cavity(points)
    _soft_tissues(canvas, points, skin, cavity, rng)
    inside = canvas.coverage(skin + 4)
    _vessels(canvas, points, inside)
    _small_bowel(canvas, points, canvas.coverage(cavity + 4), rng)
    _large_bowel(canvas, points, inside, rng)
    _bladder_and_prostate(canvas, points, inside, rng)
    _bones(canvas, points, inside, rng)
    if lesions:
        _lesions(canvas, points, rng)


def _skin(points: Points) -> Distance:
    height = np.clip(points[2], -80, 130)
    torso = both(column(points, (0, -6), 172 - 0.16 * height, 112 - 0.04 * height), -70 - points[2])
    thighs = union(*(tube(points, [(side * 88, -6, -60), (side * 92, 2, -300)], 80) for side in _SIDES))
    return smooth_union(torso, thighs, 40)


def _wing_width(points: Points) -> NDArray[np.float32]:
    return np.asarray(82 + 0.42 * np.clip(points[2], 0, 130), np.float32)


def _cavity(points: Points) -> Distance:
    walls = column(points, (0, 4), _wing_width(points) - 22, 80)
    return smooth_both(walls, ellipsoid(points, (0, 2, 110), (150, 95, 140)), 30)


def _soft_tissues(canvas: Canvas, points: Points, skin: Distance, cavity: Distance, rng: np.random.Generator) -> None:
    x, y, _ = points
    fat = rng.uniform(10, 18) + 3 * Waves(rng, 5, (90, 180))(points) + 8 * np.clip(-y / 80, 0, 1)
    canvas.paint(Tissue.SKIN, skin)
    canvas.paint(Tissue.FAT, skin + 2.6)
    canvas.paint(Tissue.MUSCLE, skin + 2.6 + fat)
    # Fat between the muscles of buttock and thigh: winding sheets.
    sheets = Waves(rng, 8, (70, 130)).sheets(points) - rng.uniform(2, 3.5)
    canvas.paint(Tissue.FAT, both(sheets, skin + 8, -(cavity - 14)))
    cleft = both(np.abs(x) - 5, y + 70, skin + 6)
    canvas.paint(Tissue.FAT, both(cleft, -(cavity - 4)))
    canvas.paint(Tissue.FAT, cavity)
    for side in _SIDES:
        psoas = tube(points, [(side * 44, -16, 260), (side * 58, 6, 60), (side * 92, 22, -20)], 19)
        canvas.paint(Tissue.MUSCLE, psoas)
    floor = both(np.abs(cavity + 3) - 4, points[2] + 2)
    canvas.paint(Tissue.MUSCLE, floor)


def _vessels(canvas: Canvas, points: Points, inside: NDArray[np.float32]) -> None:
    for side in _SIDES:
        artery = tube(
            points, [(side * 12, -10, 260), (side * 40, 14, 90), (side * 66, 48, 8), (side * 78, 52, -300)], 5
        )
        vein = tube(points, [(side * 20, -24, 260), (side * 44, 0, 90), (side * 58, 40, 6), (side * 68, 44, -300)], 7)
        canvas.paint(Tissue.BLOOD, union(artery, vein), inside)


def _bowel(
    canvas: Canvas, points: Points, path: list[Point], radius: float, level: float, within: NDArray[np.float32]
) -> None:
    """A loop with its gas in front of `level`, a height above the axis in the direction that faces up when lying."""
    lumen = tube(points, path, radius - 3)
    depth = np.interp(points[2], *_profile(path)).astype(np.float32)
    canvas.paint(Tissue.BOWEL, lumen - 3, within)
    canvas.paint(Tissue.CONTENT, lumen, within)
    canvas.paint(Tissue.GAS, both(lumen + 0.5, depth + np.float32(level) - points[1]), within)


def _profile(path: list[Point]) -> tuple[list[float], list[float]]:
    """Height and depth of a loop's axis, by height."""
    ordered = sorted(path, key=lambda point: point[2])
    return [point[2] for point in ordered], [point[1] for point in ordered]


def _small_bowel(canvas: Canvas, points: Points, within: NDArray[np.float32], rng: np.random.Generator) -> None:
    for _ in range(7):
        start = np.array([rng.uniform(-60, 60), rng.uniform(10, 60), rng.uniform(66, 140)])
        path: list[Point] = []
        for _ in range(4):
            x, y, z = (float(value) for value in start)
            path.append((x, y, z))
            start = start + rng.normal(size=3) * (30, 14, 12)
        _bowel(canvas, points, path, rng.uniform(10, 14), rng.uniform(2, 12), within)


def _large_bowel(canvas: Canvas, points: Points, inside: NDArray[np.float32], rng: np.random.Generator) -> None:
    rectum: list[Point] = [(0, -38, -40), (0, -44, -8), (4, -52, 26), (-8, -46, 54)]
    _bowel(canvas, points, rectum, rng.uniform(14, 20), rng.uniform(-4, 10), inside)
    sigmoid: list[Point] = [(-8, -46, 54), (-34, -14, 58), (-62, 14, 78), (-82, 8, 104), (-88, 4, 260)]
    _bowel(canvas, points, sigmoid, rng.uniform(15, 20), rng.uniform(-6, 4), inside)
    caecum: list[Point] = [(70, 22, 74), (84, 14, 104), (90, 6, 260)]
    _bowel(canvas, points, caecum, rng.uniform(22, 28), rng.uniform(4, 14), inside)


def _bladder_and_prostate(
    canvas: Canvas, points: Points, inside: NDArray[np.float32], rng: np.random.Generator
) -> None:
    canvas.paint(Tissue.GLAND, ellipsoid(points, (0, 6, -24), (rng.uniform(20, 27), 19, 19)), inside)
    filling = rng.uniform(0.8, 1.25)
    urine = ellipsoid(points, (rng.uniform(-6, 8), 14, 6 + 18 * filling), (38 * filling, 30 * filling, 27 * filling))
    canvas.paint(Tissue.MUSCLE, urine - 4.5, inside)
    canvas.paint(Tissue.URINE, urine, inside)


def _bones(canvas: Canvas, points: Points, inside: NDArray[np.float32], rng: np.random.Generator) -> None:
    cortex = 3.4 + 0.6 * Waves(rng, 5, (40, 90))(points)
    sacrum = _sacrum(points)
    for bone in (sacrum, _hip_bones(points), _femora(points)):
        canvas.paint(Tissue.BONE, bone, inside)
        canvas.paint(Tissue.MARROW, bone + cortex, inside)
    canal = tube(points, [(0, -74, 260), (0, -76, 100), (0, -88, 40)], 7.5)
    canvas.paint(Tissue.BONE, both(canal - 3.5, 30 - points[2]), inside)
    canvas.paint(Tissue.CSF, canal, inside)


def _sacrum(points: Points) -> Distance:
    leaning = tilted(points, (0, -70, 56), -24)
    wedge = np.clip(34 + 0.42 * (leaning[2] - 56), 8, 56)
    body = smooth_both(column(leaning, (0, -70), wedge, 16), np.abs(leaning[2] - 50) - 50, 20)
    lumbar = union(
        *(ellipsoid(points, (0, y, z), (27, 19, 16)) for y, z in ((-42, 116), (-40, 152))),
        tube(points, [(0, -94, 112), (0, -104, 106)], 6),
        tube(points, [(-38, -62, 118), (38, -62, 118)], 6),
    )
    coccyx = tube(points, [(0, -84, 4), (0, -70, -14)], 6)
    return union(body, lumbar, coccyx)


def _hip_bones(points: Points) -> Distance:
    x, _, z = points
    sheet = column(points, (0, -10), _wing_width(points) + 10, 74 + 0.1 * np.clip(z, 0, 130))
    shell: Distance = np.abs(sheet) - np.float32(6.5)
    crest = ellipsoid(points, (0, -16, 40), (200, 66, 76))
    wing = both(shell, crest, 8 - z, 46 - np.abs(x))
    parts = [wing]
    for side in _SIDES:
        head = ellipsoid(points, (side * 88, 0, 0), (37, 37, 37))
        gap = ellipsoid(points, (side * 88, 0, 0), (27, 27, 27))
        outward = (side * (x - side * 88)) * 0.85 - 0.52 * z
        parts += [
            both(head, -gap, outward - 8),
            tube(points, [(side * 84, -8, 36), (side * 96, -24, 58)], 12),
            tube(points, [(side * 62, 24, -4), (side * 8, 54, -30)], 9),
            tube(points, [(side * 8, 52, -34), (side * 10, 46, -46), (side * 46, -2, -66)], 7.5),
            tube(points, [(side * 70, -30, -8), (side * 56, -34, -56)], 13),
        ]
    return union(*parts)


def _femora(points: Points) -> Distance:
    parts = []
    for side in _SIDES:
        shaft = tube(points, [(side * 132, -10, -34), (side * 122, 2, -300)], 17)
        neck = tube(points, [(side * 88, 0, 0), (side * 128, -10, -28)], 14)
        trochanter = ellipsoid(points, (side * 137, -14, -22), (15, 19, 24))
        head = ellipsoid(points, (side * 88, 0, 0), (24, 24, 24))
        parts.append(smooth_union(smooth_union(shaft, neck, 12), smooth_union(trochanter, head, 8), 8))
    return union(*parts)


def _lesions(canvas: Canvas, points: Points, rng: np.random.Generator) -> None:
    marrow = canvas.share(Tissue.MARROW)
    sites: tuple[Point, ...] = (
        (-18, -66, 66), (14, -72, 40), (0, -42, 114), (88, 2, 2), (-88, -2, 4), (134, -14, -26), (90, -18, 46),
        (-72, -32, -24),
    )  # fmt: skip
    for site in rng.choice(len(sites), size=int(rng.integers(3, 6)), replace=False):
        x, y, z = sites[int(site)]
        radius = rng.uniform(8, 14)
        ragged = 0.15 * radius * Waves(rng, 6, (2 * radius, 4 * radius))(points)
        canvas.paint(Tissue.LESION, ellipsoid(points, (x, y, z), (radius, radius, radius)) + ragged, marrow)
