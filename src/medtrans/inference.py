"""Owns the translation of whole volumes: from files or arrays to volumes on the source's own grid."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

from medtrans import checkpoint
from medtrans._version import __version__
from medtrans.assembly import make_method, make_preprocessing, multiple_of, padded_sides
from medtrans.components import Method
from medtrans.config import Experiment, load_config
from medtrans.errors import ConfigError, DataError
from medtrans.preprocess import Prepared, Preprocessing
from medtrans.runfolder import RunFolder
from medtrans.sliding_window import sliding_window
from medtrans.volume import Volume, read

__all__ = ["NOTICE", "Image", "Translator", "load"]

NOTICE = "synthetic image, for research use only, not for diagnosis"

Image: TypeAlias = Path | str | np.ndarray | Volume


class Translator:
    """A trained method with all that surrounds it: image in, image out.

    Args:
        experiment: the run's checked config.
        method: with its trained weights.
        preprocessing: as in training.
        target_numbers: for each target whose scaling is fitted, the median of the training targets' numbers, in
            which predictions are written.
    """

    def __init__(
        self,
        experiment: Experiment,
        method: Method,
        preprocessing: Preprocessing,
        target_numbers: Mapping[str, Mapping[str, float]],
    ) -> None:
        self.experiment = experiment
        self.method = method
        self.preprocessing = preprocessing
        self.target_numbers = target_numbers

    def translate(
        self, image: Image | Mapping[str, Image], affine: np.ndarray | None = None
    ) -> Volume | dict[str, Volume]:
        """Translate one subject's image.

        Args:
            image: a file, a `Volume`, or an array `(i, j, k)` with its `affine`; by modality where the run has several
                sources.
            affine: `(4, 4)`, voxel to world in mm, of an array.

        Returns:
            The target on the first source's own grid, in native units where its scaling is fixed, else in the median
            scale of the training targets; by modality where the run has several targets.

        Raises:
            DataError: the image cannot be read, or is not what the run was trained on.
        """
        sources = self.experiment.config.source
        given = image if isinstance(image, Mapping) else {sources[0]: image}
        if set(given) != set(sources):
            raise DataError(f"the run translates from {', '.join(sources)}; found {', '.join(given)}")
        prepared = self.preprocessing.prepare({name: _volume(given[name], affine) for name in sources})
        restored = self.restore(self.predict(prepared), prepared)
        return restored if len(restored) > 1 else next(iter(restored.values()))

    def predict(self, prepared: Prepared, advance: Callable[[int, int], None] | None = None) -> np.ndarray:
        """The prediction `(c, i, j, k)` in [0, 1] on the prepared grid.

        Args:
            prepared: the preprocessed source.
            advance: called with (windows done, windows in all).
        """
        settings = self.experiment.config.inference
        networks = list(self.method.networks().values())
        first, second, third = (int(np.lcm.reduce(axis)) for axis in zip(*map(multiple_of, networks), strict=True))
        multiple = (first, second, third)
        device = next(parameter.device for network in networks for parameter in network.parameters())
        translated = sliding_window(
            lambda windows: self.method.translate(windows.to(device)),
            torch.from_numpy(np.array(prepared.source, dtype=np.float32))[None],
            window=self._window(networks, prepared.grid.shape, multiple),
            overlap=settings.overlap,
            blend=settings.blend,
            batch=settings.batch,
            multiple=multiple,
            advance=advance,
        )
        scaled: np.ndarray = translated[0].numpy()
        broken = int(scaled.size - np.count_nonzero(np.isfinite(scaled)))
        if broken:
            raise DataError(
                f"the prediction is not finite in {broken} of {scaled.size} voxels: the weights are unusable"
            )
        return scaled

    def restore(self, scaled: np.ndarray, prepared: Prepared) -> dict[str, Volume]:
        """A prediction on the source's own grid, in the intensities it is written in."""
        native = self.preprocessing.to_native(scaled, prepared)
        volumes = {}
        for channel, target in zip(native, self.experiment.config.target, strict=True):
            numbers = self.target_numbers.get(target, prepared.numbers.get(target, {}))
            intensities = self.preprocessing.scalings[target].invert(np.clip(channel, 0, 1), numbers)
            volumes[target] = Volume(
                np.ascontiguousarray(intensities, dtype=np.float32), prepared.native.affine, prepared.space_code
            )
        return volumes

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

    def _window(
        self, networks: Sequence[torch.nn.Module], shape: Sequence[int], multiple: tuple[int, int, int]
    ) -> tuple[int, int, int]:
        """What the config asks for, else the generator, else the patch; None is the whole extent."""
        config = self.experiment.config
        asked: Any = next((network.window for network in networks if hasattr(network, "window")), None)
        window = config.inference.window or asked or config.patch.size
        whole = padded_sides(tuple(shape), multiple)
        first, second, third = (given or extent for given, extent in zip(window, whole, strict=True))
        return first, second, third


def load(run: Path | str, *, plugins: Sequence[Path] = ()) -> Translator:
    """A trained run as an object that translates.

    Args:
        run: its folder.
        plugins: the single-file plugins it was trained with; a folder never brings code by itself.

    Raises:
        ConfigError: there is no run or it holds no weights.
        DataError: its weights are damaged.

    Example:
        >>> import medtrans
        >>> translator = medtrans.load("runs/t1_to_t2")  # doctest: +SKIP
        >>> translator.translate("t1.nii.gz")  # doctest: +SKIP
    """
    folder = RunFolder.existing(run)
    experiment = load_config([folder.config], plugins=plugins)
    chosen = checkpoint.best(folder.checkpoints) or checkpoint.newest(folder.checkpoints)
    if chosen is None:
        raise ConfigError(f"{folder.path}: no weights yet; let the run reach its first checkpoint")
    method = make_method(experiment, training_cases=None)
    weights = chosen.networks()
    for name, network in method.networks().items():
        network.load_state_dict(weights[name])
    return Translator(experiment, method, make_preprocessing(experiment), chosen.state()["target_numbers"])


def _volume(image: Image, affine: np.ndarray | None) -> Volume:
    if isinstance(image, Volume):
        return image
    if isinstance(image, np.ndarray):
        if affine is None:
            raise DataError("an array has no place in the world: give its affine (4, 4), voxel to world in mm")
        return Volume(image, np.asarray(affine, dtype=np.float64))
    return read(image)
