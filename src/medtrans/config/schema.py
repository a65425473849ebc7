"""The schema of a run: every key of a config with its type, default, unit and meaning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from medtrans.config.protocols import Protocol
from medtrans.plugins.interfaces import Ramp

if TYPE_CHECKING:
    from medtrans.volume import ReadingRules

__all__ = [
    "Arm",
    "ColumnSplit",
    "DownstreamSettings",
    "FaithfulnessSettings",
    "FileSplit",
    "FoldsSplit",
    "FractionsSplit",
    "InferenceSettings",
    "InitialiseSettings",
    "LossSlot",
    "PatchSettings",
    "PerRole",
    "PreprocessSettings",
    "ReadingSettings",
    "RunConfig",
    "Slot",
    "SplitSettings",
    "TrainSettings",
]


Triple: TypeAlias = tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]
SpacingMm: TypeAlias = tuple[
    Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]
]
Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]
Positive: TypeAlias = Annotated[int, Field(ge=1)]


class Settings(BaseModel):
    """Strict and frozen: an unknown key, a near type or a non-finite number is a fault."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


def _kind_of_number(value: Any) -> str:
    return "ramp" if isinstance(value, dict | Ramp) else "number"


Number: TypeAlias = Annotated[
    Annotated[float, Tag("number")] | Annotated[Ramp, Tag("ramp")], Discriminator(_kind_of_number)
]
"""A constant, or `{start, end, steps, delay: 0, every: 1}`: a ramp over training steps."""


class Slot(Settings):
    """A place that a component fills."""

    name: str
    """The component: a bare name is a built-in, every other is written `plugin:name`."""
    options: dict[str, Any] = {}
    """The component's own options; `medtrans show KIND NAME` lists them."""


class LossSlot(Slot):
    """A loss with its weight."""

    weight: Number = 1.0
    """Factor of the generator's term; the discriminator minimises the plain sum. May ramp."""


class FractionsSplit(Settings):
    """Split by subject at random."""

    by: Literal["fractions"] = "fractions"
    """How subjects are split."""
    train: Annotated[float, Field(gt=0, le=1)] = 0.6
    """Share of subjects to train on."""
    validation: Share = 0.2
    """Share of subjects that choose the best weights."""
    test: Share = 0.2
    """Share of subjects to score at the end."""

    @model_validator(mode="after")
    def _sum_to_one(self) -> FractionsSplit:
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"train, validation and test must add up to 1, found {total:g}")
        return self


class ColumnSplit(Settings):
    """Split as the dataset itself prescribes."""

    by: Literal["column"]
    """How subjects are split."""


class FoldsSplit(Settings):
    """Split by subject into folds: one to test, the next to validate, the others to train."""

    by: Literal["folds"]
    """How subjects are split."""
    folds: Annotated[int, Field(ge=3)] = 5
    """Number of folds."""
    fold: Annotated[int, Field(ge=0)] = 0
    """The fold to test, from 0."""

    @model_validator(mode="after")
    def _fold_exists(self) -> FoldsSplit:
        if self.fold >= self.folds:
            raise ValueError(f"fold must be below folds = {self.folds}, found {self.fold}")
        return self


class FileSplit(Settings):
    """Split as a file says."""

    by: Literal["file"]
    """How subjects are split."""
    path: str
    """CSV or JSON with the columns subject and split (train, validation or test)."""


def _kind_of_split(value: Any) -> str:
    by = value.get("by", "fractions") if isinstance(value, dict) else getattr(value, "by", "fractions")
    return by if isinstance(by, str) else "fractions"


SplitSettings: TypeAlias = Annotated[
    Annotated[FractionsSplit, Tag("fractions")]
    | Annotated[ColumnSplit, Tag("column")]
    | Annotated[FoldsSplit, Tag("folds")]
    | Annotated[FileSplit, Tag("file")],
    Discriminator(_kind_of_split),
]


class ReadingSettings(Settings):
    """How images are read that would otherwise be refused; each image that needs it becomes a warning of the run."""

    trust: Literal["sform", "qform"] | None = None
    """The NIfTI form that counts where sform and qform disagree or one cannot be used; null refuses such files."""
    accept_unknown_space: bool = False
    """Read files that name no space (NIfTI: both codes 0, placed by pixdim alone); false refuses them."""
    fill_not_finite: Annotated[float, Field(ge=-3.4e38, le=3.4e38)] | None = None
    """Physical value for NaN and infinite voxels (0 in mask and labels); null refuses such files."""

    @property
    def rules(self) -> ReadingRules:
        """The same for `medtrans.volume.read`."""
        from medtrans.volume import ReadingRules  # with it come libraries that a check of the text can do without

        return ReadingRules(self.trust, self.accept_unknown_space, self.fill_not_finite)


