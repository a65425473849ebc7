"""The contract of losses, rule by rule."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from medtrans.testing.rules import Broken, NotTried, Rule, Verdict, expect_no_seeding
from medtrans.testing.trial import PATTERNS, SHARED_RULES, ComponentLike, Sides, Trial, check, pattern
from medtrans.testing.two_ranks import on_two_ranks
from medtrans.types import DiscriminatorOutput, LossInputs, pyramid

__all__ = ["LOSS_RULES", "LossTrial", "check_loss"]

_CLOSE = 1e-4
PHASES: tuple[Literal["generator", "discriminator"], ...] = ("generator", "discriminator")
_SCALES = 2  # logit maps of the discriminator that adversarial losses are tried with


@dataclass(frozen=True)
class LossTrial(Trial):
    """A loss under trial, with what `check_loss` sets."""

    kind: ClassVar[str] = "loss"

    patch_size: Sides = (16, 16, 16)
    levels: Sequence[int] = (1, 3)
    at_identity: float | Literal["unknown"] = 0.0
    symmetric: bool = False
    prediction_channels: int | None = None

    def loss(self, levels: int | None = None) -> nn.Module:
        """The loss, made for so many levels."""
        made: nn.Module = self.make(levels=levels or self.levels[0])
        if not isinstance(made, nn.Module):
            raise Broken(f"it makes {type(made).__name__}, expected a torch.nn.Module such as medtrans.Loss")
        return made

    def inputs(
        self,
        *,
        levels: int | None = None,
        sides: Sides | None = None,
        batch: int = 2,
        channels: int = 1,
        prediction: str = "noise",
        target: str = "noise",
        phase: Literal["generator", "discriminator"] = "generator",
        masked: bool = True,
    ) -> LossInputs:
        """What a training step would hand over, with a gradient to the prediction in phase "generator"."""
        sides, levels = sides or self.patch_size, levels or self.levels[0]
        guessed = pattern(prediction, batch, self.prediction_channels or channels, sides, seed=1)
        if phase == "generator":
            guessed.requires_grad_()
        inputs = LossInputs(
            source=pyramid(pattern("noise", batch, channels, sides, seed=3), levels),
            target=pyramid(pattern(target, batch, channels, sides, seed=2), levels),
            prediction=pyramid(guessed, levels),
            mask=torch.ones(batch, 1, *sides) if masked else None,
            real=None,
            fake=None,
            step=0,
            phase=phase,
        )
        return discriminated(inputs)


def discriminated(inputs: LossInputs) -> LossInputs:
    """The inputs with what a small fixed discriminator says of target and prediction, as training joins them."""
    with torch.set_grad_enabled(inputs.phase == "discriminator"):
        real = opinion(inputs.target[0])
    fake = opinion(inputs.prediction[0])
    if inputs.phase == "discriminator":
        for output in (real, fake):
            for logit in output.logits:
                logit.requires_grad_()
    return replace(inputs, real=real, fake=fake)


def opinion(image: Tensor) -> DiscriminatorOutput:
    """Logits and features at two scales that depend on every voxel."""
    levels = [level.mean(dim=1, keepdim=True) for level in pyramid(image, _SCALES)]
    return DiscriminatorOutput(
        tuple(2 * level - 0.5 for level in levels), tuple((level.square(), level + 0.1) for level in levels)
    )


def undecided(inputs: LossInputs) -> LossInputs:
    """The inputs with a discriminator that cannot tell target and prediction apart: logits of 0."""
    real, fake = (
        DiscriminatorOutput(tuple(logit * 0 for logit in output.logits), output.features)
        for output in (opinion(inputs.target[0]), opinion(inputs.prediction[0]))
    )
    return replace(inputs, real=real.detach(), fake=fake)


def gives_a_finite_scalar(trial: LossTrial) -> None:
    """For one and several levels, channels, cases, odd sides, with mask and without."""
    first, second, third = trial.patch_size
    for levels in trial.levels:
        loss = trial.loss(levels)
        tried: list[dict[str, Any]] = [{}, {"batch": 1}, {"channels": 2}]
        tried += [{"sides": (first, second + 3, third + 1)}]
        tried += [] if trial.options.get("masked", False) else [{"masked": False}]
        for settings in tried:
            value = loss(trial.inputs(levels=levels, **settings))
            _expect_scalar(value, f"with {levels} levels{f' and {settings}' if settings else ''}")


def leads_a_gradient_to_the_prediction(trial: LossTrial) -> None:
    """Else the generator learns nothing from it."""
    for levels in trial.levels:
        inputs = trial.inputs(levels=levels)
        reached = _gradients(trial.loss(levels)(inputs), inputs.prediction)
        if not any(one is not None and bool(one.any()) for one in reached):
            raise Broken("no gradient leads to the prediction; look for a detach(), no_grad() or a comparison")
        if not _finite(reached):
            raise Broken("its gradient is not finite on noise in [0, 1]")


def leads_no_gradient_to_the_target(trial: LossTrial) -> None:
    """Target and source are what they are."""
    inputs = trial.inputs()
    fixed = {
        "target": tuple(level.clone().requires_grad_() for level in inputs.target),
        "source": tuple(level.clone().requires_grad_() for level in inputs.source),
    }
    watched = replace(inputs, target=fixed["target"], source=fixed["source"])
    value = trial.loss()(watched)
    if not value.requires_grad:
        return
    value.backward()
    for name, levels in fixed.items():
        if name == "source" and any(level.grad is not None for level in levels):
            continue  # a loss may compare with the source; nothing upstream of it is trained
        if any(level.grad is not None and bool(level.grad.any()) for level in levels):
            raise Broken(f"a gradient leads to the {name}; use `inputs.{name}[level].detach()`")


def is_what_it_should_be_at_identity(trial: LossTrial) -> None:
    """0, or the value its author knows, and nowhere less."""
    if trial.at_identity == "unknown":
        raise NotTried("its author knows no value at identity")
    for levels in trial.levels:
        loss, inputs = trial.loss(levels), trial.inputs(levels=levels)
        same = undecided(replace(inputs, prediction=tuple(level.clone().requires_grad_() for level in inputs.target)))
        value = loss(same)
        if not math.isclose(float(value), float(trial.at_identity), rel_tol=1e-3, abs_tol=1e-5):
            raise Broken(
                f"where prediction and target are equal it is {float(value):.6g}, expected "
                f"{trial.at_identity:g}; say what it is with `at_identity`"
            )
        reached = _gradients(value, same.prediction)
        if not _finite(reached):
            raise Broken("its gradient is not finite where prediction and target are equal; mind roots at 0")


def is_symmetric_where_claimed(trial: LossTrial) -> None:
    """Prediction and target in each other's place."""
    if not trial.symmetric:
        raise NotTried("its author does not claim it")
    loss, inputs = trial.loss(), trial.inputs()
    swapped = discriminated(
        replace(inputs, prediction=inputs.target, target=tuple(one.detach() for one in inputs.prediction))
    )
    there, back = float(loss(inputs)), float(loss(swapped))
    if not math.isclose(there, back, rel_tol=_CLOSE, abs_tol=_CLOSE):
        raise Broken(f"it is {there:.6g} one way and {back:.6g} the other; do not claim `symmetric`, or mend it")


