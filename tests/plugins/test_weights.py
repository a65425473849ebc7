"""Published weights are read by name and shape, without running code, whatever their authors wrapped around them."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from medtrans import SetupError, read_weights


@pytest.fixture
def network() -> nn.Module:
    with torch.device("meta"):
        return nn.Sequential(nn.Conv3d(1, 2, 3), nn.BatchNorm3d(2))


@pytest.fixture
def tensors() -> dict[str, Any]:
    return nn.Sequential(nn.Conv3d(1, 2, 3), nn.BatchNorm3d(2)).state_dict() | {"classifier.weight": torch.zeros(3)}


@pytest.mark.parametrize("wrapping", ["plain", "state_dict", "data-parallel", "safetensors"])
def test_what_the_network_needs_is_found_and_the_rest_left(wrapping, network, tensors, tmp_path):
    file = tmp_path / ("net.safetensors" if wrapping == "safetensors" else "net.pth")
    if wrapping == "safetensors":
        save_file(tensors, file)
    else:
        kept = {f"module.{name}": one for name, one in tensors.items()} if wrapping == "data-parallel" else tensors
        torch.save(kept if wrapping == "plain" else {"epoch": 3, "state_dict": kept}, file)
    found = read_weights(file, network, "ours")
    assert set(found) == set(network.state_dict())
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in found.items())


def test_every_tensor_that_is_amiss_is_named(network: nn.Module, tensors: dict[str, Any], tmp_path: Path) -> None:
    del tensors["0.weight"]
    tensors["1.bias"] = torch.zeros(5)
    tensors["1.weight"] = "no tensor"
    torch.save(tensors, tmp_path / "net.pth")
    with pytest.raises(SetupError) as caught:
        read_weights(tmp_path / "net.pth", network, "Smith's network")
    for named, fault in zip(("'0.weight'", "'1.weight'", "1.bias has shape (5,)"), caught.value.faults, strict=True):
        assert named in fault


class Harmful:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("harm"),)


def test_code_in_a_file_is_not_run_and_tensors_without_names_are_refused(network, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("net.pth").write_bytes(pickle.dumps(Harmful(), protocol=2))
    with pytest.raises(SetupError, match=r"net\.pth"):
        read_weights(Path("net.pth"), network, "ours")
    assert not Path("harm").exists()
    torch.save([torch.zeros(1)], "list.pth")
    with pytest.raises(SetupError, match="a list"):
        read_weights(Path("list.pth"), network, "ours")
