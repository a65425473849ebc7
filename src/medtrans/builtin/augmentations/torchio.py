"""TorchIO's random transforms as augmentations of patches."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
import torchio
from pydantic import Field
from torch import Tensor

from medtrans import Augmentation
from medtrans.builtin.augmentations import INTENSITY, SPATIAL

__all__ = ["TorchIOAugmentation"]


class TorchIOAugmentation(Augmentation):
    """Base of TorchIO's random transforms.

    A patch has voxels of 1 mm in RAS+ order for TorchIO, so that lengths in mm count voxels. Images are clipped to
    [0, 1] afterwards, the intensities that networks see when they translate. The mask is a label map: nearest
    neighbour, and no intensity is changed.

    Args:
        p: probability that a patch is changed.
    """

    transform: ClassVar[Callable[..., Any]]

    def __init__(self, *, p: Annotated[float, Field(ge=0, le=1)] = 1.0, **options: Any) -> None:
        self._transform = self.transform(p=p, **options)

    def __call__(self, patches: Mapping[str, Tensor], rng: np.random.Generator) -> dict[str, Tensor]:
        """Change the patches `(c, i, j, k)`; an intensity transform changes "source" alone."""
        touched = ["source"] if self.intensity else list(patches)
        kinds = {name: torchio.LabelMap if name == "mask" else torchio.ScalarImage for name in touched}
        images = {name: kind(tensor=patches[name]) for name, kind in kinds.items()}
        with _drawing_from(rng):
            changed = self._transform(torchio.Subject(images))
        return {**patches, **{name: changed[name].data.float().clamp(0, 1) for name in touched}}


@contextmanager
def _drawing_from(rng: np.random.Generator) -> Iterator[None]:
    """Let torch's global generators, which TorchIO draws from, follow `rng`; afterwards they are as before."""
    used = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    gpus = list(range(torch.cuda.device_count())) if used else []
    with torch.random.fork_rng(devices=gpus):
        torch.manual_seed(int(rng.integers(2**63)))
        yield


def _offered(transform: type[Any], *, intensity: bool) -> type[TorchIOAugmentation]:
    """A TorchIO transform as a class of ours, with the transform's own signature and documentation."""

    @functools.wraps(transform.__init__)
    def construct(self: TorchIOAugmentation, **options: Any) -> None:
        TorchIOAugmentation.__init__(self, **options)

    members: dict[str, Any] = {
        "__init__": construct,
        "__doc__": transform.__doc__,
        "__module__": __name__,
        "transform": staticmethod(transform),
        "intensity": intensity,
    }
    return type(transform.__name__, (TorchIOAugmentation,), members)


# As attributes of this module, so that configs, pickles and tracebacks find them by name.
globals().update(
    {name: _offered(getattr(torchio, name), intensity=name in INTENSITY) for name in (*SPATIAL, *INTENSITY)}
)
