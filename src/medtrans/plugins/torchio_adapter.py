"""The images of a TorchIO subject as a case has them: files where they are files, else functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torchio

    from medtrans.volume import Volume


@dataclass(frozen=True, eq=False, repr=False)
class SubjectImage:
    """Makes the volume of a TorchIO image when it is called."""

    image: torchio.Image

    def __call__(self) -> Volume:
        """The image as it stands, read now by TorchIO if it was not loaded."""
        from medtrans import Volume

        return Volume.from_torchio(self.image)

    def __repr__(self) -> str:
        # What is prepared from an image is found again by this text: TorchIO's own is the same for different voxels.
        if not _loaded(self.image):
            return object.__repr__(self)
        state = blake2b(repr((tuple(self.image.shape), str(self.image.data.dtype))).encode(), digest_size=16)
        state.update(self.image.affine.tobytes())
        state.update(self.image.data.contiguous().numpy().tobytes())
        return f"SubjectImage({state.hexdigest()})"


def images_of(subject: torchio.Subject) -> dict[str, Path | Callable[[], Volume]]:
    """The subject's images by their keys: the path of one that is a NIfTI file not loaded yet, else a function."""
    images: Mapping[str, Any] = subject.get_images_dict(intensity_only=False)
    return {name: image.path if _is_file(image) else SubjectImage(image) for name, image in images.items()}


def text_of(subject: torchio.Subject, *keys: str) -> str | None:
    """The first of the subject's entries that is a text or a number, as text."""
    found = (subject.get(key) for key in keys)
    return next((str(value) for value in found if isinstance(value, str | int) and str(value)), None)


def _is_file(image: Any) -> bool:
    from torchio.data.io import read_image

    from medtrans.volume import NIFTI_ENDINGS

    path = image.path
    return (
        isinstance(path, Path)
        and path.name.endswith(NIFTI_ENDINGS)
        and image.reader is read_image
        and not _loaded(image)
    )


def _loaded(image: Any) -> bool:
    return image.get("data") is not None
