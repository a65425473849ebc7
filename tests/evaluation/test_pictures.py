"""Montages show the right planes the right way round, in proportion, with the error in colour."""

from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib import image

from medtrans.evaluation.pictures import Montage, png_bytes

SHAPE = (24, 28, 20)
EVEN_MM = (2.0, 2.0, 2.0)


def draw(source: np.ndarray, width: int = 1000, **options: object) -> np.ndarray:
    nothing = np.zeros(source.shape, dtype=np.float32)
    settings: dict[str, object] = {"spacing_mm": EVEN_MM, "value_range": (0.0, 1.0), **options}
    images = (source, settings.pop("prediction", nothing), settings.pop("target", nothing))
    return Montage.of(*images, **settings).draw(width)  # type: ignore[arg-type] # mixed


def brightest(picture: np.ndarray) -> list[tuple[float, float]]:
    """Centres (row, column) of what is drawn in white in the first column of each of the three rows of panels."""
    white = (picture[24:, :225] > 240).all(axis=-1)
    heights = np.array([SHAPE[1], SHAPE[2], SHAPE[2]]) / (SHAPE[1] + 2 * SHAPE[2])
    edges = np.concatenate([[0], np.cumsum(heights)]) * len(white)
    found = []
    for start, stop in zip(edges[:-1].astype(int), edges[1:].astype(int), strict=True):
        rows, columns = np.nonzero(white[start:stop])
        found.append((float(rows.mean()) / (stop - start), float(columns.mean()) / 225))
    return found


def test_planes_are_drawn_as_radiologists_see_them() -> None:
    source = np.zeros(SHAPE, dtype=np.float32)
    source[16:20, 20:24, 13:17] = 1  # to the patient's right, in front and above
    axial, coronal, sagittal = brightest(draw(source, centre=(18, 22, 15)))
    assert max(*axial, *coronal, *sagittal) < 0.4


def test_planes_go_through_the_centroid_of_the_mask_or_of_the_bright_part() -> None:
    source = np.zeros(SHAPE, dtype=np.float32)
    source[3:6, 4:7, 5:8] = 1
    np.testing.assert_array_equal(draw(source), draw(source, centre=(4, 5, 6)))
    mask = np.zeros(SHAPE, dtype=np.uint8)
    mask[18:21, 18:21, 14:17] = 1
    np.testing.assert_array_equal(draw(source, mask=mask), draw(source, mask=mask, centre=(19, 19, 15)))
    assert (draw(source, mask=mask) != draw(source)).any()


def test_panels_keep_their_proportions_in_mm() -> None:
    flat = draw(np.ones(SHAPE, dtype=np.float32), spacing_mm=(1, 1, 1))
    tall = draw(np.ones(SHAPE, dtype=np.float32), spacing_mm=(1, 1, 3))
    # Column width is 28 mm; rows are 28 + 20 + 20 mm, or 28 + 60 + 60 mm.
    scale = (1000 - 84 - 3 * 4) / 4 / 28
    assert flat.shape[0] == pytest.approx(24 + 12 + 68 * scale, abs=2)
    assert tall.shape[0] == pytest.approx(24 + 12 + 148 * scale, abs=2)


def test_every_panel_of_every_column_has_letters_at_its_four_edges_large_enough_to_read() -> None:
    picture = draw(np.zeros((28, 28, 28), dtype=np.float32))
    width = (1000 - 84 - 3 * 4) / 4
    light = picture.min(axis=-1) > 150
    for row in range(3):
        for column in range(4):
            top, left = (round(start + place * (width + 4)) for start, place in ((24, row), (0, column)))
            panel = light[top : top + 226, left : left + 226]
            third = np.array_split(np.arange(len(panel)), 3)[1]
            for edge in (panel[third, :25], panel[third, -25:], panel[:25, third], panel[-25:, third]):
                rows = np.flatnonzero(edge.any(axis=1))
                assert 10 <= np.ptp(rows) + 1 <= 16


ERROR_COLUMN = np.s_[30:, 690:910]


def coloured(picture: np.ndarray) -> bool:
    """Whether there are errors in their column; letters are grey."""
    return bool(np.ptp(picture[ERROR_COLUMN].astype(int), axis=-1).any())


def test_the_error_is_black_where_there_is_none_orange_above_and_blue_below() -> None:
    target = np.full(SHAPE, 0.5, dtype=np.float32)
    target[0, 0, 0] = 1
    prediction = target.copy()
    prediction[4:8, 4:8, 8:12] += 0.2
    prediction[16:20, 20:24, 8:12] -= 0.2
    for centre, stronger, weaker in (((6, 6, 10), 0, 2), ((18, 22, 10), 2, 0)):
        errors = draw(target, target=target, prediction=prediction, centre=centre)[ERROR_COLUMN].astype(int)
        assert (errors[..., stronger] > errors[..., weaker] + 60).any()
    assert not coloured(draw(target, target=target, prediction=target, centre=(6, 6, 10)))


def test_the_error_is_shown_inside_the_mask_only() -> None:
    target = np.zeros(SHAPE, dtype=np.float32)
    mask = np.zeros(SHAPE, dtype=np.uint8)
    mask[:12] = 1
    prediction = np.where(mask, 0.0, 1.0).astype(np.float32)
    assert not coloured(draw(target, prediction=prediction, mask=mask, centre=(12, 14, 10)))
    assert coloured(draw(target, prediction=prediction, centre=(12, 14, 10)))


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_empty_and_broken_volumes_still_give_a_picture(value: float) -> None:
    prediction = np.full(SHAPE, value, dtype=np.float32)
    assert draw(np.zeros(SHAPE, dtype=np.float32), prediction=prediction, value_range=None).any()


def test_a_montage_is_an_rgb_picture_of_the_wished_width_that_comes_back_from_its_png() -> None:
    picture = draw(np.random.default_rng(0).random(SHAPE), width=400)
    assert picture.dtype == np.uint8
    assert picture.shape[1:] == (400, 3)
    content = png_bytes(picture)
    assert content.startswith(b"\x89PNG")
    assert b"Software" not in content
    read = image.imread(io.BytesIO(content), format="png")
    np.testing.assert_array_equal(np.round(read[..., :3] * 255).astype(np.uint8), picture)