def is_finite_on_extremes(trial: LossTrial) -> None:
    """Constants and steps against each other, with their gradients."""
    loss = trial.loss()
    for one, other in [(one, other) for one in PATTERNS for other in ("zeros", "ones", "step")]:
        inputs = trial.inputs(prediction=one, target=other)
        value = loss(inputs)
        if not bool(torch.isfinite(value)):
            raise Broken(f"it is {float(value)} for {PATTERNS[one]} against {PATTERNS[other]}")
        reached = _gradients(value, inputs.prediction)
        if not _finite(reached):
            raise Broken(f"its gradient is not finite for {PATTERNS[one]} against {PATTERNS[other]}")


def trains_the_discriminator(trial: LossTrial) -> None:
    """The discriminator's term, where there is one."""
    loss, inputs = trial.loss(), trial.inputs(phase="discriminator")
    own = getattr(loss, "discriminator_loss", None)
    value = None if own is None else own(inputs)
    if value is None:
        raise NotTried("it has no term for the discriminator")
    _expect_scalar(value, "in phase discriminator")
    if not getattr(loss, "adversarial", False):
        raise Broken(
            "it has a discriminator_loss but is not `adversarial`; set `adversarial = True`, so that a "
            "config without a discriminator is refused"
        )
    if not value.requires_grad:
        raise Broken("its discriminator_loss carries no gradient; look for a detach() or no_grad()")
    outputs = [output for output in (inputs.real, inputs.fake) if output is not None]
    reached = [torch.autograd.grad(value, output.logits, retain_graph=True, allow_unused=True) for output in outputs]
    if not all(any(grad is not None and bool(grad.any()) for grad in grads) for grads in reached):
        raise Broken("its discriminator_loss leads no gradient to the logits of target and prediction")


