"""The contract of methods, rule by rule, and the small networks and losses they are tried with."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import SGD

from medtrans.errors import MedtransError
from medtrans.plugins.interfaces import Method, Parts, WeightedLoss
from medtrans.plugins.options import build
from medtrans.runs import checkpoint
from medtrans.testing.rules import Broken, Rule, Verdict, changed_states, leaving_states, states
from medtrans.testing.trial import SHARED_RULES, ComponentLike, Sides, Trial, check, component_of, pattern
from medtrans.testing.two_ranks import on_two_ranks
from medtrans.types import Batch, DiscriminatorOutput, Loss, LossInputs, Pyramid, batch_mean

__all__ = ["METHOD_RULES", "MethodTrial", "check_method"]

_NAME = re.compile(r"[a-z][a-z0-9_]*")


class SmallGenerator(nn.Module):
    """Two convolutions that keep the sides."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv3d(in_channels, 4, kernel_size=3, padding=1), nn.Tanh(), nn.Conv3d(4, out_channels, kernel_size=1)
        )

    def forward(self, source: Tensor) -> Tensor:
        image: Tensor = self.body(source)
        return image


class SmallDiscriminator(nn.Module):
    """Two convolutions that judge each voxel of a candidate beside its source."""

    def __init__(self, source_channels: int, target_channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv3d(source_channels + target_channels, 4, kernel_size=3, padding=1), nn.LeakyReLU(0.2)
        )
        self.head = nn.Conv3d(4, 1, kernel_size=1)

    def forward(self, candidate: Pyramid, source: Pyramid) -> DiscriminatorOutput:
        features = self.body(torch.cat((candidate[0], source[0]), dim=1))
        return DiscriminatorOutput((self.head(features),), ((features,),))


class VoxelDifference(Loss):
    """The mean absolute difference at level 0."""

    def forward(self, inputs: LossInputs) -> Tensor:
        """The generator's term."""
        return batch_mean((inputs.prediction[0] - inputs.target[0].detach()).abs())


class LeastSquares(Loss):
    """Least squares to 1 for real and 0 for generated."""

    adversarial: ClassVar[bool] = True

    def forward(self, inputs: LossInputs) -> Tensor:
        """The generator's term; 0 without a discriminator."""
        if inputs.fake is None:
            return inputs.prediction[0].new_zeros(())
        return batch_mean((inputs.fake.logits[0] - 1).square())

    def discriminator_loss(self, inputs: LossInputs) -> Tensor | None:
        """The discriminator's term."""
        if inputs.real is None or inputs.fake is None:
            return None
        return batch_mean((inputs.real.logits[0] - 1).square()) + batch_mean(inputs.fake.logits[0].square())


@dataclass(frozen=True)
class MethodTrial(Trial):
    """A method under trial, with what `check_method` sets and with networks and losses that are small."""

    kind: ClassVar[str] = "method"

    patch_size: Sides = (8, 8, 8)
    channels: Sequence[tuple[int, int]] = ((1, 1), (2, 1))
    losses: Mapping[str, ComponentLike] = field(
        default_factory=lambda: {"l1": VoxelDifference, "adversarial": LeastSquares}
    )
    discriminator: bool = True

    def method(
        self,
        *,
        seed: int = 0,
        channels: tuple[int, int] | None = None,
        rate: float = 1.0,
        accumulate: int = 1,
        adversary: bool = True,
    ) -> Method:
        """The method with fresh networks, made under a seed."""
        torch.manual_seed(seed)
        source, target = channels or self.channels[0]
        adversary = adversary and self.discriminator
        parts = Parts(
            make_generator=SmallGenerator,
            make_discriminator=SmallDiscriminator if adversary else None,
            losses=self._losses(adversary=adversary),
            make_optimizer=lambda params, role: SGD(params, lr=0.05, momentum=0.5),
            learning_rate_factor=lambda step, role: rate,
            source_channels=source,
            target_channels=target,
            epoch_steps=4,
            accumulate=accumulate,
        )
        made = self.make(parts=parts)
        if not isinstance(made, Method):
            raise Broken(f"it makes {type(made).__name__}, expected a subclass of medtrans.Method")
        return made

    def batch(
        self, seed: int = 0, size: int = 2, channels: tuple[int, int] | None = None, *, masked: bool = True
    ) -> Batch:
        """Noise, as a batch of training."""
        source, target = channels or self.channels[0]
        return Batch(
            source=pattern("noise", size, source, self.patch_size, seed=2 * seed),
            target=pattern("noise", size, target, self.patch_size, seed=2 * seed + 1),
            mask=torch.ones(size, 1, *self.patch_size) if masked else None,
            cases=tuple(range(size)),
        )

    def _losses(self, *, adversary: bool) -> dict[str, WeightedLoss]:
        found = {}
        for name, one in self.losses.items():
            loss: nn.Module = build(component_of("loss", one), "loss", {}, {"levels": 1})
            if adversary or not getattr(loss, "adversarial", False):
                found[name] = WeightedLoss(loss, 1.0)
        return found