class PreprocessSettings(Settings):
    """What happens to a volume before a network sees it; all of it is undone on output."""

    spacing_mm: SpacingMm | None = None
    """Voxel size to resample to, in mm, RAS+ axis order; null keeps the source's own."""
    crop: Literal["foreground", "mask", "none"] = "foreground"
    """Box that is kept: around the source's foreground, around the mask, or everything."""
    intensity: dict[str, Slot] = {}
    """Scaling to [0, 1] of each modality, a transform component; every source and target needs one."""


class PatchSettings(Settings):
    """How training patches are cut."""

    size: Triple = (96, 96, 96)
    """Sides in voxels."""
    per_volume: Positive = 3
    """Patches cut from a volume before the next one's turn."""
    foreground: Share = 0.1
    """Share of foreground a patch's centre must see; 0 cuts anywhere."""


def _kind_of_roles(value: Any) -> str:
    keys = set(value) if isinstance(value, dict) else set()
    return "roles" if isinstance(value, PerRole) or keys & {"generator", "discriminator"} else "one"


class PerRole(Settings):
    """One slot for each role."""

    generator: Slot
    """For the generator's parameters."""
    discriminator: Slot
    """For the discriminator's parameters."""


SlotPerRole: TypeAlias = Annotated[
    Annotated[Slot, Tag("one")] | Annotated[PerRole, Tag("roles")], Discriminator(_kind_of_roles)
]


class InitialiseSettings(Settings):
    """Weights to begin with."""

    run: str
    """Folder of the run to copy from."""
    networks: tuple[str, ...] = ("generator",)
    """Networks to copy; tensors equal in name and shape are taken."""


class TrainSettings(Settings):
    """The training loop."""

    steps: Positive = 100_000
    """Updates in all."""
    epoch_steps: Positive | None = None
    """Steps called an epoch by schedules and ramps with `every: epoch`; null: one turn over the training patches."""
    batch: Positive = 3
    """Patches in a batch, on each device."""
    accumulate: Positive = 1
    """Batches that one update is made of, one after the other, with the gradient of one batch that is as many times as
    large. Batch normalisation alone sees each by itself, of which the run warns."""
    optimizer: SlotPerRole = Slot(name="adam", options={"lr": 1e-4})
    """adam, adamw or sgd; one for all or `{generator: ..., discriminator: ...}`."""
    schedule: SlotPerRole = Slot(name="constant")
    """Learning rate over steps: constant, linear, multistep or cosine; one for all or per role."""
    validate_every: Positive = 5000
    """Steps between validations on whole volumes; the last step validates too."""
    validation_cases: Positive | None = 5
    """Cases a validation translates, the first of the split; null: all."""
    checkpoint_every: Positive = 1000
    """Steps between checkpoints."""
    keep: Annotated[int, Field(ge=2)] = 2
    """Checkpoints kept on disk beside the best one."""
    best: str | None = "psnr"
    """Metric that chooses the best weights on the validation cases; null: the last weights count."""
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed", "64-true"] = "auto"
    """auto: bf16-mixed on GPUs that have it, else 32-true."""
    devices: Literal["auto"] | Positive = "auto"
    """Devices on each machine, each a process (rank); auto: as many as torchrun or Slurm started, else one GPU where
    there is one, else the CPU. Without GPUs the ranks share the machine's cores."""
    rank_timeout_s: Annotated[float, Field(gt=0)] = 1800.0
    """Seconds without a sign of life, or of waiting in a step, after which a lost rank ends the run on all."""
    workers: Annotated[int, Field(ge=0)] = 2
    """Processes that prepare patches, on each device."""
    memory: Literal["normal", "low"] = "normal"
    """low: keep only the inputs of a network's blocks for the backward pass and compute the rest again; the same
    gradients, less memory, more time. For networks that name their blocks, as all built-in ones do."""
    channels_last: Literal["auto"] | bool = "auto"
    """Keep the channels of 3D features beside each other in memory; auto: on CPUs in float32, for networks that say it
    pays (mdaunet, multires_unet)."""
    compile: Literal["default", "reduce-overhead"] | None = None
    """Compile the generator for training steps by torch.compile, in this mode (reduce-overhead: CUDA graphs); null does
    not. Takes minutes at the start."""
    initialise_from: InitialiseSettings | None = None
    """Take the first weights from another run."""

    @model_validator(mode="after")
    def _compiled_or_recomputed(self) -> TrainSettings:
        if self.memory == "low" and self.compile is not None:
            raise ValueError("memory: low cannot be compiled; set compile: null or memory: normal")
        return self


class InferenceSettings(Settings):
    """How whole volumes are translated."""

    window: Triple | None = None
    """Sides of the sliding window in voxels; null: what the generator asks for, else the patch."""
    overlap: Annotated[float, Field(ge=0, lt=1)] | None = 0.5
    """Share of a window that the next one covers again, along each axis; null: measured on the trained network, by how
    far a change of its source reaches, from 0.25 to 0.625."""
    blend: Literal["gaussian", "constant"] = "gaussian"
    """Weight of a voxel by its place in the window."""
    batch: Positive = 2
    """Windows translated at once; fewer where a GPU's memory is too small for as many. On a CPU two are up to twice as
    quick as one by one, and more are hardly quicker."""


