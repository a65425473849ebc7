"""How networks of any kind are tried, and the rules that generators and discriminators share."""

from __future__ import annotations

import copy
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from medtrans.runs import checkpoint
from medtrans.testing.rules import Broken, Rule, expect_no_seeding, leaving_states
from medtrans.testing.trial import PATTERNS, Sides, Trial
from medtrans.testing.two_ranks import on_two_ranks
from medtrans.utils.messages import listed

__all__ = ["NETWORK_RULES", "Channels", "NetworkTrial", "total"]

Channels: TypeAlias = tuple[int, int]


@dataclass(frozen=True)
class NetworkTrial(Trial, ABC):
    """A network under trial; most rules use the first pair of channels."""

    patch_size: Sides | None = None
    channels: Sequence[Channels] = ((1, 1), (2, 3))
    unused: Sequence[str] = ()

    @abstractmethod
    def network(self, channels: Channels | None = None, sides: Sides | None = None) -> nn.Module:
        """The network, made for these channels and this patch, from the global random state."""

    @abstractmethod
    def arguments(self, sides: Sides, channels: Channels | None = None, batch: int = 2, fill: str = "noise") -> Any:
        """What `forward` takes, as a tuple; noise differs between the cases of a batch."""

    @abstractmethod
    def tensors(self, output: Any) -> tuple[Tensor, ...]:
        """The tensors of an output that training compares with something, finest first.

        Raises:
            Broken: the output is none that the contract knows.
        """

    @abstractmethod
    def ddp_loss(self, network: nn.Module) -> Tensor:
        """What one rank minimises in a step on random images."""

    @cached_property
    def sides(self) -> Sides:
        """Sides of the patch that the network is tried on."""
        return self.patch_size or (16, 16, 16)

    def seeded(self, seed: int = 0, channels: Channels | None = None, sides: Sides | None = None) -> nn.Module:
        """The network made under a seed."""
        torch.manual_seed(seed)
        network = self.network(channels, sides or self.sides)
        if not isinstance(network, nn.Module):
            raise Broken(f"it makes {type(network).__name__}, expected a torch.nn.Module")
        return network

    def output(self, network: nn.Module, sides: Sides, **settings: Any) -> tuple[Tensor, ...]:
        """What the network gives for `arguments`."""
        return self.tensors(network(*self.arguments(sides, **settings)))


def total(tensors: Sequence[Tensor]) -> Tensor:
    """A scalar that depends on every voxel, and on none in the same way as on another."""
    summed = tensors[0].new_zeros(())
    for tensor in tensors:
        wave = torch.linspace(0.5, 1.5, tensor.numel()).view_as(tensor)
        summed = summed + ((tensor - 0.3).square() * wave).mean() + (tensor * wave).mean()
    return summed


_TOLERANCE = 1e-4


def made_alike_under_a_seed(trial: NetworkTrial) -> None:
    """The same seed, the same weights; another seed leaves another state behind."""
    first, second = trial.seeded(7).state_dict(), trial.seeded(7).state_dict()
    different = [name for name, value in first.items() if not _same(value, second[name])]
    if different:
        raise Broken(
            f"{different[0]} differs between two networks made under one seed; draw from torch's generator only"
        )


def computes_alike_under_a_seed(trial: NetworkTrial) -> None:
    """Training mode repeats under a seed, evaluation mode without one."""
    network, given = trial.seeded(), trial.arguments(trial.sides)
    for mode in ("training", "evaluation"):
        network.train(mode == "training")
        found = []
        for _ in range(2):
            copied = copy.deepcopy(network)
            if mode == "training":
                torch.manual_seed(3)
            with torch.no_grad():
                found.append(trial.tensors(copied(*given)))
        if any(not torch.equal(one, other) for one, other in zip(*found, strict=True)):
            under = "under one seed" if mode == "training" else "although nothing may be random there"
            advice = "draw from torch's generator, and only in training mode"
            raise Broken(f"two forward passes in {mode} mode differ {under}; {advice}")


