"""The least time that a training step can take op by op on given hardware; only shapes are followed.

    python -m benchmarks.roofline hcp_t1_t2 --measured-s 0.494
    python -m benchmarks.roofline my.yaml train.batch=2 --flops 989e12 --bytes 3.35e12 --precision 32-true

Every operation takes the longer of its arithmetic at the matrix peak and its reading and writing at the bandwidth of a
copy; an operation that moves nothing takes nothing. Networks read and write what torch's operations do: fused kernels
could take less. The defaults are what one NVIDIA H200 was measured to do in bfloat16.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from benchmarks.harness.step_parts import losses_of
from benchmarks.harness.subject import random_weights
from medtrans.config.experiment import Experiment
from medtrans.config.loading import load_config
from medtrans.distributed.devices import single_device_fabric
from medtrans.plugins.input_size import common_multiple, padded_sides
from medtrans.plugins.interfaces import Method
from medtrans.training.build import make_method
from medtrans.types import Batch


class Roofline(TorchDispatchMode):
    """Adds up the least time of each operation.

    Args:
        flops: operations in a second.
        bandwidth: bytes in a second.
    """

    def __init__(self, flops: float, bandwidth: float) -> None:
        super().__init__()
        self.flops, self.bandwidth = flops, bandwidth
        self.seconds: Counter[str] = Counter()
        self.operations = self.moved = 0.0
        self.calls = 0

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        found = func(*args, **kwargs)
        if moves_nothing(func):
            return found
        tensors = {id(one): one for one in tree_leaves((args, kwargs, found)) if isinstance(one, Tensor)}
        moved = float(sum(one.numel() * one.element_size() for one in tensors.values()))
        count = flop_registry.get(func._overloadpacket)
        done = float(count(*args, **kwargs, out_val=found)) if count else 0.0
        self.calls += 1
        self.operations += done
        self.moved += moved
        self.seconds[str(func._overloadpacket).removeprefix("aten.")] += max(done / self.flops, moved / self.bandwidth)
        return found


def moves_nothing(func: Any) -> bool:
    """Whether an operation only looks at a tensor differently, or makes one that nothing is written to."""
    name = func._overloadpacket.__name__
    return (
        func.namespace == "prim"
        or bool(func.is_view)
        or name in ("empty", "empty_like", "empty_strided", "detach", "alias")
    )


def main() -> None:
    """Follow a step and print."""
    parser = argparse.ArgumentParser(description="The least time of a training step, op by op.")
    parser.add_argument("sources", nargs="+", help="config files or names, then key=value overrides")
    parser.add_argument("--flops", type=float, default=800e12, help="operations in a second; default: H200, bfloat16")
    parser.add_argument("--bytes", type=float, default=4.25e12, help="bytes in a second; default: H200")
    parser.add_argument("--precision", choices=["bf16-mixed", "32-true"], default="bf16-mixed")
    parser.add_argument("--measured-s", type=float, help="what a step was measured to take")
    given = parser.parse_args()
    configs = [one for one in given.sources if "=" not in one]
    overrides = [one for one in given.sources if "=" in one]
    random = random_weights(load_config(configs, overrides))
    experiment = load_config(configs, [*overrides, f"train.precision={given.precision}", *random])
    roofline = Roofline(given.flops, given.bytes)
    follow(experiment, roofline)
    total = sum(roofline.seconds.values())
    print(
        f"{roofline.operations / 1e12:.2f} TFLOP and {roofline.moved / 1e9:.1f} GB in {roofline.calls} operations; at "
        f"the peak of arithmetic alone {roofline.operations / given.flops * 1e3:.1f} ms, op by op {total * 1e3:.1f} ms"
    )
    for name, seconds in roofline.seconds.most_common(12):
        print(f"  {name}: {seconds * 1e3:.2f} ms")
    if given.measured_s:
        print(f"measured {given.measured_s:.3f} s: {given.measured_s / total:.1f} times the roofline (goal 2)")


def follow(experiment: Experiment, roofline: Roofline) -> None:
    """Take a step on shapes alone."""
    config = experiment.config
    method = make_method(experiment, training_cases=1)
    method.setup(single_device_fabric(config.train))
    leave_optimisers_out(method)
    shapes = FakeTensorMode()
    for module in {*method.networks().values(), *losses_of(method).values()}:
        hollow_out(module, shapes)
    with shapes:
        sides = padded_sides(config.patch.size, common_multiple(method.networks().values()))
        count = config.train.batch * config.train.accumulate
        source, target = (torch.rand(count, len(names), *sides) for names in (config.source, config.target))
        batch = Batch(source, target, None, (0,) * count)
        with roofline:
            method.training_step(batch, 0)
    for network in method.networks().values():
        add_adam(network, roofline)


def hollow_out(network: nn.Module, shapes: FakeTensorMode) -> None:
    """Take the numbers out of weights and buffers; their shapes stay."""
    for module in network.modules():
        for name, weight in module._parameters.items():
            if weight is not None:
                hollow = shapes.from_tensor(weight.detach())
                module._parameters[name] = nn.Parameter(hollow, requires_grad=weight.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = shapes.from_tensor(buffer)


def leave_optimisers_out(method: Method) -> None:
    """Adam asks for the number of its step, which shapes do not know; `add_adam` counts it."""
    for player in vars(method).values():
        if hasattr(player, "optimizer"):
            player.optimizer.step = lambda *args, **kwargs: None


def add_adam(network: nn.Module, roofline: Roofline) -> None:
    """A fused Adam: weights, gradients and both moments are read, all but the gradients written."""
    numbers = sum(prod(one.shape) for one in network.parameters() if one.requires_grad)
    roofline.moved += 4 * 7 * numbers
    roofline.seconds["adam"] += 4 * 7 * numbers / roofline.bandwidth


if __name__ == "__main__":
    main()
