"""The guard against numbers that are not finite: it names them, and waits for the device only now and then."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from medtrans.errors import TrainingError
from medtrans.types import Batch

__all__ = ["LOG_INTERVAL", "NanGuard"]


LOG_INTERVAL = 10
"""Steps between looks at the numbers, each of which waits for the device."""

_KEPT = "the last checkpoint is as it was"
_REMEDY = "Lower the learning rate, set method.options.clip_norm, or look at these cases"


@dataclass(frozen=True)
class _Reading:
    """A number, or one for each case, of which it is asked whether it is finite."""

    step: int
    name: str
    cases: tuple[int, ...]
    finite: Tensor


class NanGuard:
    """Looks at inputs, scalars and weights.

    Args:
        networks: whose weights are looked at.
    """

    def __init__(self, networks: Mapping[str, nn.Module]) -> None:
        self._networks = networks
        self._readings: list[_Reading] = []
        self._newest: Mapping[str, Tensor] = {}

    def update(self, step: int, values: Mapping[str, Tensor], batch: Batch) -> None:
        """Take a look at what a step got and gave; every so often wait for the answers, as `check`."""
        for name, image in (("source", batch.source), ("target", batch.target)):
            self._readings.append(_Reading(step, name, batch.cases, torch.isfinite(image).flatten(1).all(dim=1)))
        for name, value in values.items():
            self._readings.append(_Reading(step, name, batch.cases, torch.isfinite(value.detach()).all().reshape(1)))
        self._newest = values
        if step % LOG_INTERVAL == 0:
            self.check(step)

    def newest(self) -> dict[str, float]:
        """The newest scalars as plain numbers."""
        return {name: float(value) for name, value in self._newest.items()}

    def check(self, step: int) -> None:
        """Raise if an input, scalar or weight up to `step` is not finite.

        Raises:
            TrainingError: names the first, its step, the cases, and the weights that are broken by now.
        """
        seen, self._readings = self._readings, []
        broken = _broken_weights(self._networks)
        for one, flags in zip(seen, _answers([one.finite for one in seen]), strict=True):
            if not all(flags):
                raise TrainingError(_fault(one, flags, broken))
        if broken:
            raise TrainingError(
                f"step {step}: {_listed(broken)}; {_KEPT}. Lower the learning rate or set method.options.clip_norm, "
                "and --resume"
            )


def _fault(one: _Reading, flags: Sequence[bool], broken: Sequence[str]) -> str:
    one_by_one = len(flags) == len(one.cases) and one.name in ("source", "target")
    cases = [case for case, fine in zip(one.cases, flags, strict=True) if not fine] if one_by_one else one.cases
    numbers = ", ".join(f"case_{case:04d}" for case in dict.fromkeys(cases))
    also = f" ({_listed(broken)})" if broken else ""
    if one_by_one:
        return (
            f"step {one.step}: the {one.name} is not finite, in patches of {numbers}{also}; {_KEPT}. Look at these "
            "cases and at the augmentations"
        )
    return f"step {one.step}: {one.name} is not finite, on patches of {numbers}{also}; {_KEPT}. {_REMEDY}"


def _listed(broken: Sequence[str]) -> str:
    return f"{len(broken)} weight tensors are not finite, first {broken[0]}"


def _broken_weights(networks: Mapping[str, nn.Module]) -> list[str]:
    named = [
        (f"{network}.{name}", tensor)
        for network, module in networks.items()
        for name, tensor in module.state_dict().items()
        if tensor.is_floating_point()
    ]
    answers = _answers([torch.isfinite(tensor).all().reshape(1) for _, tensor in named])
    return [name for (name, _), (fine,) in zip(named, answers, strict=True) if not fine]


def _answers(flags: Sequence[Tensor]) -> list[list[bool]]:
    """The flags on the host, waiting for each device once."""
    places: dict[torch.device, list[int]] = {}
    for index, flag in enumerate(flags):
        places.setdefault(flag.device, []).append(index)
    answers: list[list[bool]] = [[] for _ in flags]
    for indices in places.values():
        plain = iter(torch.cat([flags[index] for index in indices]).tolist())
        for index in indices:
            answers[index] = [bool(next(plain)) for _ in range(len(flags[index]))]
    return answers
