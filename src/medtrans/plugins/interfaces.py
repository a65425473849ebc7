"""The contract that each kind of component keeps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeAlias, cast

from medtrans.errors import DataError
from medtrans.plugins.torchio_adapter import images_of, text_of

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import torchio
    from lightning_fabric import Fabric
    from torch import Tensor, nn
    from torch.optim import Optimizer

    from medtrans.types import Batch
    from medtrans.volume import Volume

SplitName: TypeAlias = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Case:
    """One visit of one subject.

    Args:
        case: unique name of the case.
        subject: whose it is; a subject never stands in two splits.
        images: modality (`t1`, `ct`, `mask`, `labels`) to a file, or to a function that makes the volume.
        split: "train", "validation" or "test" where the dataset itself prescribes it.
    """

    case: str
    subject: str
    images: Mapping[str, Path | Callable[[], Volume]]
    split: SplitName | None = None

    @classmethod
    def from_subject(
        cls,
        subject: torchio.Subject,
        *,
        case: str | None = None,
        owner: str | None = None,
        split: SplitName | None = None,
    ) -> Case:
        """A TorchIO subject as a case; nothing is read.

        An image that is a NIfTI file and not loaded yet stays a file, which medtrans reads itself. Every other, such
        as one that a transform has changed, is taken as it stands in memory, or read by TorchIO when it is needed.
        The keys of the subject are the modalities.

        Args:
            subject: with an image a modality.
            case: name of the case; None takes the subject's entry "case", "subject_id" or "subject".
            owner: whose it is; None takes "subject" or "subject_id", else the name of the case.
            split: where the case belongs, if that is known; None takes the subject's entry "split".

        Raises:
            DataError: the case has no name, or "split" is none of the three.
        """
        name = case or text_of(subject, "case", "subject_id", "subject")
        if name is None:
            raise DataError('a case needs a name: give case="...", or the subject an entry "case" or "subject_id"')
        stated = split or text_of(subject, "split")
        if stated not in (None, "train", "validation", "test"):
            raise DataError(f'case "{name}": split: found "{stated}", expected train, validation or test')
        whose = owner or text_of(subject, "subject", "subject_id") or name
        return cls(name, whose, images_of(subject), cast("SplitName | None", stated))


class Dataset(ABC):
    """A source of cases; it lists them and reads no voxel."""

    @abstractmethod
    def cases(self) -> Sequence[Case]:
        """All cases, in an order that does not change."""


class Metric(ABC):
    """A score of one whole predicted volume.

    Attributes:
        unit: of the score, such as "dB"; "" for none.
        higher_is_better: the direction.
        definition: the formula in one line, stored beside every score.
    """

    unit: str
    higher_is_better: bool
    definition: str

    @abstractmethod
    def __call__(
        self, prediction: np.ndarray, target: np.ndarray, mask: np.ndarray | None, spacing_mm: Sequence[float]
    ) -> float:
        """Score `prediction` against `target`, both `(i, j, k)`, inside the boolean `mask` where there is one."""


class Preprocess(ABC):
    """An intensity scaling to [0, 1] that can be undone.

    Attributes:
        fitted: True where each image is scaled by numbers of its own (scores are then in [0, 1]); False where the
            config's constants scale all images (scores are then in `unit`).
        unit: of the native intensities of a fixed scaling, such as "HU".
        data_range: width of the native range of a fixed scaling, in `unit`.
        clips: share of voxels that it clips on purpose; a run warns of cases where it is 0.1 % more.
        nearest: True for images whose values are names, such as labels: they are never interpolated, and one that is
            the same everywhere is sound.
        voxelwise: True where `apply` and `invert` look at each voxel alone, so that a part of a volume may be given.
        learned: what `learn` gave for the training cases; set before anything is fitted or applied, in training and
            whenever a trained run is loaded.
    """

    fitted: ClassVar[bool]
    unit: str = ""
    data_range: float = 1.0
    clips: float = 0.0
    nearest: ClassVar[bool] = False
    voxelwise: ClassVar[bool] = False
    learned: Mapping[str, Sequence[float]] = MappingProxyType({})

    def learn(self, samples: Iterable[tuple[np.ndarray, np.ndarray | None]]) -> Mapping[str, Sequence[float]]:
        """Lists of numbers that all images share, learnt from the training cases alone; nothing unless overridden.

        Args:
            samples: each training image `(i, j, k)` with its boolean mask where it has one, as `fit` will see them;
                read as they are asked for.
        """
        return {}

    @abstractmethod
    def fit(self, volume: np.ndarray, mask: np.ndarray | None) -> dict[str, float]:
        """The plain numbers that scale this volume `(i, j, k)`, found inside `mask` where there is one."""

    def fit_percentiles(self, percentiles: Callable[[Sequence[float]], list[float]]) -> dict[str, float] | None:
        """What `fit` gives without a mask, for a volume too large for memory; None, the default, where it cannot.

        Args:
            percentiles: the volume's exact percentiles, 0 its smallest and 100 its largest value; may raise DataError.
        """
        return None

    @abstractmethod
    def apply(self, volume: np.ndarray, numbers: Mapping[str, float]) -> np.ndarray:
        """The volume in float32 in [0, 1]."""

    @abstractmethod
    def invert(self, volume: np.ndarray, numbers: Mapping[str, float]) -> np.ndarray:
        """A volume in [0, 1] back in native intensities."""


class Augmentation(ABC):
    """A random change of a patch, the same for source, target and mask where it is geometric.

    Attributes:
        intensity: True where only the source is touched.
    """

    intensity: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, patches: Mapping[str, Tensor], rng: np.random.Generator) -> dict[str, Tensor]:
        """Change the patches `(c, i, j, k)` under "source", "target" and, where there is one, "mask"."""


@dataclass(frozen=True)
class RunInfo:
    """What a callback learns when a run starts.

    Args:
        folder: the run's folder.
        config: the config as plain data.
        first_step: the step the run begins at, above 0 after a resume.
        steps: the step the run ends at.
    """

    folder: Path
    config: Mapping[str, Any]
    first_step: int
    steps: int


@dataclass(frozen=True)
class Scored:
    """One validation case as callbacks see it.

    Args:
        label: "case_0001", or the case's own name where the run shows names.
        scores: by metric.
        picture: rows of source, prediction, target and error in three planes, `(rows, columns, 3)` uint8.
    """

    label: str
    scores: Mapping[str, float]
    picture: np.ndarray


class Callback:
    """Watches a run and changes nothing.

    An error that it raises ends the run, so that one may say when to stop.

    Attributes:
        watches_only: True where an error of its own shall cost nothing but itself: it becomes a warning, and the run
            goes on without it.
    """

    watches_only: ClassVar[bool] = False

    def on_start(self, run: RunInfo) -> None:
        """Called once before the first step."""

    def on_step(self, step: int, values: Mapping[str, Tensor]) -> None:
        """Called after each step (counted from 1) with scalars on their device; reading one waits for the device."""

    def on_validation(self, step: int, means: Mapping[str, float], cases: Sequence[Scored]) -> None:
        """Called after each validation."""

    def on_checkpoint(self, step: int, folder: Path) -> None:
        """Called after each checkpoint is on disk."""

    def on_end(self, step: int, error: BaseException | None) -> None:
        """Called once when training ends, with the error that ended it early."""


@dataclass(frozen=True)
class Ramp:
    """A number that goes from `start` to `end` in a straight line.

    Args:
        start: value up to step `delay`.
        end: value from step `delay + steps` on.
        steps: length of the ramp, in steps.
        delay: steps before the ramp begins.
        every: the value changes only at multiples of this many steps; `epoch` means `train.epoch_steps`.
    """

    start: float
    end: float
    steps: int
    delay: int = 0
    every: int | Literal["epoch"] = 1

    def at(self, step: int, epoch_steps: int = 1) -> float:
        """The value at `step`; the first step is 0."""
        every = epoch_steps if self.every == "epoch" else self.every
        elapsed = step // every * every - self.delay
        share = min(max(elapsed / self.steps, 0.0), 1.0)
        return self.start + (self.end - self.start) * share


def value_at(number: float | Ramp, step: int, epoch_steps: int = 1) -> float:
    """The value of a constant or a ramp at `step`."""
    return number.at(step, epoch_steps) if isinstance(number, Ramp) else number


@dataclass(frozen=True)
class WeightedLoss:
    """A loss with its weight in the generator's sum, a constant or a ramp over steps."""

    module: nn.Module
    weight: float | Ramp

    def weight_at(self, step: int, epoch_steps: int) -> float:
        """The weight at `step`; the first step is 0."""
        return value_at(self.weight, step, epoch_steps)


