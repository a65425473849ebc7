"""Images in world space, and the only way from and to image files.

Read first: `volume.py`.
"""

from __future__ import annotations

from medtrans.volume.header import NO_RULES, ReadingRules
from medtrans.volume.io import files_of, read, read_header, write
from medtrans.volume.stream import IMAGE_ENDINGS, NIFTI_ENDINGS, is_image_file, stem_of
from medtrans.volume.volume import Grid, Header, Volume

__all__ = [
    "IMAGE_ENDINGS",
    "NIFTI_ENDINGS",
    "NO_RULES",
    "Grid",
    "Header",
    "ReadingRules",
    "Volume",
    "files_of",
    "is_image_file",
    "read",
    "read_header",
    "stem_of",
    "write",
]