class FaithfulnessSettings(Settings):
    """What is watched for in the test cases beside scores."""

    lesion_cases: Annotated[int, Field(ge=0)] = 3
    """Test cases that get the lesion test, each translated three or four times more; 0 leaves it out."""
    lesions: tuple[Positive, ...] = ()
    """Labels of true lesions, in the label maps of the test cases, which the test takes out of the source."""


Arm: TypeAlias = Literal["trtr", "tstr", "trts", "tsrtr"]
"""Train on real or synthetic images, test on real or synthetic ones; tsrtr trains on both."""


class DownstreamSettings(Settings):
    """What synthetic images are worth to a segmenter, after the run and by `medtrans downstream`."""

    labels: Annotated[dict[str, Annotated[tuple[Positive, ...], Field(min_length=1)]], Field(min_length=1)]
    """The labels of each class, by the class's name, such as `{whole_tumour: [1, 2, 4]}`; others are background."""
    image: str | None = None
    """The target that is assessed; null: the first."""
    arms: Annotated[tuple[Arm, ...], Field(min_length=1)] = ("trtr", "tstr", "trts", "tsrtr")
    """trtr: trained and tested on real images, the bound. tstr: trained on synthetic images with real labels, tested on
    real ones. trts: the reverse. tsrtr: trained on both, tested on real ones. trtr is always added."""
    seeds: Positive = 3
    """Segmenters trained for each arm."""
    protocol: Literal["disjoint", "mdaunet"] = "disjoint"
    """disjoint: translator, segmenters and test have subjects of their own. mdaunet: as the paper, segmenters train on
    the run's test subjects and are tested on those the translator was trained on, which the results then name."""
    train_share: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Share of the run's test subjects that segmenters train on; the others test them. Not used by mdaunet."""
    segmenter: dict[str, Any] = {}
    """What differs from the segmenter's default config: any of preprocess, patch, augment, generator, losses,
    callbacks, train and inference."""


class RunConfig(Settings):
    """A run: what is translated, from which data, by which method, and how it is judged."""

    output_dir: str
    """Folder the run leaves its results in."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of all randomness of the run."""
    names: bool = False
    """Show case names instead of case numbers in what is made to be shared (log, TensorBoard, report)."""
    dataset: Slot
    """Where the cases come from."""
    source: Annotated[tuple[str, ...], Field(min_length=1)]
    """Modalities to translate from; several become channels, on the first one's grid."""
    target: Annotated[tuple[str, ...], Field(min_length=1)]
    """Modalities to translate to."""
    split: SplitSettings = FractionsSplit()
    """Which subjects train, validate and test."""
    reading: ReadingSettings = ReadingSettings()
    """How images are read whose header or voxels leave a doubt."""
    preprocess: PreprocessSettings = PreprocessSettings()
    """What happens to a volume before a network sees it."""
    patch: PatchSettings = PatchSettings()
    """How training patches are cut."""
    augment: dict[str, Slot] = {}
    """Random changes of training patches, in order; none unless given, and never a left-right flip by default."""
    method: Slot = Slot(name="paired")
    """How the networks are trained."""
    generator: Slot = Slot(name="mdaunet")
    """The network that translates."""
    discriminator: Slot | None = Slot(name="multires_unet")
    """The network that judges; null trains without an adversary."""
    losses: Annotated[dict[str, LossSlot], Field(min_length=1)] = {
        "l1": LossSlot(name="l1", weight=1.0),
        "perceptual_25d": LossSlot(name="perceptual_25d", weight=1.0),
        "relativistic": LossSlot(name="relativistic", weight=1e-4),
    }
    """Losses by name; in a mapping of slots the component's name defaults to the key, and null takes an entry out."""
    metrics: dict[str, Slot] = {name: Slot(name=name) for name in ("psnr", "ssim", "nmse", "mae")}
    """Scores of whole volumes; a protocol other than native brings its own and takes these under other keys."""
    protocol: Protocol = "native"
    """The published way of scoring that is followed; native scores by `metrics` alone."""
    callbacks: dict[str, Slot] = {name: Slot(name=name) for name in ("tensorboard", "progress")}
    """Watchers of the run."""
    train: TrainSettings = TrainSettings()
    """The training loop."""
    inference: InferenceSettings = InferenceSettings()
    """How whole volumes are translated."""
    faithfulness: FaithfulnessSettings = FaithfulnessSettings()
    """What is watched for in the test cases beside scores."""
    downstream: DownstreamSettings | None = None
    """What synthetic images are worth to a segmenter; null assesses nothing."""
    versions: dict[str, str] = {}
    """Written by a run: the distributions whose components it used."""
