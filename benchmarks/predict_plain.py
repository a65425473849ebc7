"""The side of `predict_start.py` that is a plain script, as a user of MONAI would write it; that script starts it.

python -m benchmarks.predict_plain NETWORK WEIGHTS SOURCE OUTPUT
"""

from __future__ import annotations

import sys
from itertools import product

import nibabel
import numpy as np
import torch

try:
    from monai.inferers import sliding_window_inference
except ImportError:

    def sliding_window_inference(
        source: torch.Tensor, window: tuple[int, int, int], batch: int, network: torch.nn.Module, **_: object
    ) -> torch.Tensor:
        """Windows that overlap by half, one by one, blended by a Gaussian."""
        bells = [torch.exp(-0.5 * ((torch.arange(side) - (side - 1) / 2) / (side / 8)) ** 2) for side in window]
        weight = (bells[0][:, None, None] * bells[1][:, None] * bells[2]).clamp_min(1e-3)
        total, weights = torch.zeros_like(source), torch.zeros_like(source)
        starts = (
            [*range(0, extent - side, side // 2), extent - side]
            for extent, side in zip(source.shape[2:], window, strict=True)
        )
        for start in product(*starts):
            place = (..., *(slice(first, first + side) for first, side in zip(start, window, strict=True)))
            total[place] += network(source[place]) * weight
            weights[place] += weight
        return total / weights


def made(name: str) -> torch.nn.Module:
    """As `predict_start.py` has them trained."""
    if name == "monai:unet":
        from monai.networks.nets import UNet

        return UNet(3, 1, 1, channels=(16, 32, 64, 128), strides=(2, 2, 2), num_res_units=2)
    import medtrans

    return medtrans.UNet(1, 1)


def main() -> None:
    """Translate one volume from file to file."""
    name, weights, source, output = sys.argv[1:]
    network = made(name)
    network.load_state_dict(torch.load(weights, weights_only=True))
    network.eval()
    image = nibabel.load(source)
    scaled = torch.from_numpy(image.get_fdata(dtype=np.float32) / 1000).clamp(0, 1)[None, None]
    with torch.no_grad():
        found = sliding_window_inference(scaled, (48, 48, 48), 2, network, overlap=0.5, mode="gaussian")
    nibabel.save(nibabel.Nifti1Image(found[0, 0].clamp(0, 1).numpy() * 1000, image.affine), output)


if __name__ == "__main__":
    main()
