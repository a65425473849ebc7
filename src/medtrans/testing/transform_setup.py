"""What is tried of transforms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from medtrans.plugins.interfaces import Augmentation, Preprocess
from medtrans.testing.rules import Broken
from medtrans.testing.trial import Trial

__all__ = ["TransformTrial"]


@dataclass(frozen=True)
class TransformTrial(Trial):
    """A transform under trial.

    Args:
        between: for a scaling, two native intensities that images of its kind lie between; HU for a CT window.
    """

    kind: ClassVar[str] = "transform"

    between: tuple[float, float] = (0.0, 1000.0)

    def scaling(self) -> Preprocess:
        """The transform as an intensity scaling."""
        made = self.make()
        if not isinstance(made, Preprocess):
            raise Broken(f"it makes {type(made).__name__}, expected a subclass of medtrans.Preprocess")
        return made

    def augmentation(self) -> Augmentation:
        """The transform as an augmentation."""
        made = self.make()
        if not isinstance(made, Augmentation):
            raise Broken(f"it makes {type(made).__name__}, expected a subclass of medtrans.Augmentation")
        return made