class OptimizerFactory(Protocol):
    """Makes the optimiser the config asks for."""

    def __call__(self, params: Iterator[nn.Parameter], role: str) -> Optimizer:
        """An optimiser over `params`; `role` is "generator" or "discriminator"."""


@dataclass(frozen=True)
class Parts:
    """What the engine hands to a method.

    Args:
        make_generator: `(in_channels, out_channels) -> module`.
        make_discriminator: `(source_channels, target_channels) -> module`, or None where the config has none.
        losses: by the name they have in the config.
        make_optimizer: `(params, role) -> optimizer`.
        learning_rate_factor: `(step, role) -> factor` of the schedule, 1 at constant rate.
        source_channels: channels of the source.
        target_channels: channels of the target.
        epoch_steps: steps an epoch, for ramps that change by the epoch.
        accumulate: chunks that a batch goes through the networks in, with the gradient of the whole batch.
        compiled: gives the generator as its training steps are to call it; None where the config compiles nothing.
    """

    make_generator: Callable[[int, int], nn.Module]
    make_discriminator: Callable[[int, int], nn.Module] | None
    losses: Mapping[str, WeightedLoss]
    make_optimizer: OptimizerFactory
    learning_rate_factor: Callable[[int, str], float]
    source_channels: int
    target_channels: int
    epoch_steps: int
    accumulate: int
    compiled: Callable[[nn.Module], nn.Module] | None = None