def leaves_random_states_alone(trial: NetworkTrial) -> None:
    """Nobody seeds, and nothing but torch's generator is drawn from."""
    expect_no_seeding(lambda: trial.output(trial.network(None, trial.sides).train(), trial.sides))
    network = trial.seeded().eval()
    with torch.no_grad(), leaving_states("calling it in evaluation mode"):
        trial.output(network, trial.sides)


def takes_a_batch_of_one(trial: NetworkTrial) -> None:
    """One case at a time, in both modes."""
    network = trial.seeded()
    for training in (True, False):
        trial.output(network.train(training), trial.sides, batch=1)


def reaches_every_parameter(trial: NetworkTrial) -> None:
    """A gradient for whatever is trained; a few steps, since weights that start at 0 hold up the first gradient."""
    network = trial.seeded().train()
    trained = {name: one for name, one in network.named_parameters() if one.requires_grad}
    if not trained:
        raise Broken("it has no trainable parameter, and a method has nothing to train")
    reached: set[str] = set()
    for step in range(3):
        network.zero_grad(set_to_none=True)
        torch.manual_seed(step)
        total(trial.output(network, trial.sides)).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        for name, parameter in trained.items():
            if parameter.grad is None:
                continue
            if not bool(torch.isfinite(parameter.grad).all()):
                raise Broken(f"the gradient of {name} is not finite on noise in [0, 1]")
            if bool(parameter.grad.any()):
                reached.add(name)
                parameter.data.add_(parameter.grad, alpha=-1e-3 / max(1.0, float(parameter.grad.norm())))
    missing = trained.keys() - reached
    surprising = sorted(name for name in missing if not any(fnmatchcase(name, one) for one in trial.unused))
    if surprising:
        raise Broken(
            f"no gradient reaches {listed(surprising)}; remove what is not used, freeze it (requires_grad_(False)), or "
            "name it in `unused`"
        )
    idle = [one for one in trial.unused if not any(fnmatchcase(name, one) for name in missing)]
    if idle:
        raise Broken(f"`unused` names {', '.join(idle)}, but no such parameter is without gradient; take it out")