def says_when_it_needs_a_discriminator(trial: LossTrial) -> None:
    """A loss that is not adversarial works without one."""
    loss = trial.loss()
    if getattr(loss, "adversarial", False):
        raise NotTried("it is adversarial")
    try:
        loss(replace(trial.inputs(), real=None, fake=None))
    except Exception as error:
        raise Broken(
            f"it fails without a discriminator ({error}); set `adversarial = True`, so that such a config is refused"
        ) from error


def averages_cases_where_it_says_so(trial: LossTrial) -> None:
    """Else `train.accumulate` would train on something else than the whole batch."""
    loss, mask = trial.loss(), uneven_halves(trial.patch_size)
    stated = getattr(loss, "averages_cases", None)
    for valid in (None, mask):
        for phase in PHASES if stated is not None and stated(valid) else ():
            term = loss if phase == "generator" else getattr(loss, "discriminator_loss", None)
            inputs = trial.inputs(phase=phase)
            # A paler second case: what looks at the batch as one would show.
            shares = torch.tensor([1.0, 0.3]).view(2, 1, 1, 1, 1)
            pale = replace(inputs, prediction=tuple(level * shares for level in inputs.prediction))
            inputs = replace(discriminated(pale), mask=mask, valid=valid)
            if term is None or (value := term(inputs)) is None:
                continue
            first, second = (float(term(only(inputs, case))) for case in range(2))
            if not math.isclose(float(value), (first + second) / 2, rel_tol=_CLOSE, abs_tol=1e-6):
                raise Broken(
                    f"it says that it is a mean over cases, but two give {float(value):.6g} and one by one "
                    f"{first:.6g} and {second:.6g}; let `averages_cases` give False"
                )