class Method(ABC):
    """How networks are trained.

    The loop owns steps, data, validation, checkpoints and signals; the method owns networks, optimisers, backward,
    clipping, averaging and schedules. Its options are keyword-only parameters after `parts`.

    Attributes:
        pairing: whether a patch's source and target come from one case or from different subjects.
    """

    pairing: Literal["paired", "unpaired"] = "paired"

    @abstractmethod
    def __init__(self, parts: Parts) -> None: ...

    @abstractmethod
    def networks(self) -> dict[str, nn.Module]:
        """The networks by name; each is saved as `<name>.safetensors`. Frozen loss networks are not among them."""

    @abstractmethod
    def setup(self, fabric: Fabric) -> None:
        """Hand networks and optimisers to Fabric, once, before training."""

    @abstractmethod
    def training_step(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Update the weights once; returns detached scalars without waiting for the device."""

    @abstractmethod
    def translate(self, source: Tensor) -> Tensor:
        """Level 0 for `source` `(b, c, i, j, k)`, by the weights meant for evaluation, in eval mode, in [0, 1]."""

    def conclude(self, blended: Tensor) -> Tensor:
        """A whole volume's target in [0, 1] from what `translate` gave of its windows, blended; itself by default.

        A method whose networks say how likely each answer is decides here, once for each voxel: answers, unlike
        likelihoods, cannot be averaged where windows overlap. It looks at each voxel alone: a volume larger than memory
        is given part by part.

        Args:
            blended: `(b, c, i, j, k)`, as many channels as `translate` gives.

        Returns:
            `(b, target channels, i, j, k)`.
        """
        return blended

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """All that resuming needs beside the networks' weights: tensors and plain Python values."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what `state_dict` gave."""


@dataclass(frozen=True)
class Surroundings:
    """What lies around a scored volume.

    Args:
        images: further images of the case by modality, `(i, j, k)` on the grid of the volume, intensities as stored;
            only those a metric asks for and the case has.
        retranslated: given a share of a window's side, the prediction made once more with all windows moved by that
            share; None where nothing can be translated again, as with predictions read from files.
    """

    images: Mapping[str, np.ndarray] = field(default_factory=dict)
    retranslated: Callable[[float], np.ndarray] | None = None


class DetailedMetric(Metric):
    """A metric with more columns than one, or one that looks at the surroundings of what it scores.

    Its own score has the column of any metric, the key in the config; each part has the column `<key>_<part>`. A score
    that is undefined, such as that of a label which a case lacks, is NaN, and is left out of means.

    Attributes:
        parts: the further columns, the name of each to its definition; they share unit and direction.
        images: modalities it wants beside prediction and target, interpolated onto their grid.
        label_maps: modalities whose voxels are numbers of classes, brought there by the nearest voxel.
    """

    parts: Mapping[str, str] = {}
    images: tuple[str, ...] = ()
    label_maps: tuple[str, ...] = ()

    @abstractmethod
    def scores(
        self,
        prediction: np.ndarray,
        target: np.ndarray,
        mask: np.ndarray | None,
        spacing_mm: Sequence[float],
        surroundings: Surroundings,
    ) -> Mapping[str, float]:
        """As a metric is called, with the surroundings; gives its own score under "" and each part's under its name."""

    def __call__(
        self, prediction: np.ndarray, target: np.ndarray, mask: np.ndarray | None, spacing_mm: Sequence[float]
    ) -> float:
        """Its own score without any surroundings."""
        return self.scores(prediction, target, mask, spacing_mm, Surroundings())[""]