def ready(method: Method, precision: Any = "32-true") -> Method:
    """The method handed to Fabric on one CPU."""
    from lightning_fabric import Fabric  # slow to import, and no other kind needs it

    method.setup(Fabric(accelerator="cpu", devices=1, precision=precision))
    return method


def steps(trial: MethodTrial, method: Method, numbers: Sequence[int], **settings: Any) -> dict[str, Tensor]:
    """Train on these steps, seeded as the loop does; the last step's values."""
    values: dict[str, Tensor] = {}
    for step in numbers:
        torch.manual_seed(1000 + step)
        values = method.training_step(trial.batch(step, **settings), step)
    return values


def weights_of(method: Method) -> dict[str, Tensor]:
    """Every tensor of every network by its full name, copied."""
    return {
        f"{name}.{key}": tensor.detach().clone()
        for name, network in method.networks().items()
        for key, tensor in network.state_dict().items()
    }


@contextmanager
def launched(rank: int) -> Iterator[None]:
    """Let Fabric see that its processes have been launched, as a cluster does."""
    before = dict(os.environ)
    os.environ.update({"LOCAL_RANK": str(rank), "NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"})
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def says_what_pairs_it_wants(trial: MethodTrial) -> None:
    """Paired or unpaired."""
    if (pairing := trial.method().pairing) not in ("paired", "unpaired"):
        raise Broken(f"pairing: found {pairing!r}, expected paired or unpaired")


def names_its_networks(trial: MethodTrial) -> None:
    """Each becomes a file of that name."""
    method = ready(trial.method())
    networks = method.networks()
    if not isinstance(networks, dict) or not networks:
        raise Broken("networks() must give a dict with at least one network")
    for name, network in networks.items():
        if not _NAME.fullmatch(name):
            raise Broken(f"network {name!r}: expected small letters, digits and _, since it names a file")
        if not isinstance(network, nn.Module):
            raise Broken(f"network {name!r} is {type(network).__name__}, expected a torch.nn.Module")
    if any(one is not networks[name] for name, one in method.networks().items()):
        raise Broken("networks() gives other modules the second time")
    wrapped = [key for key in weights_of(method) if "_forward_module" in key or ".module." in key]
    if wrapped:
        raise Broken(
            f"{wrapped[0]}: networks() gives a wrapper; give the bare network, whose names do not depend on "
            "how a run was launched"
        )


def tells_finite_scalars(trial: MethodTrial) -> None:
    """What a step returns can be logged without a graph."""
    values = steps(trial, ready(trial.method()), [0])
    if not isinstance(values, dict) or not values:
        raise Broken("training_step must give a dict with at least one scalar")
    for name, value in values.items():
        if not isinstance(value, Tensor) or value.numel() != 1:
            raise Broken(f"{name}: found {type(value).__name__}, expected a tensor with one number")
        if value.requires_grad:
            raise Broken(f"{name} carries its graph; detach it")
        if not bool(torch.isfinite(value).all()):
            raise Broken(f"{name} is {float(value)} on noise")


def trains_its_networks(trial: MethodTrial) -> None:
    """Each network moves within a few steps, with masks and without."""
    for masked in (True, False):
        method = ready(trial.method())
        before = weights_of(method)
        steps(trial, method, range(3), masked=masked)
        after = weights_of(method)
        for name in method.networks():
            own = [key for key in before if key.startswith(f"{name}.")]
            if own and all(torch.equal(before[key], after[key]) for key in own):
                raise Broken(f"three steps do not change the network '{name}'")


