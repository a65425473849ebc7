"""Images in world space, and the only way from and to image files.

Read first: `volume.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medtrans.utils.lazy import lazy_names

if TYPE_CHECKING:
    from medtrans.volume.io import files_of as files_of
    from medtrans.volume.io import read as read
    from medtrans.volume.io import read_header as read_header
    from medtrans.volume.io import write as write
    from medtrans.volume.rules import NO_RULES as NO_RULES
    from medtrans.volume.rules import ReadingRules as ReadingRules
    from medtrans.volume.stream import IMAGE_ENDINGS as IMAGE_ENDINGS
    from medtrans.volume.stream import NIFTI_ENDINGS as NIFTI_ENDINGS
    from medtrans.volume.stream import is_image_file as is_image_file
    from medtrans.volume.stream import stem_of as stem_of
    from medtrans.volume.volume import Grid as Grid
    from medtrans.volume.volume import Header as Header
    from medtrans.volume.volume import Volume as Volume

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

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "Grid": "volume",
            "Header": "volume",
            "IMAGE_ENDINGS": "stream",
            "NIFTI_ENDINGS": "stream",
            "NO_RULES": "rules",
            "ReadingRules": "rules",
            "Volume": "volume",
            "files_of": "io",
            "is_image_file": "stream",
            "read": "io",
            "read_header": "io",
            "stem_of": "stream",
            "write": "io",
        },
    )
