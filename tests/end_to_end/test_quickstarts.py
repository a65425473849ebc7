"""The small configs that ship beside the quickstart: they learn, stop and go on, and translate volumes of any size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import medtrans
from medtrans.runs import checkpoint
from medtrans.volume import Volume

NAMES = ["quickstart_pix2pix", "quickstart_cycle"]


def weights(folder: medtrans.RunFolder) -> dict[str, torch.Tensor]:
    networks = checkpoint.newest(folder.checkpoints).networks()
    return {f"{network}.{name}": tensor for network, tensors in networks.items() for name, tensor in tensors.items()}


BEATEN = {"quickstart_pix2pix": ("psnr", "ssim", "mae", "nmse"), "quickstart_cycle": ("ssim",)}
"""The scores by which a config beats all trivial baselines; what its steps do not suffice for is not among them."""


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", NAMES)
def test_it_beats_the_better_trivial_baseline(name: str, tmp_path: Path) -> None:
    folder = medtrans.run(name, [f"output_dir={tmp_path / 'run'}"])
    summary = folder.read_json(folder.summary)
    assert len(summary["baselines"]) == 3
    for score in BEATEN[name]:
        sign = 1 if summary["metrics"][score]["higher_is_better"] else -1
        trivial = max(sign * scores[score]["mean"] for scores in summary["baselines"].values())
        assert sign * summary["metrics"][score]["mean"] > trivial, score


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_it_resumes_bit_for_bit_and_translates_a_volume_of_odd_size(name: str, tmp_path: Path) -> None:
    # At a constant rate, since a cosine over fewer steps is another schedule.
    shorter = ["dataset.options.size=[24,24,24]", "train.schedule.name=constant", "train.checkpoint_every=2",
               "train.validate_every=2"]  # fmt: skip
    whole = medtrans.run(name, [*shorter, "train.steps=4", f"output_dir={tmp_path / 'whole'}"])
    cut = [*shorter, f"output_dir={tmp_path / 'cut'}"]
    medtrans.run(name, [*cut, "train.steps=2"])
    resumed = medtrans.run(name, [*cut, "train.steps=4"], resume=True)
    assert all(torch.equal(tensor, weights(whole)[key]) for key, tensor in weights(resumed).items())
    assert resumed.metrics.read_text() == whole.metrics.read_text()

    affine = np.array([[-1.1, 0, 0.2, 3], [0, 0.9, 0, -5], [0.1, 0, 1.4, 7], [0, 0, 0, 1]])
    odd = Volume(np.random.default_rng(0).uniform(0, 900, (27, 31, 29)).astype(np.float32), affine)
    translated = medtrans.load(resumed.path).translate(odd)
    assert translated.shape == (27, 31, 29)
    np.testing.assert_allclose(translated.affine, affine, atol=1e-5)
    assert np.isfinite(translated.data).all()