def follows_the_schedule(trial: MethodTrial) -> None:
    """A rate of 0 trains nothing."""
    method = ready(trial.method(rate=0.0))
    trained = [f"{name}.{key}" for name, network in method.networks().items() for key, _ in network.named_parameters()]
    before = weights_of(method)
    steps(trial, method, range(2))
    after = weights_of(method)
    moved = [name for name in trained if not torch.allclose(after[name], before[name])]
    if moved:
        raise Broken(
            f"{moved[0]} moves although `parts.learning_rate_factor` is 0; multiply each rate by it at each step"
        )


def translates(trial: MethodTrial) -> None:
    """Level 0 in [0, 1], for any channels, and training goes on undisturbed."""
    for channels in trial.channels:
        method = ready(trial.method(channels=channels))
        steps(trial, method, range(2), channels=channels)
        modes = [module.training for network in method.networks().values() for module in network.modules()]
        source = pattern("noise", 2, channels[0], trial.patch_size, seed=9)
        before = states()
        image = method.conclude(method.translate(source))
        wanted = (2, channels[1], *trial.patch_size)
        if tuple(image.shape) != wanted or image.dtype != torch.float32:
            raise Broken(
                f"translate gives {image.dtype} of shape {tuple(image.shape)}, expected torch.float32 {wanted}"
            )
        if image.requires_grad:
            raise Broken("translate keeps a graph; use torch.no_grad()")
        if float(image.min()) < 0 or float(image.max()) > 1:
            raise Broken(
                f"translate gives {float(image.min()):g} to {float(image.max()):g}, expected [0, 1]; clip there"
            )
        if modes != [module.training for network in method.networks().values() for module in network.modules()]:
            raise Broken("translate leaves networks in another mode than it found them in")
        if changed_states(before) or not torch.equal(image, method.conclude(method.translate(source))):
            raise Broken("translate draws at random; put the network into evaluation mode")


def resumes_exactly(trial: MethodTrial) -> None:
    """Two steps, a checkpoint, and two more are four steps."""
    whole = ready(trial.method())
    steps(trial, whole, range(2))
    networks = {name: network.state_dict() for name, network in whole.networks().items()}
    with tempfile.TemporaryDirectory() as folder:
        saved = checkpoint.save(Path(folder), 2, networks, {"method": whole.state_dict()}, config_hash="", keep=1)
        found = checkpoint.read(saved)
        weights, state = found.networks(), found.state()["method"]
    steps(trial, whole, range(2, 4))
    resumed = ready(trial.method(seed=1))
    for name, network in resumed.networks().items():
        network.load_state_dict(weights[name])
    resumed.load_state_dict(state)
    steps(trial, resumed, range(2, 4))
    expected = weights_of(whole)
    off = [name for name, tensor in weights_of(resumed).items() if not torch.equal(tensor, expected[name])]
    if off:
        raise Broken(
            f"a resumed run differs in {off[0]}; let state_dict hold optimisers, counts and whatever else lasts"
        )


def trains_alike_under_a_seed(trial: MethodTrial) -> None:
    """The same seed, the same weights, and nobody else's random state."""
    found = []
    for _ in range(2):
        with leaving_states("training", but=("torch",)):
            method = ready(trial.method())
            steps(trial, method, range(2))
        found.append(weights_of(method))
    off = [name for name, tensor in found[0].items() if not torch.equal(tensor, found[1][name])]
    if off:
        raise Broken(
            f"two runs under one seed differ in {off[0]}; draw from torch's generator, or key draws by the step"
        )


def leaves_its_batch_alone(trial: MethodTrial) -> None:
    """A batch is not changed in place."""
    method, batch = ready(trial.method()), trial.batch()
    kept = batch.source.clone(), batch.target.clone()
    torch.manual_seed(0)
    method.training_step(batch, 0)
    if not (torch.equal(kept[0], batch.source) and torch.equal(kept[1], batch.target)):
        raise Broken("a training step changes its batch in place")


def accumulates(trial: MethodTrial) -> None:
    """`train.accumulate` batches to an update."""
    method = ready(trial.method(accumulate=2))
    before = weights_of(method)
    values = steps(trial, method, [0], size=4)
    if not all(bool(torch.isfinite(value).all()) for value in values.values()):
        raise Broken("with `parts.accumulate` of 2 a value is not finite")
    if all(torch.equal(before[name], tensor) for name, tensor in weights_of(method).items()):
        raise Broken("with `parts.accumulate` of 2 a step trains nothing")


