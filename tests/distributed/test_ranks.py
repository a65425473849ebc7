"""Several ranks: what they share, and that they see and learn what one rank with the whole batch sees and learns."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from medtrans import SetupError
from medtrans.config.loading import load_config
from medtrans.config.schema import TrainSettings
from medtrans.distributed.devices import distributed_session
from medtrans.distributed.launch import Place, environment_of_rank, place
from medtrans.distributed.ranks import Ranks
from medtrans.training.build import make_method
from medtrans.types import Batch
from tests.helpers.processes import config_of, start

STEPS = 20


def test_a_process_alone_shares_with_nobody() -> None:
    ranks = Ranks()
    assert ranks.leads
    assert ranks.mine("abc") == ranks.gather(["a", "b", "c"]) == ["a", "b", "c"]
    assert ranks.first(lambda: 3) == 3
    assert ranks.any(flag=True)
    ranks.wait()
    assert place() == Place()


def exchange(out: str) -> None:
    """Every way in which ranks deal with each other."""
    with distributed_session(TrainSettings(rank_timeout_s=60.0)) as (fabric, ranks):
        items = list("abcde")
        assert ranks.gather([item.upper() for item in ranks.mine(items)]) == list("ABCDE")
        assert ranks.first(lambda: f"from {ranks.rank}") == "from 0"
        assert ranks.any(flag=ranks.rank == 1)
        assert not ranks.any(flag=False)
        network = nn.BatchNorm3d(1)
        assert network.running_mean is not None
        network.running_mean += ranks.rank + 1
        ranks.share_buffers({"network": network})
        assert float(network.running_mean) == 1.0
        for _ in range(3):
            ranks.wait()
        assert fabric.world_size == ranks.count == 2
        Path(out, f"rank{ranks.rank}").touch()
        idle = fabric.setup(Idle())
        for _ in range(2):
            fabric.backward(idle(torch.ones(1, 1, 2, 2, 2)).sum())


def test_two_ranks_share_out_gather_agree_and_wait_and_a_weight_that_no_loss_reaches_is_told(tmp_path: Path) -> None:
    processes = start(tmp_path, exchange, str(tmp_path), ranks=2)
    assert processes.ended() == [4, 4], processes.said
    assert {"rank0", "rank1"} <= {path.name for path in tmp_path.iterdir()}
    assert "weights that no loss reaches" in processes.said


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"LOCAL_RANK": "1", "RANK": "5", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}, Place(5, 8, 4, 2)),
        (environment_of_rank(1, 2, 29500), Place(1, 2, 2, 1)),
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "3", "SLURM_NTASKS_PER_NODE": "2"}, Place(3, 4, 2, 2)),
        ({"SLURM_NTASKS": "4", "SLURM_JOB_NAME": "interactive"}, Place()),
        ({"LOCAL_RANK": "0", "RANK": "0", "WORLD_SIZE": "3", "LOCAL_WORLD_SIZE": "2"}, None),
        ({"LOCAL_RANK": "0", "RANK": "9", "WORLD_SIZE": "2"}, None),
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, None),
        ({"LOCAL_RANK": "0", "RANK": "first", "WORLD_SIZE": "2"}, None),
    ],
)
def test_the_launchers_variables_say_where_a_process_stands_or_are_refused(monkeypatch, variables, expected):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with nullcontext() if expected else pytest.raises(SetupError, match="which rank"):
        assert place() == expected


@pytest.mark.parametrize(
    ("gpus", "settings", "found"),
    [(0, TrainSettings(devices=3), r"train\.devices: 3 .* 2"), (1, TrainSettings(), "2 ranks .* 1")],
    ids=["another number of devices", "fewer GPUs"],
)
def test_what_does_not_fit_the_ranks_that_a_launcher_started_is_refused(monkeypatch, gpus, settings, found):
    for name, value in environment_of_rank(0, 2, 29500).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    with pytest.raises(SetupError, match=found), distributed_session(settings):
        pass


def whole_batch_of(step: int) -> Batch:
    """Four patches; half of the voxels are masked, and how many differs from patch to patch."""
    draw = torch.Generator().manual_seed(step)
    source = torch.rand((4, 1, 8, 8, 8), generator=draw, dtype=torch.float64)
    share = torch.rand((4, 1, 1, 1, 1), generator=draw, dtype=torch.float64)
    mask = (torch.rand((4, 1, 8, 8, 8), generator=draw, dtype=torch.float64) < share).to(torch.float64)
    return Batch(source, 1 - source, mask, (0, 1, 2, 3))


LOSSES = {
    "l1": {"options": {"masked": True}},
    "perceptual_25d": {"weight": 0.1, "options": {"weights": "random", "taps": ["relu1_2"], "slices_per_view": 2}},
    "relativistic": {"weight": 0.1},
}


def learn(out: str) -> None:
    """Twenty steps of everything that looks at a whole batch, on this rank's part of it."""
    torch.set_default_dtype(torch.float64)
    config = config_of(Path(out), precision="64-true", schedule={"name": "constant"})
    experiment = load_config([config, {"losses": LOSSES}])
    with distributed_session(experiment.config.train) as (fabric, ranks):
        torch.manual_seed(0)
        method = make_method(experiment, training_cases=4, ranks=ranks.count)
        assert not any(isinstance(part, nn.BatchNorm3d) for one in method.networks().values() for part in one.modules())
        method.setup(fabric)
        size = 4 // ranks.count
        for step in range(STEPS):
            whole, part = whole_batch_of(step), slice(ranks.rank * size, (ranks.rank + 1) * size)
            mine = Batch(whole.source[part], whole.target[part], whole.mask[part], whole.cases[part])
            method.training_step(mine, step)
        weights = {
            f"{name}.{key}": one for name, net in method.networks().items() for key, one in net.state_dict().items()
        }
        pool = enumerate(method.pool.kept)
        weights |= {f"pool.{place}.{level}": one for place, kept in pool for level, one in enumerate(kept)}
        save_file({key: one.contiguous().clone() for key, one in weights.items()}, f"{out}.rank{ranks.rank}")


def test_two_ranks_learn_what_one_with_the_doubled_batch_learns(tmp_path: Path) -> None:
    for ranks in (1, 2):
        processes = start(tmp_path / str(ranks), learn, str(tmp_path / f"of{ranks}"), ranks=ranks)
        assert processes.ended() == [0] * ranks, processes.said
    one = load_file(tmp_path / "of1.rank0")
    for rank in (0, 1):
        other: dict[str, Any] = load_file(tmp_path / f"of2.rank{rank}")
        assert one.keys() == other.keys()
        furthest = max(float((one[key] - other[key]).abs().max()) for key in one)
        assert furthest < 1e-9
    assert any(key.startswith("pool.2") for key in one)


class Idle(nn.Module):
    """A network with a weight that takes part in nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.idle = nn.Conv3d(1, 1, 1), nn.Conv3d(1, 1, 1)

    def forward(self, source: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self.used(source))
