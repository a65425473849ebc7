"""The translation of whole volumes: from files or arrays to volumes on the source's own grid."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

from medtrans._version import __version__
from medtrans.config.experiment import Experiment
from medtrans.data.fingerprint import Fingerprint
from medtrans.data.preprocessing import Prepared, Preprocessing
from medtrans.errors import DataError
from medtrans.inference.auto_batch import AutoBatch
from medtrans.inference.sliding_window import Windows, chosen_overlap, chosen_window, receptive_field, sliding_window
from medtrans.plugins.interfaces import Method
from medtrans.volume import ReadingRules, Volume, read

__all__ = ["DESCRIPTION", "NOTICE", "OUT_OF_DISTRIBUTION", "Image", "Translator"]


NOTICE = "synthetic image, for research use only, not for diagnosis"
DESCRIPTION = f"medtrans {__version__}: synthetic, research use only"  # in the header of each written image

OUT_OF_DISTRIBUTION = "out of distribution:"
"""What the notes of a translation begin with that say in what its source is unlike those of training."""

Image: TypeAlias = Path | str | np.ndarray | Volume


class Translator:
    """A trained method with all that surrounds it: image in, image out.

    Args:
        experiment: the run's checked config.
        method: with its trained weights.
        preprocessing: as in training.
        target_numbers: for each target whose scaling is fitted, the median of the training targets' numbers, in
            which predictions are written.
        masked: whether training images were scaled inside masks, so that an image without one is warned of.
        fingerprint: of the training cases; None where it is not known.
    """

    def __init__(
        self,
        experiment: Experiment,
        method: Method,
        preprocessing: Preprocessing,
        target_numbers: Mapping[str, Mapping[str, float]],
        *,
        masked: bool = False,
        fingerprint: Fingerprint | None = None,
    ) -> None:
        self.experiment = experiment
        self.method = method
        self.preprocessing = preprocessing
        self.target_numbers = target_numbers
        self.fingerprint = fingerprint
        self.masked = masked
        self._batches: AutoBatch | None = None
        self._reach: dict[tuple[int, int, int], tuple[int, int, int] | None] = {}

    def translate(
        self, image: Image | Mapping[str, Image], affine: np.ndarray | None = None, *, strict: bool = False
    ) -> Volume | dict[str, Volume]:
        """Translate one subject's image.

        Args:
            image: a file, a `Volume`, or an array `(i, j, k)` with its `affine`; by modality where the run has several
                sources, or where there is a "mask": a run that was trained with masks fits its scalings inside them.
            affine: `(4, 4)`, voxel to world in mm, of an array.
            strict: refuse an image that is unlike those the run was trained on, rather than warn.

        Returns:
            The target on the first source's own grid, in native units where its scaling is fixed, else in the median
            scale of the training targets; by modality where the run has several targets. Its notes say which of the
            run's reading rules (`reading` in its config) the image needed and in what it is unlike the training
            images; they are logged as warnings too.

        Raises:
            DataError: the image cannot be read, or is not what the run was trained on; or, if `strict`, is unlike it.
        """
        sources = self.experiment.config.source
        given = image if isinstance(image, Mapping) else {sources[0]: image}
        if set(given) - {"mask"} != set(sources):
            raise DataError(f"the run translates from {', '.join(sources)}; found {', '.join(given)}")
        rules = self.experiment.config.reading.rules
        images = {name: _volume(one, affine, rules) for name, one in given.items()}
        notes = tuple(f"{name}: {note}" for name, image in images.items() for note in image.notes)
        prepared = self.preprocessing.prepare(images)
        strange = self.unlike_training(prepared)
        if strange and strict:
            raise DataError(f"{OUT_OF_DISTRIBUTION} {'; '.join(strange)}. Translate it without strict, or leave it out")
        notes += tuple(f"{OUT_OF_DISTRIBUTION} {remark}" for remark in strange)
        for note in notes:
            logging.getLogger("medtrans").warning("%s", note)
        if "mask" not in images:
            self.warn_of_no_mask()
        restored = {
            target: replace(volume, notes=notes)
            for target, volume in self.restore(self.predict(prepared), prepared).items()
        }
        return restored if len(restored) > 1 else next(iter(restored.values()))

    def warn_of_no_mask(self) -> None:
        """Say what a missing mask means for this run, where it means anything."""
        scalings = (self.preprocessing.scalings[name] for name in self.experiment.config.source)
        if self.masked and any(scaling.fitted for scaling in scalings):
            logging.getLogger("medtrans").warning(
                "the run was trained inside masks and this image has none: its intensities are scaled by its "
                "background too and its brightness may be off; give its mask (predict --mask)"
            )

    def unlike_training(self, prepared: Prepared) -> list[str]:
        """In what a prepared source is unlike those of training; nothing where it is like them or nobody knows."""
        if self.fingerprint is None:
            return []
        return self.fingerprint.remarks(prepared, self.preprocessing.scalings, self.preprocessing.source)

    def predict(
        self, prepared: Prepared, advance: Callable[[int, int], None] | None = None, *, shift: float = 0.0
    ) -> np.ndarray:
        """The prediction `(c, i, j, k)` in [0, 1] on the prepared grid.

        Args:
            prepared: the preprocessed source.
            advance: called with (windows done, windows in all).
            shift: moves all windows by this share of their side along each axis that takes more than one, so that
                seams show; background is put before the volume for it.
        """
        windows = self.windows(prepared.grid.shape)
        sides = zip(prepared.grid.shape, windows["window"], strict=True)
        moved = [round(shift * side) if extent > side else 0 for extent, side in sides]
        source = np.asarray(prepared.source, dtype=np.float32)
        if any(moved) or not source.flags.writeable:  # torch takes no array that it may not write to
            source = np.pad(source, [(0, 0), *((voxels, 0) for voxels in moved)])
        translated = sliding_window(self.batches(), torch.from_numpy(source)[None], **windows, advance=advance)
        return self.conclude(translated)[:, moved[0] :, moved[1] :, moved[2] :]

    def conclude(self, translated: torch.Tensor) -> np.ndarray:
        """What the method makes of blended windows `(1, c, i, j, k)`: `(c, i, j, k)`, of finite values.

        Raises:
            DataError: it is not finite.
        """
        scaled: np.ndarray = self.method.conclude(translated)[0].numpy()
        if broken := int(scaled.size - np.count_nonzero(np.isfinite(scaled))):
            raise DataError(
                f"the prediction is not finite in {broken} of {scaled.size} voxels: the weights are unusable"
            )
        return scaled

    def restore(self, scaled: np.ndarray, prepared: Prepared) -> dict[str, Volume]:
        """A prediction on the source's own grid, in the intensities it is written in."""
        native = self.preprocessing.to_native(scaled, prepared)
        return {
            target: Volume(self.intensities(target, channel), prepared.native.affine, prepared.space_code)
            for channel, target in zip(native, self.experiment.config.target, strict=True)
        }

    def intensities(self, target: str, channel: np.ndarray) -> np.ndarray:
        """A target in [0, 1], or a part of one, in the float32 intensities it is written in."""
        scaling = self.preprocessing.scalings[target]
        # A fixed scaling has the same numbers whatever it is fitted to; the case's own target is not at hand.
        numbers = self.target_numbers[target] if scaling.fitted else scaling.fit(channel, None)
        return np.ascontiguousarray(scaling.invert(np.clip(channel, 0, 1), numbers), dtype=np.float32)

    def sidecar(self, target: str) -> dict[str, Any]:
        """What a reader of a written prediction must know about its intensities."""
        scaling = self.preprocessing.scalings[target]
        numbers = dict(self.target_numbers.get(target, {}))
        return {
            "notice": NOTICE,
            "target": target,
            "source": list(self.experiment.config.source),
            "unit": scaling.unit,
            "intensities": "scaled with the median numbers of the training targets" if scaling.fitted else "native",
            **({"numbers": numbers} if scaling.fitted else {}),
            "medtrans": __version__,
        }

    def batches(self) -> AutoBatch:
        """The method where its weights are, in batches that fit there; what fitted is remembered."""
        networks = self.method.networks().values()
        device = next(parameter.device for network in networks for parameter in network.parameters())
        if self._batches is None or self._batches.device != device:
            self._batches = AutoBatch(lambda windows: self.method.translate(windows.to(device)), device)
        return self._batches

    def windows(self, shape: Sequence[int]) -> Windows:
        """The windows by which a prepared volume of `shape` is translated."""
        settings, networks = self.experiment.config.inference, list(self.method.networks().values())
        window, multiple = chosen_window(settings.window, self.experiment.config.patch.size, networks, shape)
        overlap = settings.overlap
        if overlap is None:
            if window not in self._reach:
                self._reach[window] = receptive_field(
                    self.batches(), len(self.experiment.config.source), window, multiple
                )
            overlap = chosen_overlap(self._reach[window], window, shape)
        return Windows(window=window, overlap=overlap, blend=settings.blend, batch=settings.batch, multiple=multiple)


def _volume(image: Image, affine: np.ndarray | None, rules: ReadingRules) -> Volume:
    if isinstance(image, Volume):
        return image
    if isinstance(image, np.ndarray):
        if affine is None:
            raise DataError("an array has no place in the world: give its affine (4, 4), voxel to world in mm")
        return Volume(image, np.asarray(affine, dtype=np.float64))
    return read(image, rules)