def works_without_a_discriminator(trial: MethodTrial) -> None:
    """Or says that it needs one."""
    try:
        method = ready(trial.method(adversary=False))
        steps(trial, method, [0])
    except MedtransError:
        return
    except (TypeError, AttributeError, KeyError, RuntimeError) as error:
        raise Broken(
            f"without a discriminator it raises {type(error).__name__}: {error}; raise medtrans.ConfigError "
            "if it needs one"
        ) from error


def works_in_bfloat16(trial: MethodTrial) -> None:
    """`train.precision: bf16-mixed`."""
    method = ready(trial.method(), "bf16-mixed")
    values = steps(trial, method, range(2))
    if not all(bool(torch.isfinite(value).all()) for value in values.values()):
        raise Broken("in bf16-mixed a value is not finite")
    if method.translate(trial.batch().source).dtype != torch.float32:
        raise Broken("in bf16-mixed translate gives no float32")


def stays_alike_on_two_ranks(trial: MethodTrial) -> None:
    """Each rank trains on its own patches, and both have the same weights."""
    first, second = on_two_ranks(trial, _trained_on_rank)
    off = [name for name, tensor in first.items() if not torch.allclose(tensor, second[name], atol=1e-5)]
    if off:
        raise Broken(
            f"after two steps on two ranks {off[0]} differs between them; hand every trained network to Fabric"
        )
    alone = ready(trial.method())
    if all(torch.equal(tensor, first[name]) for name, tensor in weights_of(alone).items()):
        raise Broken("two steps on two ranks train nothing")


def _trained_on_rank(trial: MethodTrial, rank: int) -> dict[str, Tensor]:
    from lightning_fabric import Fabric

    with launched(rank):
        fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp")
        fabric.launch()
        method = trial.method()
        method.setup(fabric)
        for step in range(2):
            torch.manual_seed(100 * step + rank)
            method.training_step(trial.batch(2 * step + rank), step)
        return weights_of(method)


METHOD_RULES: tuple[Rule[MethodTrial], ...] = (
    *SHARED_RULES,
    Rule("says what pairs it wants", says_what_pairs_it_wants),
    Rule("names its networks", names_its_networks),
    Rule("tells finite scalars", tells_finite_scalars),
    Rule("trains its networks", trains_its_networks),
    Rule("follows the schedule", follows_the_schedule),
    Rule("translates", translates),
    Rule("resumes exactly", resumes_exactly),
    Rule("trains alike under one seed", trains_alike_under_a_seed),
    Rule("leaves its batch as it was", leaves_its_batch_alone),
    Rule("accumulates", accumulates),
    Rule("works without a discriminator, or says why not", works_without_a_discriminator),
    Rule("works under bfloat16 autocast", works_in_bfloat16),
    Rule("stays alike on two ranks", stays_alike_on_two_ranks),
)


def check_method(
    component: ComponentLike,
    *,
    options: Mapping[str, Any] | None = None,
    patch_size: Sides | None = None,
    channels: Sequence[tuple[int, int]] | None = None,
    losses: Mapping[str, ComponentLike] | None = None,
    discriminator: bool | None = None,
    excused: Mapping[str, str] | None = None,
) -> tuple[Verdict, ...]:
    """Try a method against its contract, with a verdict on each rule; its own `trial` gives settings left out.

    The networks are small ones of the kit.

    Args:
        component: a `Component`, the class itself, or a name as a config writes it.
        options: as a config gives them.
        patch_size: sides of the patch in voxels; 8 each if not given.
        channels: pairs of source and target channels it must work with; (1, 1) and (2, 1) if not given.
        losses: by the name a config would give them; an absolute difference and an adversarial loss if not given.
        discriminator: whether it is tried with one; it is if not given.
        excused: rules that need not hold, each with the reason.

    Raises:
        ConformanceError: lists every rule that is broken, with what to do.
        ConfigError: there is no such component, setting or rule.
    """
    given = {
        "options": options,
        "patch_size": patch_size,
        "channels": channels,
        "losses": losses,
        "discriminator": discriminator,
        "excused": excused,
    }
    return check(MethodTrial, METHOD_RULES, component, given)