def uneven_halves(sides: Sides) -> Tensor:
    """A mask of two cases, of which the first has more voxels."""
    mask = torch.ones(2, 1, *sides)
    mask[1, :, : sides[0] // 2] = 0
    return mask


def only(inputs: LossInputs, case: int) -> LossInputs:
    """One case of a batch."""

    def cut(found: Any) -> Any:
        if found is None or isinstance(found, Tensor):
            return None if found is None else found[case : case + 1]
        parts = [cut(one) for one in found]
        return DiscriminatorOutput(*parts) if isinstance(found, DiscriminatorOutput) else tuple(parts)

    names = ("source", "target", "prediction", "mask", "real", "fake", "valid")
    return replace(inputs, **{name: cut(getattr(inputs, name)) for name in names})


def has_nothing_to_train(trial: LossTrial) -> None:
    """No optimiser ever sees a loss, and no checkpoint keeps it."""
    trained = [name for name, one in trial.loss().named_parameters() if one.requires_grad]
    if trained:
        raise Broken(
            f"it has trainable parameters ({', '.join(trained[:3])}), which nobody trains or saves; freeze them"
        )


def computes_alike(trial: LossTrial) -> None:
    """The same inputs and step, the same value; whatever is drawn follows the seed or the step."""
    values = []
    for _ in range(2):
        torch.manual_seed(5)
        values.append(float(trial.loss()(trial.inputs())))
    if values[0] != values[1]:
        raise Broken(f"the same inputs give {values[0]!r} and then {values[1]!r} under one seed")


def leaves_random_states_alone(trial: LossTrial) -> None:
    """Nobody seeds, and nothing but torch's generator is drawn from."""
    expect_no_seeding(lambda: trial.loss()(trial.inputs()))


def leaves_its_input_alone(trial: LossTrial) -> None:
    """No operation in place on what it is given."""
    inputs = replace(trial.inputs(), prediction=trial.inputs(phase="discriminator").prediction)
    given = {"source": inputs.source, "target": inputs.target, "prediction": inputs.prediction}
    before = {name: [level.clone() for level in levels] for name, levels in given.items()}
    trial.loss()(inputs)
    for name, levels in given.items():
        if any(not torch.equal(one, other) for one, other in zip(levels, before[name], strict=True)):
            raise Broken(f"it changes the {name} in place, which other losses still read")


def works_under_bfloat16(trial: LossTrial) -> None:
    """Autocast does not change its value by more than the precision."""
    exact = float(trial.loss()(trial.inputs()))
    inputs = trial.inputs()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = trial.loss()(inputs)
    if not bool(torch.isfinite(value)) or abs(float(value) - exact) > 0.05 * abs(exact) + 1e-3:
        raise Broken(
            f"under bfloat16 autocast it is {float(value):.6g}, in float32 {exact:.6g}; compute sums in float32"
        )
    if inputs.prediction[0].requires_grad:
        _gradients(value, inputs.prediction)


def means_the_same_on_two_ranks(trial: LossTrial) -> None:
    """Half of the batch on each rank, the ranks' gradients averaged: what one rank with the whole batch has."""
    adversarial = bool(getattr(trial.loss(), "adversarial", False))
    halves = on_two_ranks(trial, _gradient_of_half)
    for phase in ("generator", *(("discriminator",) if adversarial else ())):
        whole = _gradient(trial, phase, slice(0, 2))
        found = [(one + other) / 2 for one, other in zip(halves[0][phase], halves[1][phase], strict=True)]
        scale = max(max(map(abs, whole)), 1e-6)
        if any(abs(one - other) > 1e-3 * scale for one, other in zip(found, whole, strict=True)):
            raise Broken(
                f"in phase {phase} two ranks with half a batch each train differently from one with the whole "
                "batch; take means over the batch by medtrans.types.batch_mean"
            )


def _gradient_of_half(trial: LossTrial, rank: int) -> dict[str, list[float]]:
    return {phase: _gradient(trial, phase, slice(rank, rank + 1)) for phase in ("generator", "discriminator")}


def _gradient(trial: LossTrial, phase: str, part: slice) -> list[float]:
    """The gradient of a weight at each 4096th of the patch that prediction or logits are multiplied by."""
    loss, inputs = trial.loss(), trial.inputs()
    scale = torch.ones(trial.patch_size, requires_grad=True)
    shift = torch.zeros(1, requires_grad=True)
    guessed = (inputs.prediction[0].detach() * scale + shift)[part]
    mask = torch.zeros(2, 1, *trial.patch_size)
    mask[0] = 1.0  # unlike shares of mask, which a mean on each rank alone would weigh alike
    mask[1, :, : trial.patch_size[0] // 3 + 1] = 1.0
    levels = len(inputs.prediction)
    here = replace(
        inputs,
        source=tuple(level[part] for level in inputs.source),
        target=tuple(level[part] for level in inputs.target),
        prediction=pyramid(guessed if phase == "generator" else guessed.detach(), levels),
        mask=mask[part],
        phase="generator" if phase == "generator" else "discriminator",
    )
    if phase == "generator":
        value = loss(discriminated(here))
    else:
        own = getattr(loss, "discriminator_loss", None)
        fake, real = opinion(guessed), opinion(here.target[0] * scale + shift)
        value = None if own is None else own(replace(here, real=real, fake=fake))
    if value is None or not value.requires_grad:
        return [0.0]
    value.backward()
    grads = torch.cat([one.grad.flatten() for one in (scale, shift) if one.grad is not None])
    return [float(number) for number in grads[:: max(1, len(grads) // 500)]]


LOSS_RULES: tuple[Rule[LossTrial], ...] = (
    *SHARED_RULES,
    Rule("gives a finite scalar", gives_a_finite_scalar),
    Rule("leads a gradient to the prediction", leads_a_gradient_to_the_prediction),
    Rule("leads no gradient to the target", leads_no_gradient_to_the_target),
    Rule("is what it should be at identity", is_what_it_should_be_at_identity),
    Rule("is symmetric where claimed", is_symmetric_where_claimed),
    Rule("is finite on constant and extreme input", is_finite_on_extremes),
    Rule("trains the discriminator", trains_the_discriminator),
    Rule("says when it needs a discriminator", says_when_it_needs_a_discriminator),
    Rule("averages cases where it says so", averages_cases_where_it_says_so),
    Rule("has nothing to train", has_nothing_to_train),
    Rule("computes alike under one seed", computes_alike),
    Rule("leaves global random states alone", leaves_random_states_alone),
    Rule("leaves its input as it was", leaves_its_input_alone),
    Rule("works under bfloat16 autocast", works_under_bfloat16),
    Rule("means the same on two ranks", means_the_same_on_two_ranks),
)


def check_loss(
    component: ComponentLike,
    *,
    options: Mapping[str, Any] | None = None,
    patch_size: Sides | None = None,
    levels: Sequence[int] | None = None,
    at_identity: float | Literal["unknown"] | None = None,
    symmetric: bool | None = None,
    prediction_channels: int | None = None,
    excused: Mapping[str, str] | None = None,
) -> tuple[Verdict, ...]:
    """Try a loss against its contract, with a verdict on each rule; its own `trial` gives settings left out.

    Args:
        component: a `Component`, the class itself, or a name as a config writes it.
        options: as a config gives them.
        patch_size: sides of the patch in voxels; 16 each if not given.
        levels: numbers of levels of a prediction it must work with; 1 and 3 if not given.
        at_identity: its value where prediction and target are equal and a discriminator of two scales gives logits of
            0; 0 if not given, "unknown" where there is none.
        symmetric: whether prediction and target may change places; not claimed if not given.
        prediction_channels: of a prediction with other channels than its target, such as scores of classes; the
            target's if not given.
        excused: rules that need not hold, each with the reason.

    Raises:
        ConformanceError: lists every rule that is broken, with what to do.
        ConfigError: there is no such component, setting or rule.
    """
    given = {
        "options": options,
        "patch_size": patch_size,
        "levels": levels,
        "at_identity": at_identity,
        "symmetric": symmetric,
        "prediction_channels": prediction_channels,
        "excused": excused,
    }
    return check(LossTrial, LOSS_RULES, component, given)


def _expect_scalar(value: Any, where: str) -> None:
    if not isinstance(value, Tensor) or value.shape != ():
        found = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise Broken(f"{where} it gives {found}, expected a scalar tensor")
    if not bool(torch.isfinite(value)):
        raise Broken(f"{where} it gives {float(value)}")


def _finite(gradients: Sequence[Tensor | None]) -> bool:
    return all(one is None or bool(torch.isfinite(one).all()) for one in gradients)


def _gradients(value: Tensor, inputs: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
    if not value.requires_grad:
        return ()
    return torch.autograd.grad(value, inputs, allow_unused=True)
