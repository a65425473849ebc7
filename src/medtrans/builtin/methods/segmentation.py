"""Training of a network that names the class of each voxel."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from medtrans import ConfigError, PairedMethod, Parts
from medtrans.types import Batch

__all__ = ["SegmentationMethod"]

_SURE = 30.0  # of a logit: the likelihood of any other class is below what float32 can tell
_BOUNDED = (nn.Sigmoid, nn.Tanh, nn.Softmax, nn.Hardsigmoid, nn.Hardtanh, nn.ReLU, nn.ReLU6)


class SegmentationMethod(PairedMethod):
    """Any generator as a segmenter: one output for the background and one for each class, of which the largest counts.

    The target is a label map scaled by `labels`. The losses, such as `soft_dice` and `cross_entropy`, see the outputs
    as they are (logits). In a whole volume the probabilities of overlapping windows are blended, and each voxel is
    decided once.

    Args:
        parts: what the engine hands over.
        classes: how many there are beside the background.
        clip_norm: gradients are scaled down to this norm; null does not clip.
        ema: share that the running average of the weights keeps at each step; null uses the weights themselves.

    Raises:
        ConfigError: the config has a discriminator, or the generator bounds its output.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        classes: Annotated[int, Field(ge=1)],
        clip_norm: Annotated[float, Field(gt=0)] | None = None,
        ema: Annotated[float, Field(gt=0, lt=1)] | None = None,
    ) -> None:
        faults = []
        if parts.make_discriminator is not None:
            faults.append("segmentation: has no use for a discriminator; write discriminator: null")
        if parts.target_channels != 1:
            faults.append(f"segmentation: expected one target, a label map, found {parts.target_channels}")
        if faults:
            raise ConfigError(*faults)
        super().__init__(replace(parts, target_channels=1 + classes), clip_norm=clip_norm, ema=ema)
        self.classes = classes
        last = [module for module in self.generator.bare.modules() if not any(module.children())][-1]
        if isinstance(last, _BOUNDED):
            raise ConfigError(
                f"segmentation: the generator ends in {type(last).__name__}, which bounds its output; a segmenter "
                "needs free ones: take another generator, or set its option for the output"
            )

    def known(self, chunk: Batch) -> Tensor:
        """Logits that are sure of the target's class."""
        classes = (chunk.target[:, 0] * self.classes).round().long()
        return _SURE * functional.one_hot(classes, 1 + self.classes).movedim(-1, 1).float()

    def translate(self, source: Tensor) -> Tensor:
        """The probability of the background and of each class, `(b, 1 + classes, i, j, k)`."""
        return self.evaluated(source).softmax(1)

    def conclude(self, blended: Tensor) -> Tensor:
        """The most likely class of each voxel, class n of N at n / N, `(b, 1, i, j, k)`."""
        return blended.argmax(1, keepdim=True).float() / self.classes
