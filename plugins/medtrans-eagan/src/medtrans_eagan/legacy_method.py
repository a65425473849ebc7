"""Training as the published code of Ea-GAN does it, where the image pool keeps the gradient from the generator."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field
from torch import Tensor

from medtrans import ConfigError, PairedMethod, Parts
from medtrans.types import DiscriminatorOutput, LossInputs, Pyramid, pyramid

__all__ = ["LegacyMethod"]

_REAL, _GENERATOR = 2**40, 2**41  # far from the draws that `PairedMethod` makes for the discriminator's fresh images


class LegacyMethod(PairedMethod):
    """Training on pairs with the image pool as the published code of dEa-GAN has it; to compare with, not to use.

    There all that the discriminator sees goes through one pool: generated images, real ones, and those by which the
    generator is to learn. The pool hands out copies without graph, so that the adversarial term has no gradient for
    the generator, and it mixes real and generated images, so that some are judged under the other's label. With
    `legacy_pool: false` this is the built-in `paired`: the pool shows older predictions to the discriminator alone.

    Source: by-lab/Ea-GANs, the authors' code, as described in the package's README.

    Args:
        parts: what the engine hands over.
        pool_size: images the pool holds; 4 as published.
        legacy_pool: send everything through the pool.

    Raises:
        ConfigError: `legacy_pool` with an empty pool, without a discriminator, or without a loss that could train the
            generator.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        pool_size: Annotated[int, Field(ge=0)] = 4,
        legacy_pool: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(parts, pool_size=pool_size, **options)
        self.legacy_pool = legacy_pool
        if legacy_pool:
            self._refuse_what_cannot_train(pool_size)

    def generator_losses(self, inputs: LossInputs) -> dict[str, Tensor]:
        """The generator's terms; with `legacy_pool` the discriminator judges what the pool gives out."""
        if self.legacy_pool:
            inputs = replace(inputs, fake=self.judged_from_pool(inputs.prediction, inputs, _GENERATOR))
        return super().generator_losses(inputs)

    def discriminator_losses(self, inputs: LossInputs) -> dict[str, Tensor]:
        """The discriminator's terms; with `legacy_pool` real images come from the pool too."""
        if self.legacy_pool:
            inputs = replace(inputs, real=self.judged_from_pool(inputs.target, inputs, _REAL))
        return super().discriminator_losses(inputs)

    def judged_from_pool(self, images: Pyramid, inputs: LossInputs, stream: int) -> DiscriminatorOutput | None:
        """What the discriminator says of that which the pool gives for `images`, each beside its own source."""
        if self.discriminator is None:
            return None
        fresh = (*(level.detach() for level in images), inputs.source[0])
        *shown, source = self.pool.exchange(fresh, stream + inputs.step)
        output: DiscriminatorOutput = self.discriminator.network(tuple(shown), pyramid(source, len(shown)))
        return output

    def _refuse_what_cannot_train(self, pool_size: int) -> None:
        faults = []
        if pool_size == 0:
            faults.append("legacy_pool: true needs a pool: set pool_size to 4, or legacy_pool to false")
        if self.discriminator is None:
            faults.append("legacy_pool: true needs a discriminator; set `discriminator`, or legacy_pool to false")
        losses = [loss.module for loss in self.parts.losses.values()]
        if losses and all(getattr(loss, "adversarial", False) for loss in losses):  # a method that translates has none
            faults.append(
                "legacy_pool: true leaves the adversarial losses without gradient for the generator, and the run has "
                "no other loss; add one such as l1, or set legacy_pool to false"
            )
        if faults:
            raise ConfigError(*faults)