def works_in_bfloat16(trial: NetworkTrial) -> None:
    """Autocast, forward and back, near what float32 gives."""
    network, given = trial.seeded().train(), trial.arguments(trial.sides)
    torch.manual_seed(0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = trial.tensors(copy.deepcopy(network)(*given))
        value = total([one.float() for one in found])
    value.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    if not all(bool(torch.isfinite(one).all()) for one in found):
        raise Broken("its output under bfloat16 autocast is not finite")
    torch.manual_seed(0)
    with torch.no_grad():
        exact = trial.tensors(network(*given))
    for one, other in zip(found, exact, strict=True):
        scale = max(float(other.abs().max()), 1e-3)
        if float((one.float() - other).abs().mean()) > 0.2 * scale:
            raise Broken(
                "its output under bfloat16 autocast is far from that in float32; compute the sensitive part "
                "with `torch.autocast(..., enabled=False)`"
            )


def survives_a_checkpoint(trial: NetworkTrial) -> None:
    """Written as a run writes it, and read into a network made under another seed."""
    network = trial.seeded(1).train()
    with torch.no_grad():
        trial.output(network, trial.sides)
    weights = network.state_dict()
    strangers = [name for name, value in weights.items() if not isinstance(value, Tensor)]
    if strangers:
        raise Broken(f"state_dict holds {listed(strangers)}, which is no tensor; safetensors keeps tensors only")
    with tempfile.TemporaryDirectory() as folder:
        saved = checkpoint.save(Path(folder), 1, {"network": weights}, {}, config_hash="", keep=1)
        restored = checkpoint.read(saved).networks()["network"]
    other = trial.seeded(2).train()
    other.load_state_dict(restored)
    given = trial.arguments(trial.sides)
    with torch.no_grad():
        pairs = zip(trial.tensors(network.eval()(*given)), trial.tensors(other.eval()(*given)), strict=True)
        if any(not torch.equal(one, two) for one, two in pairs):
            raise Broken(
                "it computes something else after its state went through a checkpoint; register all it keeps "
                "as parameters or buffers"
            )


def can_be_copied(trial: NetworkTrial) -> None:
    """Averaging methods follow a deep copy."""
    network, given = trial.seeded().eval(), trial.arguments(trial.sides)
    copied = copy.deepcopy(network)
    with torch.no_grad():
        before = trial.tensors(network(*given))
        for parameter in copied.parameters():
            parameter.add_(1.0)
        after, changed = trial.tensors(network(*given)), trial.tensors(copied(*given))
    if any(not torch.equal(one, other) for one, other in zip(before, after, strict=True)):
        raise Broken("changing a deep copy changes it; keep no tensors outside parameters and buffers")
    if all(torch.equal(one, other) for one, other in zip(before, changed, strict=True)):
        raise Broken(
            "a deep copy computes with the weights it was copied from; keep no functions of `self` as attributes"
        )


def leaves_its_input_alone(trial: NetworkTrial) -> None:
    """No operation in place on what it is given."""
    network, given = trial.seeded().train(), trial.arguments(trial.sides)
    before = [one.clone() for one in _leaves(given)]
    with torch.no_grad():
        network(*given)
    if any(not torch.equal(one, other) for one, other in zip(before, _leaves(given), strict=True)):
        raise Broken(
            "it changes its input in place, which others still read; leave out `inplace=True` on the first layer"
        )


def is_finite_on_extremes(trial: NetworkTrial) -> None:
    """Empty patches, full ones, steps and lonely voxels, with their gradients."""
    for fill in PATTERNS:
        network = trial.seeded().train()
        found = trial.output(network, trial.sides, fill=fill)
        if not all(bool(torch.isfinite(one).all()) for one in found):
            raise Broken(f"its output is not finite on {PATTERNS[fill]}")
        total(found).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        gradients = {name: one.grad for name, one in network.named_parameters() if one.grad is not None}
        broken = [name for name, gradient in gradients.items() if not bool(torch.isfinite(gradient).all())]
        if broken:
            raise Broken(
                f"the gradient of {listed(broken)} is not finite on {PATTERNS[fill]}; mind roots and ratios at 0"
            )


def trains_on_two_ranks(trial: NetworkTrial) -> None:
    """Two steps under torch's DDP, with equal gradients in the end."""
    first, second = on_two_ranks(trial, _ddp_steps)
    unlike = [name for name in first if abs(first[name] - second[name]) > _TOLERANCE * max(1.0, abs(first[name]))]
    if unlike:
        raise Broken(f"after two steps on two ranks the gradient of {listed(unlike)} differs between them")


def _ddp_steps(trial: NetworkTrial, rank: int) -> dict[str, float]:
    network = trial.seeded().train()
    wrapped: nn.Module = DistributedDataParallel(network, find_unused_parameters=bool(trial.unused))
    for step in range(2):
        torch.manual_seed(10 * step + rank)
        network.zero_grad(set_to_none=True)
        trial.ddp_loss(wrapped).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return {
        name: float(parameter.grad.double().square().sum())
        for name, parameter in network.named_parameters()
        if parameter.grad is not None
    }


NETWORK_RULES: tuple[Rule[NetworkTrial], ...] = (
    Rule("works with a batch of one", takes_a_batch_of_one),
    Rule("a gradient reaches every trainable parameter", reaches_every_parameter),
    Rule("is finite on constant and extreme input", is_finite_on_extremes),
    Rule("works under bfloat16 autocast", works_in_bfloat16),
    Rule("is made alike under one seed", made_alike_under_a_seed),
    Rule("computes alike under one seed", computes_alike_under_a_seed),
    Rule("leaves global random states alone", leaves_random_states_alone),
    Rule("leaves its input as it was", leaves_its_input_alone),
    Rule("survives a checkpoint", survives_a_checkpoint),
    Rule("can be copied", can_be_copied),
    Rule("trains on two ranks", trains_on_two_ranks),
)


def _same(one: Any, other: Any) -> bool:
    return torch.equal(one, other) if isinstance(one, Tensor) and isinstance(other, Tensor) else bool(one == other)


def _leaves(given: Any) -> list[Tensor]:
    if isinstance(given, Tensor):
        return [given]
    return [leaf for part in given for leaf in _leaves(part)]
