"""Weights that no loss reaches are named, before several ranks wait for their gradients."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import medtrans
from medtrans import RunInfo, SetupError
from medtrans.builtin.losses.voxel import L1
from medtrans.distributed.ranks import Ranks
from medtrans.training.state import TrainingState
from medtrans.types import Batch
from tests.helpers.toys import toy_method, toy_trainer


class Spare(nn.Module):
    """A voxel-wise map beside a head that nobody asks."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.body = nn.Conv3d(channels_in, channels_out, 1)
        self.other_head = nn.Conv3d(channels_in, 2, 1)

    def forward(self, source: Tensor) -> Tensor:
        return self.body(source)


class Frozen(Spare):
    """The same, with the head frozen."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__(channels_in, channels_out)
        self.other_head.requires_grad_(requires_grad=False)


class Pair(Ranks):
    """This process, as if there were another that does the same."""

    count = 2


def train(network: type[Spare], ranks: Ranks, folder: Path) -> None:
    method = toy_method(network, {"l1": (L1(1), 1.0)}, optimizer=partial(torch.optim.SGD, lr=0.1))
    batches = [Batch(torch.rand(1, 1, 4, 4, 4), torch.rand(1, 1, 4, 4, 4), None, (0,)) for _ in range(2)]
    trainer = toy_trainer(method, folder, steps=2, best=None, ranks=ranks)
    trainer.fit(batches, TrainingState(), RunInfo(folder, {}, 0, 2))


def test_several_ranks_are_refused_weights_that_no_loss_reaches_after_the_first_step(tmp_path: Path) -> None:
    with pytest.raises(SetupError) as caught:
        train(Spare, Pair(), tmp_path)
    (fault,) = caught.value.faults
    assert "generator.other_head.weight, generator.other_head.bias (2 of 4" in fault


@pytest.mark.parametrize(("network", "ranks"), [(Spare, Ranks()), (Frozen, Pair())])
def test_one_device_trains_around_them_and_frozen_weights_are_none(
    network: type[Spare], ranks: Ranks, tmp_path: Path
) -> None:
    train(network, ranks, tmp_path)


@pytest.mark.parametrize(("devices", "exit_code"), [(1, 0), (2, SetupError.exit_code)])
def test_check_names_them_where_several_devices_are_asked_for(
    devices: int, exit_code: int, tiny: dict[str, Any], tmp_path: Path
) -> None:
    plugin = tmp_path / "spare.py"
    plugin.write_text(
        "from medtrans import Component, hookimpl\nfrom tests.training.test_unused_weights import Spare\n\n\n"
        "class Net(Spare):\n"
        "    def __init__(self, in_channels: int, out_channels: int) -> None:\n"
        "        super().__init__(in_channels, out_channels)\n\n\n"
        '@hookimpl\ndef medtrans_generators():\n    return [Component("net", Net)]\n'
    )
    tiny |= {"generator": {"name": "spare:net"}, "discriminator": None, "losses": {"l1": {}}}
    report = medtrans.check(tiny, [f"train.devices={devices}"], plugins=[plugin])
    assert report.exit_code == exit_code
    assert any("generator.other_head.weight" in fault for fault in report.faults) == (devices == 2)
