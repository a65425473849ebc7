"""The translation of whole volumes: from files or arrays to volumes on the source's own grid."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from medtrans._version import __version__
from medtrans.config.experiment import Experiment
from medtrans.data.checks.intensities import settled
from medtrans.data.fingerprint import Fingerprint
from medtrans.data.preprocessing import Prepared, Preprocessing
from medtrans.data.sampling import background_of, cut
from medtrans.errors import DataError
from medtrans.inference.sliding_window import Windows, choose_overlap, choose_window, receptive_field, sliding_window
from medtrans.plugins.interfaces import Method
from medtrans.utils.memory import TooLargeError, out_of_memory
from medtrans.volume import ReadingRules, Volume, read

__all__ = ["DESCRIPTION", "NOTICE", "OUT_OF_DISTRIBUTION", "AutoBatch", "Image", "Translator"]


_log = logging.getLogger("medtrans")

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
        backgrounds: by target, the median background of the training targets in [0, 1], which fills what lies outside
            the box that was kept; 0 where it is not known.
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
        backgrounds: Mapping[str, float] | None = None,
    ) -> None:
        self.experiment = experiment
        self.method = method
        self.preprocessing = preprocessing
        self.target_numbers = target_numbers
        self.fingerprint = fingerprint
        self.backgrounds = dict(backgrounds or {})
        self.masked = masked
        self.rules = experiment.config.reading.rules
        self._batches: AutoBatch | None = None
        self._receptive_fields: dict[tuple[int, int, int], tuple[int, int, int] | None] = {}

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
        scalings = self.preprocessing.scalings
        images = {name: settled(_volume(one, affine, self.rules), scalings.get(name)) for name, one in given.items()}
        notes = tuple(f"{name}: {note}" for name, image in images.items() for note in image.notes)
        prepared = self.preprocessing.prepare(images)
        ood = self.unlike_training(prepared)
        if ood and strict:
            raise DataError(f"{OUT_OF_DISTRIBUTION} {'; '.join(ood)}. Translate it without strict, or leave it out")
        notes += tuple(f"{OUT_OF_DISTRIBUTION} {remark}" for remark in ood)
        notes += tuple(
            f"{name}: its field of view ends early, {share:.1%} of the voxels have no data"
            for name, share in prepared.uncovered.items()
        )
        for note in notes:
            _log.warning("%s", note)
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
            _log.warning(
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
            whole = [side + voxels for side, voxels in zip(prepared.grid.shape, moved, strict=True)]
            source = cut(source, [-voxels for voxels in moved], whole, background_of(source))
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
        native = self.preprocessing.to_native(scaled, prepared, self.fills)
        return {
            target: Volume(self.intensities(target, channel), prepared.native.affine, prepared.space_code)
            for channel, target in zip(native, self.experiment.config.target, strict=True)
        }

    @property
    def fills(self) -> list[float]:
        """What lies outside the box that was kept, in [0, 1], for each target."""
        return [self.backgrounds.get(target, 0.0) for target in self.experiment.config.target]

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
        window, multiple = choose_window(settings.window, self.experiment.config.patch.size, networks, shape)
        overlap = settings.overlap
        if overlap is None:
            if window not in self._receptive_fields:
                self._receptive_fields[window] = receptive_field(
                    self.batches(), len(self.experiment.config.source), window, multiple
                )
            overlap = choose_overlap(self._receptive_fields[window], window, shape)
        return Windows(window=window, overlap=overlap, blend=settings.blend, batch=settings.batch, multiple=multiple)


def _volume(image: Image, affine: np.ndarray | None, rules: ReadingRules) -> Volume:
    if isinstance(image, Volume):
        return image
    if isinstance(image, np.ndarray):
        if affine is None:
            raise DataError("an array has no place in the world: give its affine (4, 4), voxel to world in mm")
        return Volume(image, np.asarray(affine, dtype=np.float64))
    return read(image, rules)


_SPARE = 0.1  # of a device's free memory: its allocator cannot use all of it, and other programs take some


class AutoBatch:
    """Translates a batch of windows in parts where the whole does not fit into the device's memory.

    On a GPU the first batch of several windows is begun with one, and what that took says how many fit. Where memory
    runs out all the same, half as many are taken from then on. Both are remembered, so that a later volume begins with
    what fitted. The result does not depend on it, but for the rounding of a GPU's kernels.

    Args:
        translate: from `(b, c, i, j, k)` to as many, on `device`.
        device: where `translate` works.

    Attributes:
        device: as given.
        most: windows translated at a time; None as many as are asked for.
    """

    def __init__(self, translate: Callable[[Tensor], Tensor], device: torch.device) -> None:
        self._translate = translate
        self.device = device
        self.most: int | None = None

    def __call__(self, windows: Tensor) -> Tensor:
        """Translate windows `(b, c, i, j, k)`.

        Raises:
            TooLargeError: there is not enough memory for one.
        """
        done: list[Tensor] = []
        refused = 0
        if self.most is None and len(windows) > 1 and self.device.type == "cuda":
            done.append(self._measured(windows[:1]))
        while (first := sum(map(len, done))) < len(windows):
            part = windows[first : first + (self.most or len(windows))]
            if (output := self._attempt(part)) is not None:
                done.append(output)
                continue
            if len(part) == 1:
                raise _too_large(part)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            refused, self.most = refused or len(part), len(part) // 2
        if refused:
            _log.warning(
                "%d windows of %s voxels do not fit into the device's memory: going on with %d at a time; "
                "inference.batch=%d avoids the attempt",
                refused,
                _sides(windows),
                self.most,
                self.most,
            )
        return done[0] if len(done) == 1 else torch.cat(done)

    def _attempt(self, windows: Tensor) -> Tensor | None:
        """None where memory ran out; only behind the `except` are the tensors of the attempt free again."""
        try:
            return self._translate(windows)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            return None

    def _measured(self, window: Tensor) -> Tensor:
        """One window's translation, by whose peak of memory the number that fits is chosen."""
        device = self.device
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        if (output := self._attempt(window)) is None:
            raise _too_large(window)
        peak = max(1, torch.cuda.max_memory_allocated(device) - before)
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        free = torch.cuda.mem_get_info(device)[0] + held
        self.most = max(1, int((1 - _SPARE) * free / peak))
        _log.debug("one window takes %d bytes, %d are free: up to %d at a time", peak, free, self.most)
        return output


def _too_large(windows: Tensor) -> TooLargeError:
    return TooLargeError(
        f"the device's memory is too small for one window of {_sides(windows)} voxels; set inference.window to smaller "
        "sides, free memory that other programs hold, or translate on the CPU (with CUDA_VISIBLE_DEVICES empty)"
    )


def _sides(windows: Tensor) -> str:
    return " × ".join(str(side) for side in windows.shape[2:])
