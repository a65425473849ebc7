"""Memory, layout and compilation of the training step: what they change, and that they change nothing else."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from medtrans import (
    ConfigError,
    MDAUNet,
    MultiResUNet,
    PairedMethod,
    PatchGAN,
    SetupError,
    UNet,
    load,
    run,
)
from medtrans.builtin.losses.voxel import L1
from medtrans.plugins.optimizers import Adam
from medtrans.training.activation_checkpointing import recompute_blocks
from medtrans.training.build import check_compiler
from medtrans.types import Batch, as_pyramid
from tests.helpers.toys import toy_method

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "mdaunet": lambda: MDAUNet(1, 1, preset="tiny", width=4, growth=(2, 2), n_rdb=2),
    "unet": lambda: UNet(1, 1, width=4, levels=2),
    "unet with batch norm": lambda: UNet(1, 1, width=4, levels=2, norm="batch"),
    "multires_unet": lambda: MultiResUNet(1, 1, width=2, levels=2),
    "patchgan": lambda: PatchGAN(1, 1, width=4, layers=1, norm="batch"),
}


def images(network: nn.Module, source: Tensor) -> tuple[Tensor, ...]:
    if isinstance(network, MultiResUNet | PatchGAN):
        return tuple(network((source,), (source,)).logits)
    return as_pyramid(network(source))


def twins(kind: str) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    plain = NETWORKS[kind]().double()
    lean = copy.deepcopy(plain)
    recompute_blocks(lean)
    return plain, lean


def source(seed: int = 0, side: int = 16) -> Tensor:
    return torch.rand((1, 1, side, side, side), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def kept_bytes(network: nn.Module, image: Tensor) -> int:
    """What is saved for the backward pass, each storage once, without parameters."""
    own = {one.untyped_storage().data_ptr() for one in (*network.parameters(), *network.buffers())}
    found: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = images(network, image)
    assert all(one.requires_grad for one in output)
    return sum(found.values())


def assert_alike(plain: nn.Module, lean: nn.Module, **tolerance: float) -> None:
    """Their gradients."""
    for left, right in zip(plain.parameters(), lean.parameters(), strict=True):
        torch.testing.assert_close(left.grad, right.grad, **tolerance)


@pytest.mark.parametrize("kind", NETWORKS)
def test_low_memory_gives_the_same_gradients_buffers_and_names(kind: str) -> None:
    plain, lean = twins(kind)
    lean = copy.deepcopy(lean)  # a copy computes its own blocks again
    assert list(lean.state_dict()) == list(plain.state_dict())
    for network in (plain, lean):
        # Two forwards before the backward pass, as in a cycle: each moves the buffers of spectral and batch norm.
        terms = [one.square().mean() for seed in (0, 1) for one in images(network, source(seed))]
        torch.stack(terms).sum().backward()
    assert_alike(plain, lean, rtol=1e-12, atol=1e-15)
    for name, tensor in plain.state_dict().items():
        assert torch.equal(tensor, lean.state_dict()[name]), name


@pytest.mark.parametrize("kind", ["mdaunet", "unet"])
def test_low_memory_keeps_at_most_half(kind: str) -> None:
    plain, lean = (kept_bytes(network, source()) for network in twins(kind))
    assert 0 < lean <= plain / 2


def test_low_memory_works_in_mixed_precision_and_among_ranks() -> None:
    plain, lean = (network.float() for network in twins("mdaunet"))
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        for network in (plain, DistributedDataParallel(lean)):
            with torch.autocast("cpu", torch.bfloat16):
                output = torch.stack([one.float().square().mean() for one in network(source().float())])
            output.sum().backward()
    finally:
        dist.destroy_process_group()
    assert_alike(plain, lean, rtol=0, atol=0)


@pytest.mark.slow
def test_a_run_goes_on_with_another_memory_setting_bit_for_bit(tiny: dict[str, Any], tmp_path: Path) -> None:
    tiny["train"]["steps"] = 2
    alone = run({**tiny, "output_dir": str(tmp_path / "alone")}, ["train.steps=4"])
    run(tiny, ["train.memory=low"])
    both = run(tiny, ["train.steps=4", "train.memory=normal"], resume=True)
    found, wanted = (load_file(one.checkpoints / "step_00000004" / "generator.safetensors") for one in (both, alone))
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert type(load(both.path).method.networks()["generator"]) is MDAUNet


def test_low_memory_cannot_be_compiled(tiny: dict[str, Any]) -> None:
    tiny["train"] |= {"memory": "low", "compile": "default"}
    with pytest.raises(ConfigError, match="set compile: null or memory: normal"):
        run(tiny)


def test_a_machine_that_cannot_compile_is_told_how_to_turn_it_off(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_arguments: object, **_options: object) -> Callable[[Tensor], Tensor]:
        raise RuntimeError("no working compiler\nmore")

    monkeypatch.setattr(torch, "compile", missing)
    with pytest.raises(SetupError, match=r"no working compiler.*g\+\+.*train\.compile=null"):
        check_compiler(torch.device("cpu"))


def method(mode: str | None) -> PairedMethod:
    torch.manual_seed(0)
    return toy_method(
        lambda *_: UNet(1, 1, width=2, levels=1),  # soon compiled
        {"l1": (L1(1), 1.0)},
        optimizer=Adam(lr=1e-3).make,
        compiled=None if mode is None else lambda network: torch.compile(network, mode=mode),
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # inductor imports what torch itself deprecates
def test_a_compiled_generator_has_the_same_names_and_nearly_the_same_weights() -> None:
    check_compiler(torch.device("cpu"))
    plain, quick = method(None), method("default")
    for step in range(2):
        image = torch.rand((1, 1, 8, 8, 8), generator=torch.Generator().manual_seed(step))
        for each in (plain, quick):
            each.training_step(Batch(image, 1 - image, None, (0,)), step)
    found, wanted = quick.networks()["generator"].state_dict(), plain.networks()["generator"].state_dict()
    assert list(found) == list(wanted)
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-3, atol=1e-4)
    # Translation goes by the network itself, in any size, and compiles nothing.
    assert quick.translate(torch.rand(1, 1, 4, 6, 10)).shape == (1, 1, 4, 6, 10)
