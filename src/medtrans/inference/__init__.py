"""A trained run translates volumes and files.

Read first: `translator.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medtrans.utils.lazy import lazy_names

if TYPE_CHECKING:
    from medtrans.inference.loading import load as load
    from medtrans.inference.prediction import predict as predict
    from medtrans.inference.translator import Translator as Translator

__all__ = [
    "Translator",
    "load",
    "predict",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "Translator": "translator",
            "load": "loading",
            "predict": "prediction",
        },
    )
