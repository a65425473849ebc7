"""The picture of README.md: the median test case of a finished quickstart, in 255 colours that keep the rare ones.

medtrans run quickstart
python scripts/quickstart_picture.py runs/quickstart
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

SHOWN = Path(__file__).parents[1] / "docs" / "quickstart.png"
COLOURS = 255


def main(run: Path, output: Path) -> None:
    """Take the picture that the run left for its report, and make it small."""
    (picture,) = run.glob("pictures/median_*.png")
    with Image.open(picture) as image:
        # By coverage: by frequency, the few voxels with the largest errors would turn grey.
        small = image.convert("RGB").quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    small.save(output, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), SHOWN)
