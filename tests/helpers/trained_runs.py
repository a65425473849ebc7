"""One finished run for all tests of a session that look at one, and change nothing in it."""

from __future__ import annotations

import pytest

import medtrans


@pytest.fixture(scope="session")
def done(tmp_path_factory: pytest.TempPathFactory) -> medtrans.RunFolder:
    """An adversarial run of four steps on five phantoms, with averaged weights and all that follows training."""
    return medtrans.run(
        {
            "output_dir": str(tmp_path_factory.mktemp("done") / "run"),
            "dataset": {"name": "phantom", "options": {"subjects": 5, "size": [24, 24, 24]}},
            "source": ["t1"],
            "target": ["t2"],
            "preprocess": {"intensity": {"t1": {"name": "percentile"}, "t2": {"name": "percentile"}}},
            "patch": {"size": [16, 16, 16]},
            "generator": {"name": "mdaunet", "options": {"preset": "fast", "width": 4, "growth": [4, 4]}},
            "discriminator": {"name": "multires_unet", "options": {"width": 2, "convs": 1}},
            "losses": {"l1": {}, "relativistic": {"weight": 1e-4}},
            "method": {"name": "paired", "options": {"ema": 0.9}},
            "train": {"steps": 4, "batch": 2, "workers": 0, "validate_every": 2, "checkpoint_every": 2},
            "inference": {"overlap": 0.25, "batch": 4},
        }
    )
